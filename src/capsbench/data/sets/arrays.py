"""Your own images, from one .npz file of arrays."""

import os
from typing import Any

import numpy as np
import torch

from capsbench.data.batch import LabelledImages, StoredSplit
from capsbench.data.files import DataError, at_home
from capsbench.data.foreign import memory_bytes, unpacked_bytes
from capsbench.data.module import ImageDataModule

TEST_FRACTION = 0.2
LARGEST_LABEL = 2**31
UNDIVIDED = ("images", "labels")
DIVIDED = ("train_images", "train_labels", "test_images", "test_labels")


class Arrays(ImageDataModule):
    """Images and labels from a NumPy .npz file.

    It holds either `train_images`, `train_labels`, `test_images` and `test_labels`; or `images` and `labels`, which are
    divided, stratified and the same for every seed. Images are uint8, (N, height, width) or (N, height, width,
    channels), grey or RGB; labels are integers from 0.

    Args:
        path: of the file.
        test_fraction: the share of `images` to test on.
        title: the set's name in tables; None: the file's name.
        stands_in_for: the title of the set that these images replace.
        **options: see `ImageDataModule`.

    Raises:
        DataError: the file is missing, cannot be read, or holds something else.
        ValueError: test_fraction is not between 0 and 1, or set although the file is already divided.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        test_fraction: float = TEST_FRACTION,
        title: str | None = None,
        stands_in_for: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not 0 < test_fraction < 1:
            raise ValueError(f"data.test_fraction must be between 0 and 1, got {test_fraction}")
        self.path = at_home(path)
        self.stands_in_for = stands_in_for
        self.title = title or self.path.stem
        self._train, self._test = self._read(test_fraction)
        _, channels, height, width = self._train.images.shape
        self.image_shape = (channels, height, width)
        self.num_classes = int(max(self._train.labels.max(), self._test.labels.max())) + 1
        if self.num_classes > len(self._train.labels):
            raise DataError(
                f"{self.path}: labels must count from 0, and there must be an image to train on for each class; found "
                f"label {self.num_classes - 1} among {len(self._train.labels)} training images"
            )

    def load(self, split: StoredSplit) -> LabelledImages:
        """Give a split."""
        return self._train if split == "train" else self._test

    def _read(self, test_fraction: float) -> tuple[LabelledImages, LabelledImages]:
        try:
            if self.path.exists() and not self.path.is_file():
                raise OSError("it is not a regular file")
            if unpacked_bytes(self.path) > memory_bytes() / 2:
                raise OSError("its arrays take more than half of this machine's memory, and dividing copies them")
            with np.load(self.path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in (*UNDIVIDED, *DIVIDED) if name in file}
        except Exception as error:  # each part of an archive has errors of its own, MemoryError among them
            raise DataError(f"data.path={self.path} is not a readable .npz file: {error}") from error
        if all(name in arrays for name in DIVIDED):
            if test_fraction != TEST_FRACTION:
                raise ValueError(
                    f"data.test_fraction={test_fraction} has no effect: {self.path} is already divided; leave it out"
                )
            train = self._check(arrays["train_images"], arrays["train_labels"])
            test = self._check(arrays["test_images"], arrays["test_labels"])
            if train.images.shape[1:] != test.images.shape[1:]:
                raise DataError(
                    f"{self.path}: training and test images differ in shape, "
                    f"{tuple(train.images.shape[1:])} and {tuple(test.images.shape[1:])}"
                )
            return train, test
        if not all(name in arrays for name in UNDIVIDED):
            raise DataError(f"{self.path} must hold {', '.join(UNDIVIDED)} or {', '.join(DIVIDED)}; has {list(arrays)}")
        try:
            return self._check(arrays["images"], arrays["labels"]).divide(second=test_fraction)
        except ValueError as error:
            raise DataError(f"{self.path} cannot be divided into training and test images: {error}") from error

    def _check(self, images: np.ndarray, labels: np.ndarray) -> LabelledImages:
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
            raise DataError(
                f"{self.path}: images must be uint8 of shape (N, height, width) or (N, height, width, channels), "
                f"are {images.dtype} of shape {images.shape}"
            )
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(f"{self.path}: labels must be integers (N,), are {labels.dtype} of shape {labels.shape}")
        if len(labels) != len(images):
            raise DataError(f"{self.path}: {len(images)} images but {len(labels)} labels")
        for found in (labels.min(), labels.max()):
            if not 0 <= found < LARGEST_LABEL:
                raise DataError(f"{self.path}: labels must count from 0, found {found}")
        channels_last = images if images.ndim == 4 else images[..., None]
        if channels_last.shape[3] not in (1, 3):
            raise DataError(f"{self.path}: images must have 1 channel (grey) or 3 (RGB), have {channels_last.shape[3]}")
        pixels = torch.from_numpy(np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)))
        return LabelledImages(pixels, torch.from_numpy(labels.astype(np.int64)))
