"""What is done to batches of images on the device that holds them: scaling, cutting, placing."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Real, Shaped
from torch import Tensor


def to_unit_range(images: Real[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
    """Scale 0…255 to float32 in [0, 1]."""
    return images.float() / 255


def standardize(images: Real[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
    """Give each image mean 0 and variance 1 over all its pixels and channels.

    The deviation, on the scale of bytes, is at least 1/√(pixels · channels), so that a flat image becomes zeros. The
    paper uses the same function, TensorFlow's `per_image_standardization`.
    """
    flat = images.flatten(1).float()
    flat = flat - flat.mean(dim=1, keepdim=True)
    root = flat.shape[1] ** 0.5
    # Deviation and floor from the length of the centred vector: three times as fast as torch.var_mean on a CPU.
    deviation = torch.linalg.vector_norm(flat, dim=1, keepdim=True) / root
    return (flat / deviation.clamp_min(1 / root)).view_as(images)


def stretch(images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
    """Shift and scale each image so that its darkest value is 0 and its brightest 1; a flat image becomes zeros.

    A decoder's target for a standardised image, whose brightness and contrast are lost.
    """
    low = images.amin(dim=(1, 2, 3), keepdim=True)
    span = images.amax(dim=(1, 2, 3), keepdim=True) - low
    return (images - low) / span.clamp_min(torch.finfo(images.dtype).tiny)


def cut(
    images: Shaped[Tensor, "batch channel height width"],
    rows: Int64[Tensor, "batch"],
    columns: Int64[Tensor, "batch"],
    height: int,
    width: int,
) -> Shaped[Tensor, "batch channel window_height window_width"]:
    """Cut a window out of each image, its upper left corner at (row, column)."""
    windows = images.unfold(2, height, 1).unfold(3, width, 1)  # a view: nothing is copied before one is chosen
    return windows[torch.arange(len(images), device=images.device), :, rows, columns]


def resize(
    images: Real[Tensor, "batch channel height width"], side: int
) -> Float[Tensor, "batch channel window_height window_width"]:
    """Scale images to a square bilinearly, on their scale; smaller ones are averages, without aliasing."""
    return F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)


def cut_middle(
    images: Shaped[Tensor, "batch channel height width"], side: int
) -> Shaped[Tensor, "batch channel window_height window_width"]:
    """Cut the square in the middle out."""
    row, column = ((size - side) // 2 for size in images.shape[2:])
    return images[:, :, row : row + side, column : column + side].contiguous()


def place(
    images: Shaped[Tensor, "batch channel height width"],
    size: int,
    rows: Int64[Tensor, "batch"],
    columns: Int64[Tensor, "batch"],
    beyond: int = 0,
) -> Shaped[Tensor, "batch channel size size"]:
    """Put each square image on a larger black canvas, its upper left corner at (row, column).

    Up to `beyond` pixels of an image may lie beyond the canvas, which cuts them off.
    """
    padding = size - images.shape[-1] + beyond
    return cut(F.pad(images, (padding,) * 4), padding - rows, padding - columns, size, size)
