"""What is done to a stored image before a network sees it in evaluation."""

from dataclasses import dataclass
from typing import Annotated

from jaxtyping import Float, Real
from pydantic import Field
from torch import Tensor

from capsbench.data.pictures import Fit
from capsbench.data.reading import STRICT
from capsbench.data.transforms import cut_middle, resize, standardize, to_unit_range

Size = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True)
class Preparation:
    """Resize images, cut their middle out and scale them; see `ImageDataModule`.

    Attributes:
        shape: (channels, height, width) of a stored image.
        standardized: each image gets mean 0 and variance 1; otherwise [0, 1].
        resize: side of the square that images become, before all else; None: none.
        crop: side of the square in the middle that the network sees; None: all.
        standardize_before_crop: scale the whole image.
        fit: how pictures of another size get that of a stored image.
        background: the colour behind their transparent parts.
    """

    __pydantic_config__ = STRICT

    shape: tuple[Size, Size, Size]
    standardized: bool = False
    resize: Size | None = None
    crop: Size | None = None
    standardize_before_crop: bool = False
    fit: Fit = "stretch"
    background: str = "black"

    @property
    def seen(self) -> tuple[int, int, int]:
        """(channels, height, width) of what the network sees."""
        channels, height, width = self.shape
        side = self.crop or self.resize
        return channels, side or height, side or width

    def __call__(self, images: Real[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch channel height width"]:
        """Prepare images on the scale 0…255."""
        images = self.resized(images)
        if self.crop is None:
            return self.scaled(images)
        if self.standardize_before_crop:
            return cut_middle(self.scaled(images), self.crop)
        return self.scaled(cut_middle(images, self.crop))

    def resized(self, images: Real[Tensor, "batch _ _ _"]) -> Real[Tensor, "batch channel _ _"]:
        """Resize images, if at all."""
        return images if self.resize is None else resize(images, self.resize)

    def scaled(self, images: Real[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch channel height width"]:
        """Bring images to the network's scale."""
        return standardize(images) if self.standardized else to_unit_range(images)
