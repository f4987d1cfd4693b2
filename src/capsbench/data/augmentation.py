"""Augmentation of training images: random places, crops, mirror images, brightness and contrast."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from capsbench.data.randomness import Draw
from capsbench.data.transforms import cut


@dataclass(frozen=True)
class Augmentation:
    """Change training images at random, in this order: zoom and shift, crop, mirror, brightness, contrast.

    Args:
        crop_padding: pixels of 0 added on each side before the original size is cut out at random; 0 is off. That is
            black in bytes, and the mean of a standardised image.
        flip: mirror each image left to right with probability ½.
        shift: by up to this share of height and of width, each by itself; the pixels at an edge are repeated.
        zoom: height and width, each by itself, are divided by a factor that is uniform in 1 ± zoom; edges likewise.
        brightness: an offset uniform in ±brightness, as a share of the range of bytes, is added.
        contrast: the deviation from each channel's mean is multiplied by a factor that is uniform in 1 ± contrast.

    Raises:
        ValueError: a number is out of its range.

    >>> augmentation = Augmentation(shift=0.1, zoom=0.1, flip=True)
    >>> draw = Draw(seed=1, epoch=0, indices=torch.tensor([3, 5]))
    >>> augmentation(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), draw).shape
    torch.Size([2, 3, 32, 32])
    """

    crop_padding: int = 0
    flip: bool = False
    shift: float = 0.0
    zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("crop_padding", self.crop_padding), ("brightness", self.brightness)):
            if not 0 <= value < math.inf:
                raise ValueError(f"data.augmentation.{name} must be at least 0, got {value}")
        for name, value in (("shift", self.shift), ("zoom", self.zoom), ("contrast", self.contrast)):
            if not 0 <= value < 1:
                raise ValueError(f"data.augmentation.{name} must be at least 0 and below 1, got {value}")

    @property
    def changes_range(self) -> bool:
        """Whether values may leave the range of the images."""
        return bool(self.brightness or self.contrast)

    def __call__(
        self, images: Shaped[Tensor, "batch channel height width"], draw: Draw, window: int | None = None
    ) -> Shaped[Tensor, "batch channel window_height window_width"]:
        """Augment a batch of bytes, or of standardised images.

        Args:
            images: of the batch.
            draw: decides how each is changed.
            window: the side of the square that is cut out; None: the images' size.
        """
        if self.shift or self.zoom:
            images = random_place(images, self.shift, self.zoom, draw)
        if self.crop_padding or window:
            images = random_crop(images, self.crop_padding, draw, window)
        if self.flip:
            images = random_flip(images, draw)
        return random_light(images, self.brightness, self.contrast, draw) if self.changes_range else images


def random_place(
    images: Shaped[Tensor, "batch channel height width"], shift: float, zoom: float, draw: Draw
) -> Float[Tensor, "batch channel height width"]:
    """Zoom images about their middle and shift them, bilinearly; pixels at an edge are repeated beyond it."""
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    for row, axis in enumerate(("x", "y")):
        theta[:, row, row] = draw.uniform(f"zoom {axis}", 1 - zoom, 1 + zoom)
        theta[:, row, 2] = draw.uniform(f"shift {axis}", -2 * shift, 2 * shift)  # a side is 2 long
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def random_crop(
    images: Shaped[Tensor, "batch channel height width"], padding: int, draw: Draw, window: int | None = None
) -> Shaped[Tensor, "batch channel window_height window_width"]:
    """Pad with `padding` pixels of 0 on each side and cut a square, or the original size, out at a random place."""
    sizes = [window or side for side in images.shape[2:]]
    rows, columns = (
        draw.integers(f"crop {axis}", side + 2 * padding - size + 1)
        for axis, side, size in zip(("row", "column"), images.shape[2:], sizes, strict=True)
    )
    return cut(F.pad(images, (padding,) * 4), rows, columns, *sizes)


def random_flip(
    images: Shaped[Tensor, "batch channel height width"], draw: Draw
) -> Shaped[Tensor, "batch channel height width"]:
    """Mirror each image left to right with probability ½."""
    flipped = draw.integers("flip", 2).bool()[:, None, None, None]
    return torch.where(flipped, images.flip(-1), images)


def random_light(
    images: Shaped[Tensor, "batch channel height width"], brightness: float, contrast: float, draw: Draw
) -> Float[Tensor, "batch channel height width"]:
    """Change brightness and then contrast of bytes, which become floats and may leave 0…255."""
    offset = 255 * draw.uniform("brightness", -brightness, brightness)[:, None, None, None]
    factor = draw.uniform("contrast", 1 - contrast, 1 + contrast)[:, None, None, None]
    bright = images.float() + offset
    return torch.lerp(bright.mean(dim=(2, 3), keepdim=True), bright, factor)
