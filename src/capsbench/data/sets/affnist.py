"""affNIST: train on translated MNIST, test on affinely transformed MNIST."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from jaxtyping import Float, UInt8
from scipy.io.matlab import MatReadError
from torch import Tensor

from capsbench.data import sources
from capsbench.data.affine import transform_at_random
from capsbench.data.batch import Batch, BatchKey, LabelledImages, SplitName
from capsbench.data.file_module import FileDataModule
from capsbench.data.files import DataError
from capsbench.data.randomness import Draw
from capsbench.data.sets.mnist import MNIST
from capsbench.data.stand_ins import stand_in_digits
from capsbench.data.transforms import place, to_unit_range

CANVAS = 40
OFFSETS = CANVAS - 28 + 1
"""Places per direction where a 28×28 digit fits: ±6 pixels about the centre."""
PER_DIGIT = 32
GENERATOR_SEED = 0


class AffNIST(FileDataModule):
    """The robustness test of Sabour et al. 2017 (arXiv:1710.09829), §5.2, and of the paper's §4.3.1.

    Training: MNIST's 60,000 digits on a black 40×40 canvas, each at one of the 169 places where it fits, drawn anew in
    each epoch. Test: Tieleman's affNIST, 320,000 images; or, if its file is not available, MNIST's test digits
    transformed in the same way, under the title "affNIST (generated)".

    Args:
        test_source: "official", or "generated" from MNIST's test digits.
        per_digit: how many transformations of each test digit to generate.
        **options: see `FileDataModule` and `ImageDataModule`, but augmentation and standardized.

    Raises:
        ValueError: test_source is neither of the two; per_digit is below 1, or set although nothing is generated; an
            option is refused.
    """

    image_shape = (1, CANVAS, CANVAS)
    num_classes = 10
    title = "affNIST"
    digits = sources.MNIST
    source = sources.AFFNIST
    refused = {
        "augmentation": "its digits are placed at random",
        "standardized": "a decoder draws its digits in [0, 1]",
    }

    def __init__(
        self,
        *,
        test_source: str = "official",
        per_digit: int = PER_DIGIT,
        **options: Any,
    ) -> None:
        super().__init__((self.digits,) if test_source == "generated" else (self.digits, self.source), **options)
        if test_source not in ("official", "generated"):
            raise ValueError(f"data.test_source must be official or generated, got {test_source}")
        if per_digit < 1:
            raise ValueError(f"data.per_digit must be at least 1, got {per_digit}")
        if per_digit != PER_DIGIT and (test_source == "official" or self.is_stand_in):
            which = self.title if self.is_stand_in else "data.test_source=official"
            raise ValueError(f"data.per_digit={per_digit} has no effect with {which}; leave it out")
        self.test_source = test_source
        self.per_digit = per_digit
        if test_source == "generated" and not self.is_stand_in:
            self.title, self.stands_in_for = "affNIST (generated)", self.title

    def fetch(self) -> None:
        """Download MNIST, and the official test file if it is used."""
        self.digits.fetch(self.data_dir)
        if self.test_source == "official":
            self._fetch_official()

    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """Read MNIST's digits, which each batch places on their canvas, and read or generate the test images."""
        train, self.test_digits = MNIST(data_dir=self.data_dir).load()
        if self.test_source == "generated":
            return train, generate(self.test_digits, self.per_digit)
        return train, read_official(self._fetch_official() / self.source.files[0].name)

    def batch(self, split: SplitName, key: BatchKey) -> Batch:
        """Make a batch; digits that are held out to tune on have the same place in every epoch."""
        if split != "val":
            return super().batch(split, key)
        digits, labels = (part[key.indices] for part in self.splits[split])
        images = self.train_images(digits, Draw(GENERATOR_SEED, 0, key.indices))
        return Batch(images, labels, images.unsqueeze(1))

    def showcase(self, count: int) -> dict[str, Batch]:
        """Choose test digits placed as in training, and test images, as in the paper's table 4."""
        chosen = torch.arange(min(count, len(self.test_digits.labels)))
        digits = self.test_digits.take(chosen.tolist())
        images = self.train_images(digits.images, Draw(GENERATOR_SEED, 0, chosen))
        return {"translated MNIST": Batch(images, digits.labels, images.unsqueeze(1))} | super().showcase(count)

    def untransformed_images(self) -> LabelledImages:
        """Give MNIST's test digits, 28×28."""
        return self.test_digits

    def stand_in(self) -> tuple[LabelledImages, LabelledImages]:
        """Make a few digits to place, and a few transformed ones."""
        train, self.test_digits = stand_in_digits(MNIST.image_shape, self.num_classes)
        return train, generate(self.test_digits, 1)

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


def generate(digits: LabelledImages, per_digit: int, chunk: int = 4096) -> LabelledImages:
    """Generate `per_digit` random transformations of each digit as in affNIST, the same in every call."""
    images = []
    for part in torch.split(torch.arange(len(digits.labels) * per_digit), chunk):
        transformed, _ = transform_at_random(digits.images[part // per_digit], Draw(GENERATOR_SEED, 0, part), CANVAS)
        images.append(transformed)
    return LabelledImages(torch.cat(images), digits.labels.repeat_interleave(per_digit))


def read_official(path: Path) -> LabelledImages:
    """Read the images and labels of affNIST's `test.mat`.

    Raises:
        DataError: the file is not the struct `affNISTdata` with image (1600 × N bytes) and label_int (N digits).
    """
    try:
        data = scipy.io.loadmat(path, variable_names=["affNISTdata"])["affNISTdata"][0, 0]
        pixels, labels = data["image"], data["label_int"].ravel()
    except (
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        NotImplementedError,
        MatReadError,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path} is not affNIST's file, a struct affNISTdata with image and label_int: {error}"
        ) from error
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or len(pixels) != CANVAS**2:
        raise DataError(f"{path}: image must be {CANVAS**2} × N bytes, is {pixels.shape} of {pixels.dtype}")
    if labels.shape != pixels.shape[1:]:
        raise DataError(f"{path}: {pixels.shape[1]} images but {len(labels)} labels")
    if labels.size and not (labels.min() >= 0 and labels.max() <= 9):
        raise DataError(f"{path}: labels must be from 0 to 9, found {labels.min()} to {labels.max()}")
    # MATLAB stores columns one after the other, so transposing copies nothing.
    images = torch.from_numpy(np.ascontiguousarray(pixels.T)).view(-1, 1, CANVAS, CANVAS)
    return LabelledImages(images, torch.from_numpy(labels.astype(np.int64)))
