"""Preparation and augmentation of whole batches, on whatever device the images are."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from capsbench.data.randomness import Draw


def to_unit_range(images: UInt8[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
    """Bytes to float32 in [0, 1]."""
    return images.float() / 255


def standardize(images: UInt8[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
    """Give each image mean 0 and variance 1 over all its pixels and channels.

    The deviation is held above 1/√(pixels · channels), so that a flat image becomes zeros. On the scale of bytes, as in
    TensorFlow's `per_image_standardization`, which the paper uses.
    """
    floats = images.float()
    variance, mean = torch.var_mean(floats, dim=(1, 2, 3), correction=0, keepdim=True)
    floor = 1 / images[0].numel() ** 0.5
    return (floats - mean) / variance.sqrt().clamp_min(floor)


def random_crop(
    images: UInt8[Tensor, "batch channel height width"], padding: int, draw: Draw
) -> UInt8[Tensor, "batch channel height width"]:
    """Pad with `padding` black pixels on each side and cut the original size out at a random place."""
    batch, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    rows = draw.integers("crop row", 2 * padding + 1)[:, None] + torch.arange(height, device=images.device)
    columns = draw.integers("crop column", 2 * padding + 1)[:, None] + torch.arange(width, device=images.device)
    example = torch.arange(batch, device=images.device)
    cropped = padded.permute(0, 2, 3, 1)[example[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)


def random_flip(
    images: UInt8[Tensor, "batch channel height width"], draw: Draw
) -> UInt8[Tensor, "batch channel height width"]:
    """Mirror each image left to right with probability ½."""
    flipped = draw.integers("flip", 2).bool()[:, None, None, None]
    return torch.where(flipped, images.flip(-1), images)


def place(
    digits: UInt8[Tensor, "batch 1 height width"],
    size: int,
    rows: Int64[Tensor, "batch"],
    columns: Int64[Tensor, "batch"],
) -> UInt8[Tensor, "batch 1 size size"]:
    """Put each digit on a black square canvas, its upper left corner at (row, column)."""
    batch, _, height, width = digits.shape
    device = digits.device
    canvas = torch.zeros(batch, 1, size, size, dtype=digits.dtype, device=device)
    example = torch.arange(batch, device=device)[:, None, None]
    y = (rows[:, None] + torch.arange(height, device=device))[:, :, None]
    x = (columns[:, None] + torch.arange(width, device=device))[:, None, :]
    canvas[example, 0, y, x] = digits[:, 0]
    return canvas
