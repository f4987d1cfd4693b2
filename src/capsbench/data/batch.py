"""The types that data is passed around in: a split in memory, the key of a batch, and the batch."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Real
from sklearn.model_selection import train_test_split
from torch import Tensor

from capsbench.data.labels import strata
from capsbench.data.own_files import SplitName as SplitName  # where no PyTorch is needed

StoredSplit = Literal["train", "test"]
"""A split as a data set comes; "val" is cut out of "train"."""
SPLIT_SEED = 0


class LabelledImages(NamedTuple):
    """A split in memory: bytes, or floats on their scale, (example, channel, height, width) and their labels.

    Labels are class numbers; where an image may show any number of classes, whether it shows each.
    """

    images: Real[Tensor, "example channel height width"]
    labels: Int64[Tensor, "example"] | Bool[Tensor, "example class"]

    def to(self, device: torch.device) -> "LabelledImages":
        """Copy the split to another device."""
        return LabelledImages(self.images.to(device), self.labels.to(device))

    def take(self, indices: Sequence[int]) -> "LabelledImages":
        """Select the examples with these indices."""
        chosen = torch.as_tensor(indices, device=self.labels.device)
        return LabelledImages(self.images[chosen], self.labels[chosen])

    def divide(
        self, *, first: float | int | None = None, second: float | int | None = None
    ) -> tuple["LabelledImages", "LabelledImages"]:
        """Divide the split into two that have every class in the same proportion; always the same division.

        Where images show any number of classes, this holds for every set of classes that is not rare.

        Args:
            first, second: the size of one of the two parts: a share, or a number of examples.

        Raises:
            ValueError: a part would be too small to hold every class.
        """
        number = len(self.labels)
        if self.labels.dtype == torch.bool:
            size = first if first is not None else second or 0
            size = size * number if isinstance(size, float) else size
            labels = strata(self.labels, min(size, number - size))
        else:
            labels = self.labels.tolist()
        indices = train_test_split(
            range(number), train_size=first, test_size=second, stratify=labels, random_state=SPLIT_SEED
        )
        return self.take(indices[0]), self.take(indices[1])


class Described(LabelledImages):
    """A split with numbers that describe each image, which `to` and `take` keep."""

    info: Real[Tensor, "example number"]

    @classmethod
    def of(cls, split: LabelledImages, info: Real[Tensor, "example number"]) -> "Described":
        """Add to each image its numbers."""
        # An attribute, not a third field: `ImageDataModule.batch` unpacks a split into images and labels.
        described = cls(*split)
        described.info = info
        return described

    def to(self, device: torch.device) -> "Described":
        """Copy the split to another device."""
        return Described.of(super().to(device), self.info.to(device))

    def take(self, indices: Sequence[int]) -> "Described":
        """Select the examples with these indices."""
        return Described.of(super().take(indices), self.info[torch.as_tensor(indices, device=self.info.device)])


class Batch(NamedTuple):
    """What a model trains on; `targets` are the images in [0, 1] that a decoder should reconstruct, one per label."""

    images: Float[Tensor, "batch channel height width"]
    labels: Int64[Tensor, "batch *several"] | Bool[Tensor, "batch class"]
    targets: Float[Tensor, "batch label channel height width"]


class BatchKey(NamedTuple):
    """Which examples make a batch. The content of a batch depends on its key and the seed alone."""

    epoch: int
    indices: Int64[Tensor, "batch"]


def as_batch(batch: Any) -> Batch:
    """Make a `Batch` of the (images, labels) of a plain loader; a batch of ours stays as it is."""
    if isinstance(batch, Batch):
        return batch
    images, labels = batch
    return Batch(images, labels, images.unsqueeze(1))
