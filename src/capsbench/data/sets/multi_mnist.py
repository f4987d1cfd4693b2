"""Multi-MNIST: two overlapping digits, made a batch at a time."""

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from capsbench.data import sources
from capsbench.data.batch import Batch, BatchKey, LabelledImages, SplitName, StoredSplit
from capsbench.data.file_module import FileDataModule
from capsbench.data.randomness import Draw
from capsbench.data.sets.mnist import MNIST
from capsbench.data.stand_ins import stand_in_digits
from capsbench.data.transforms import place, to_unit_range

CANVAS = 36
MARGIN = (CANVAS - 28) // 2
"""Pixels around a digit in the middle: a larger shift cuts off part of its image."""
LARGEST_SHIFT = 2 * MARGIN
TEST_SEED = 0


class MultiMNIST(FileDataModule):
    """Sabour et al. 2017 (arXiv:1710.09829), §6, in the size of the paper's §4.3.2: 6 million and 1 million images.

    Each digit is merged with 100 digits of other classes of the same split, both shifted by up to 4 pixels in each
    direction: min(a + b, 255). No image is stored: example `index` is a function of (seed, split, index), and the test
    split is the same for every seed. A batch has the merged images, labels (batch, 2) and as `targets` the two digits.

    Args:
        per_digit: images made from each digit; 100 in the paper.
        max_shift: the largest shift in each direction, in pixels. From 5, up to max_shift - 4 of the lines at a border
            of a digit's 28×28 image can be cut off; the authors' files have 6.
        shift_base: "each" shifts both digits anew for each image; "once" shifts the first one once for all its images,
            as the generator of the authors' files does.
        **options: see `FileDataModule` and `ImageDataModule`, but augmentation and standardized.

    Raises:
        ValueError: a value is out of its range or has no effect, or an option is refused.
    """

    image_shape = (1, CANVAS, CANVAS)
    num_classes = 10
    labels_per_image = 2
    title = "Multi-MNIST"
    source = sources.MNIST
    refused = {
        "augmentation": "its digits are shifted at random",
        "resize": "its canvas has a size",
        "crop": "its canvas has a size",
        "standardized": "decoders work in [0, 1]",
    }

    def __init__(self, *, per_digit: int = 100, max_shift: int = 4, shift_base: str = "each", **options: Any) -> None:
        super().__init__(**options)
        if per_digit < 1:
            raise ValueError(f"data.per_digit must be at least 1, got {per_digit}")
        if not 0 <= max_shift <= LARGEST_SHIFT:
            raise ValueError(f"data.max_shift must be from 0 to {LARGEST_SHIFT}, got {max_shift}")
        if shift_base not in ("each", "once"):
            raise ValueError(f"data.shift_base must be each or once, got {shift_base}")
        if shift_base == "once" and (per_digit == 1 or max_shift == 0):
            what = "data.per_digit=1" if per_digit == 1 else "data.max_shift=0"
            raise ValueError(f"data.shift_base=once has no effect with {what}; leave it out")
        self.per_digit = per_digit
        self.max_shift = max_shift
        self.shift_base = shift_base
        self._others: dict[SplitName, OtherClasses] = {}

    def load(self, split: StoredSplit) -> LabelledImages:
        """Read the digits that images are made of."""
        return MNIST(data_dir=self.data_dir).load(split)

    def stand_in(self, split: StoredSplit) -> LabelledImages:
        """Make a few digits to merge."""
        return stand_in_digits(split, MNIST.image_shape, self.num_classes)

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
        seed = self.seed if split == "train" else TEST_SEED
        first = key.indices // self.per_digit
        draw = Draw(seed, 0, key.indices)
        draw_first = Draw(seed, 0, first) if self.shift_base == "once" else draw
        second = self._others[split].choose(digits.labels[first], draw, split)
        placed = [
            self._place(digits.images[first], draw_first, f"{split} row 0", f"{split} column 0"),
            self._place(digits.images[second], draw, f"{split} row 1", f"{split} column 1"),
        ]
        targets = to_unit_range(torch.cat(placed, dim=1)).unsqueeze(2)
        merged = targets.sum(dim=1).clamp_max(1.0)
        return Batch(merged, torch.stack([digits.labels[first], digits.labels[second]], dim=1), targets)

    def _place(self, images: Tensor, draw: Draw, *purposes: str) -> Tensor:
        """Put digits on their canvas, each shifted at random."""
        rows, columns = (
            MARGIN - self.max_shift + draw.integers(purpose, 2 * self.max_shift + 1) for purpose in purposes
        )
        return place(images, CANVAS, rows, columns, beyond=max(0, self.max_shift - MARGIN))


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
