"""Multi-MNIST: two overlapping digits, made a batch at a time."""

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from capsbench.data import sources
from capsbench.data.batch import Batch, BatchKey, LabelledImages, SplitName
from capsbench.data.file_module import FileDataModule
from capsbench.data.randomness import Draw
from capsbench.data.sets.mnist import MNIST
from capsbench.data.stand_ins import stand_in_digits
from capsbench.data.transforms import place, to_unit_range

CANVAS = 36
OFFSETS = CANVAS - 28 + 1
"""Places per direction where a digit fits: ±4 pixels about the centre."""
TEST_SEED = 0


class MultiMNIST(FileDataModule):
    """Sabour et al. 2017 (arXiv:1710.09829), §6, in the size of the paper's §4.3.2: 6 million and 1 million images.

    Each digit is merged with 100 digits of other classes of the same split, both shifted by up to 4 pixels in each
    direction: min(a + b, 255). No image is stored: example `index` is a function of (seed, split, index), and the test
    split is the same for every seed. A batch has the merged images, labels (batch, 2) and as `targets` the two digits.

    Args:
        per_digit: images made from each digit; 100 in the paper.
        **options: see `FileDataModule` and `ImageDataModule`, but augmentation and standardized.

    Raises:
        ValueError: per_digit is below 1, or an option is refused.
    """

    image_shape = (1, CANVAS, CANVAS)
    num_classes = 10
    labels_per_image = 2
    title = "Multi-MNIST"
    source = sources.MNIST
    refused = {
        "augmentation": "its digits are shifted at random",
        "standardized": "a decoder draws its digits in [0, 1]",
    }

    def __init__(self, *, per_digit: int = 100, **options: Any) -> None:
        super().__init__(**options)
        if per_digit < 1:
            raise ValueError(f"data.per_digit must be at least 1, got {per_digit}")
        self.per_digit = per_digit
        self._others: dict[SplitName, OtherClasses] = {}

    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """Read the digits that images are made of."""
        return MNIST(data_dir=self.data_dir).load()

    def stand_in(self) -> tuple[LabelledImages, LabelledImages]:
        """Make a few digits to merge."""
        return stand_in_digits(MNIST.image_shape, self.num_classes)

    def setup(self, stage: str | None = None) -> None:
        """Load the digits and sort them by class."""
        super().setup(stage)
        self._others = {name: OtherClasses(split.labels) for name, split in self.splits.items()}

    def num_examples(self, split: SplitName) -> int:
        """Count the images of a split."""
        return super().num_examples(split) * self.per_digit

    def batch(self, split: SplitName, key: BatchKey) -> Batch:
        """Make the images with these indices; the epoch does not change them."""
        digits = self.splits[split]
        draw = Draw(self.seed if split == "train" else TEST_SEED, 0, key.indices)
        first = key.indices // self.per_digit
        second = self._others[split].choose(digits.labels[first], draw, split)
        placed = [
            place(
                digits.images[chosen],
                CANVAS,
                draw.integers(f"{split} row {which}", OFFSETS),
                draw.integers(f"{split} column {which}", OFFSETS),
            )
            for which, chosen in enumerate((first, second))
        ]
        targets = to_unit_range(torch.cat(placed, dim=1)).unsqueeze(2)
        merged = targets.sum(dim=1).clamp_max(1.0)
        return Batch(merged, torch.stack([digits.labels[first], digits.labels[second]], dim=1), targets)


class OtherClasses:
    """The digits of a split sorted by class, to draw one of another class than a given one.

    Args:
        labels: (example,) of the split.
    """

    def __init__(self, labels: Int64[Tensor, "example"]) -> None:
        self.by_class = labels.argsort(stable=True)
        self.counts = labels.bincount()
        self.starts = self.counts.cumsum(0) - self.counts

    def choose(self, labels: Int64[Tensor, "batch"], draw: Draw, split: SplitName) -> Int64[Tensor, "batch"]:
        """Draw for each label an example of another class, uniformly among all of them."""
        rank = draw.integers(f"{split} partner", len(self.by_class) - self.counts[labels])
        behind_own_class = rank >= self.starts[labels]
        return self.by_class[rank + behind_own_class * self.counts[labels]]
