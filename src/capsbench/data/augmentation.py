"""Augmentation of training images: random crops and mirror images."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from capsbench.data.randomness import Draw
from capsbench.data.transforms import cut


@dataclass(frozen=True)
class Augmentation:
    """Crop training images at random and mirror half of them.

    Args:
        crop_padding: pixels of 0 added on each side before the original size is cut out at random; 0 is off. That is
            black in bytes, and the mean of a standardised image.
        flip: mirror each image left to right with probability ½.

    Raises:
        ValueError: crop_padding is negative.
    """

    crop_padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise ValueError(f"data.augmentation.crop_padding must be at least 0, got {self.crop_padding}")

    def __call__(
        self, images: Shaped[Tensor, "batch channel height width"], draw: Draw
    ) -> Shaped[Tensor, "batch channel height width"]:
        """Augment a batch of bytes, or of standardised images; `draw` decides how each is changed."""
        if self.crop_padding:
            images = random_crop(images, self.crop_padding, draw)
        return random_flip(images, draw) if self.flip else images


def random_crop(
    images: Shaped[Tensor, "batch channel height width"], padding: int, draw: Draw
) -> Shaped[Tensor, "batch channel height width"]:
    """Pad with `padding` pixels of 0 on each side and cut the original size out at a random place."""
    rows, columns = (draw.integers(f"crop {axis}", 2 * padding + 1) for axis in ("row", "column"))
    return cut(F.pad(images, (padding,) * 4), rows, columns, *images.shape[2:])


def random_flip(
    images: Shaped[Tensor, "batch channel height width"], draw: Draw
) -> Shaped[Tensor, "batch channel height width"]:
    """Mirror each image left to right with probability ½."""
    flipped = draw.integers("flip", 2).bool()[:, None, None, None]
    return torch.where(flipped, images.flip(-1), images)
