"""affNIST: train on translated MNIST, test on affinely transformed MNIST."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader

from capsbench.data import sources
from capsbench.data.affine import Affine, transform_at_random
from capsbench.data.batch import Batch, BatchKey, Described, LabelledImages, SplitName, StoredSplit
from capsbench.data.file_module import FileDataModule
from capsbench.data.files import DataError
from capsbench.data.randomness import Draw
from capsbench.data.sets.affnist_files import CANVAS, TRANSFORM, find_official, read_official
from capsbench.data.sets.mnist import MNIST
from capsbench.data.stand_ins import stand_in_digits
from capsbench.data.transforms import place, to_unit_range

OFFSETS = CANVAS - 28 + 1
"""Places per direction where a 28×28 digit fits."""
REACH = OFFSETS // 2
"""The largest shift in training, in pixels."""
PLACEMENTS = {"uncut": None, "6": 6, "5": 5}
"""Where the generator places test digits: the largest shift in pixels, or None for any place that cuts off no ink."""
BUFFER = 50_000
"""Images among which the next one is drawn, where all places of a digit follow one another."""
PER_DIGIT = 32
GENERATOR_SEED = 0


class AffNIST(FileDataModule):
    """The robustness test of Sabour et al. 2017 (arXiv:1710.09829), §5.2, and of the paper's §4.3.1.

    Training: MNIST's 60,000 digits on a black 40×40 canvas, each at one of the 169 places where it fits. Test:
    Tieleman's affNIST, 320,000 images; or, if its file is not available, MNIST's test digits transformed in the same
    way, under the title "affNIST (generated)". How affNIST places digits is not published, hence `placement`.

    Args:
        test_source: "official", or "generated" from MNIST's test digits.
        per_digit: how many transformations of each test digit to generate.
        placement: of generated digits: "uncut" anywhere on the canvas without loss of ink; 6 or 5: shifted by up to so
            many pixels in each direction.
        places: in training: "fresh" draws one for each digit and epoch; "exhaustive" makes an epoch of all 169 places
            of one digit after the other, 10,140,000 images, shuffled by a buffer of 50,000. Then 40,000 steps of 128
            see half of the digits: our reading of the data that the authors' code reads.
        **options: see `FileDataModule` and `ImageDataModule`, but augmentation and standardized.

    Raises:
        ValueError: a value is not one of those named; per_digit is below 1; per_digit or placement is set although
            nothing is generated; an option is refused.
    """

    image_shape = (1, CANVAS, CANVAS)
    num_classes = 10
    title = "affNIST"
    digits = sources.MNIST
    source = sources.AFFNIST
    refused = {
        "augmentation": "its digits are placed at random",
        "resize": "its canvas has a size",
        "crop": "its canvas has a size",
        "standardized": "decoders work in [0, 1]",
    }

    def __init__(
        self,
        *,
        test_source: str = "official",
        per_digit: int = PER_DIGIT,
        placement: str | int = "uncut",
        places: str = "fresh",
        **options: Any,
    ) -> None:
        super().__init__((self.digits,) if test_source == "generated" else (self.digits, self.source), **options)
        if test_source not in ("official", "generated"):
            raise ValueError(f"data.test_source must be official or generated, got {test_source}")
        if per_digit < 1:
            raise ValueError(f"data.per_digit must be at least 1, got {per_digit}")
        if str(placement) not in PLACEMENTS:
            raise ValueError(f"data.placement must be {', '.join(PLACEMENTS)}, got {placement}")
        if places not in ("fresh", "exhaustive"):
            raise ValueError(f"data.places must be fresh or exhaustive, got {places}")
        if per_digit != PER_DIGIT and (test_source == "official" or self.is_stand_in):
            which = self.title if self.is_stand_in else "data.test_source=official"
            raise ValueError(f"data.per_digit={per_digit} has no effect with {which}; leave it out")
        if placement != "uncut" and test_source == "official" and not self.is_stand_in:
            raise ValueError(f"data.placement={placement} has no effect with data.test_source=official; leave it out")
        self.test_source = test_source
        self.per_digit = per_digit
        self.reach = PLACEMENTS[str(placement)]
        self.images_per_digit = OFFSETS**2 if places == "exhaustive" else 1
        self.shuffle_buffer = BUFFER if places == "exhaustive" else None
        if test_source == "generated" and not self.is_stand_in:
            self.title, self.stands_in_for = "affNIST (generated)", self.title

    def fetch(self) -> None:
        """Download MNIST, and the official test file; not where digits are held out, which are tested when asked."""
        self.digits.fetch(self.data_dir)
        if self.test_source == "official" and not self.val_fraction:
            self._fetch_official()

    def load(self, split: StoredSplit) -> LabelledImages:
        """Read MNIST's digits, which each batch places on their canvas; or read or generate the test images."""
        digits = MNIST(data_dir=self.data_dir).load(split)
        if split == "train":
            return digits
        self.test_digits = digits
        if self.test_source == "generated":
            return generate(digits, self.per_digit, self.reach)
        return read_official(find_official(self._fetch_official()))

    def num_examples(self, split: SplitName) -> int:
        """Count the images of a split."""
        return super().num_examples(split) * (self.images_per_digit if split == "train" else 1)

    def batch(self, split: SplitName, key: BatchKey) -> Batch:
        """Make a batch; digits that are held out to tune on, or not augmented, have the same place in every epoch."""
        if split == "train" and self.images_per_digit > 1:
            digits, labels = (part[key.indices // self.images_per_digit] for part in self.splits["train"])
            which = key.indices % self.images_per_digit
            images = to_unit_range(place(digits, CANVAS, which // OFFSETS, which % OFFSETS))
            return Batch(images, labels, images.unsqueeze(1))
        if split == "val" or (split == "train" and not self.augments):
            return self._translated(self.splits[split], key)
        return super().batch(split, key)

    def parts(self, split: SplitName) -> Mapping[str, Bool[Tensor, "example"]]:
        """Divide test images by place: within the shifts of training, or beyond; without a part that has none."""
        test = self.splits.get(split)
        if split != "test" or not isinstance(test, Described) or not test.info.shape[1]:
            return {}
        is_trained = (test.info[:, 4:].abs() <= REACH).all(dim=1)
        found = {"trained_places": is_trained, "other_places": ~is_trained}
        return {name: mask for name, mask in found.items() if mask.any()}

    def remarks(self) -> Sequence[str]:
        """Say how far the test images are transformed: the least and the greatest of each number."""
        test = self.splits["test"]
        if not isinstance(test, Described) or not test.info.shape[1]:
            return ("the test images come without their transformations",)
        low, high = test.info.amin(dim=0).tolist(), test.info.amax(dim=0).tolist()
        is_official = self.test_source == "official" and not self.is_stand_in
        names = [f"{TRANSFORM}, row {row}" for row in range(1, 7)] if is_official else Affine._fields
        return [f"{name}: {least:g} to {most:g}" for name, least, most in zip(names, low, high, strict=True)]

    def companions(self) -> Mapping[str, DataLoader[Batch]]:
        """Give MNIST's test digits at places of training, the same in every run; at most `test_subset` of them."""
        digits = self.test_digits
        if self.test_subset is not None and self.test_subset < len(digits.labels):
            digits, _ = digits.divide(first=self.test_subset)
        translated = partial(self._translated, digits.to(self.device))
        return {"translated": self.loader_of(translated, len(digits.labels), self.eval_batch_size)}

    def showcase(self, count: int) -> dict[str, Batch]:
        """Choose test digits placed as in training, and test images, as in the paper's table 4.

        Where digits are held out to tune on, choose some of these instead.
        """
        if self.val_fraction:
            (held_out,) = super().showcase(count).values()
            return {"translated MNIST": held_out}
        chosen = torch.arange(min(count, len(self.test_digits.labels)))
        return {"translated MNIST": self._translated(self.test_digits, BatchKey(0, chosen))} | super().showcase(count)

    def untransformed_images(self) -> LabelledImages:
        """Give MNIST's test digits, 28×28."""
        return self.test_digits

    def stand_in(self, split: StoredSplit) -> LabelledImages:
        """Make a few digits to place, or a few transformed ones."""
        digits = stand_in_digits(split, MNIST.image_shape, self.num_classes)
        if split == "train":
            return digits
        self.test_digits = digits
        return generate(digits, 1, self.reach)

    def _translated(self, digits: LabelledImages, key: BatchKey) -> Batch:
        """Place digits as in training, but always the same."""
        chosen, labels = (part[key.indices] for part in digits)
        images = self.train_images(chosen, Draw(GENERATOR_SEED, 0, key.indices))
        return Batch(images, labels, images.unsqueeze(1))

    def _fetch_official(self) -> Path:
        try:
            return self.source.fetch(self.data_dir)
        except DataError as error:
            raise DataError(f"{error}. Or test on generated images: data.test_source=generated") from error

    def train_images(
        self, images: UInt8[Tensor, "batch _ _ _"], draw: Draw
    ) -> Float[Tensor, "batch channel height width"]:
        """Place each digit on its canvas, where `draw` says."""
        return to_unit_range(place(images, CANVAS, draw.integers("row", OFFSETS), draw.integers("column", OFFSETS)))


def generate(digits: LabelledImages, per_digit: int, reach: int | None = None, chunk: int = 4096) -> Described:
    """Generate `per_digit` random transformations of each digit as in affNIST, the same in every call.

    Args:
        digits: to transform.
        per_digit: images made of each.
        reach: see `transform_at_random`.
        chunk: images made at once.

    Returns:
        The images with the six numbers of `Affine`.
    """
    images, infos = [], []
    for part in torch.split(torch.arange(len(digits.labels) * per_digit), chunk):
        draw = Draw(GENERATOR_SEED, 0, part)
        transformed, affine = transform_at_random(digits.images[part // per_digit], draw, CANVAS, reach)
        images.append(transformed)
        infos.append(torch.stack(affine, dim=1))
    made = LabelledImages(torch.cat(images), digits.labels.repeat_interleave(per_digit))
    return Described.of(made, torch.cat(infos))
