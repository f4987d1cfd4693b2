"""What is done to a stored image before a network sees it in evaluation."""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Real
from pydantic import Field
from torch import Tensor

from capsbench.data.reading import STRICT
from capsbench.data.transforms import cut, standardize, to_unit_range

Size = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True)
class Preparation:
    """Scale images, and cut the middle out where training cuts windows.

    Attributes:
        shape: (channels, height, width) of a stored image.
        standardized: each image gets mean 0 and variance 1; otherwise [0, 1].
        window: side of the square in the middle that the network sees; None: all.
    """

    __pydantic_config__ = STRICT

    shape: tuple[Size, Size, Size]
    standardized: bool = False
    window: Size | None = None

    @property
    def seen(self) -> tuple[int, int, int]:
        """(channels, height, width) of what the network sees."""
        channels, height, width = self.shape
        return channels, self.window or height, self.window or width

    def __call__(self, images: Real[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch channel height width"]:
        """Prepare images on the scale 0…255."""
        scaled = standardize(images) if self.standardized else to_unit_range(images)
        if self.window is None:
            return scaled
        height, width = scaled.shape[2:]
        row, column = (torch.full((len(images),), (side - self.window) // 2) for side in (height, width))
        return cut(scaled, row.to(images.device), column.to(images.device), self.window, self.window)
