"""Your own images, from arrays of NumPy's: one .npz file, or a folder of .npy files."""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from capsbench.data.batch import LabelledImages, SplitName
from capsbench.data.digest import Contents, contents_of
from capsbench.data.files import DataError, at_home
from capsbench.data.foreign import memory_bytes, unpacked_bytes
from capsbench.data.labels import describe, read_labels
from capsbench.data.module import ImageDataModule
from capsbench.data.own_files import ARRAYS, DIVIDED_ARRAYS, UNDIVIDED_ARRAYS, Measured, array_files, not_divided
from capsbench.data.pictures import as_bytes_of_16_bits

TEST_FRACTION = 0.2
MOST_CHANNELS = 4
"""Of an axis that is taken for that of channels where nobody says so."""

Layout = Literal["auto", "NHW", "NHWC", "NCHW"]
"""The axes of images: number, height, width, channels."""


class Arrays(ImageDataModule):
    """Images and labels from a NumPy .npz file, or from a folder of .npy files of the same names.

    It holds `train_images`, `train_labels`, `test_images` and `test_labels`, or `x_train`, `y_train`, `x_test` and
    `y_test`; or `images` and `labels`, or `x` and `y`, which are divided, stratified and the same for every seed.

    Labels are whole numbers, names, or rows of 0 and 1. Those that do not count from 0 without a gap are numbered in
    their order, and keep their names. If a row has another number of ones than one, images may show any number of
    classes.

    Args:
        path: of the file or folder.
        val_split: hold out `val_images` and `val_labels`, or `x_val` and `y_val`, to tune on.
        test_fraction: the share of undivided images to test on.
        layout: of images: "NHW", "NHWC", "NCHW", or "auto", which takes an axis of up to 4 for that of channels.
        value_range: the values of black and white; None: of bytes and of 16 bits their own, of others 0 and 1.
        title: the set's name in tables; None: the file's name.
        stands_in_for: the title of the set that these images replace.
        measured: the split that a trained network is measured on, or "all", which divides nothing; "val" and "all" read
            validation images, too; None: the set is trained on. Classes are then also those that no image shows.
        **options: see `ImageDataModule`.

    Raises:
        DataError: a file is missing, cannot be read, or holds something else.
        ValueError: a setting is out of its range, or has no effect.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        val_split: bool = False,
        test_fraction: float = TEST_FRACTION,
        layout: Layout = "auto",
        value_range: Sequence[int | float] | None = None,
        title: str | None = None,
        stands_in_for: str | None = None,
        measured: Measured | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not 0 < test_fraction < 1:
            raise ValueError(f"data.test_fraction must be between 0 and 1, got {test_fraction}")
        if value_range is not None and not _is_range(value_range):
            raise ValueError(f"data.value_range must be [black,white], numbers, the smaller first, got {value_range}")
        self.path = at_home(path)
        self.val_split = val_split
        self.layout = layout
        self.value_range = value_range
        self.stands_in_for = stands_in_for
        self.measured = measured
        self.title = title or self.path.resolve().stem
        self._parts = self._read(test_fraction)
        _, channels, height, width = self._parts["train"].images.shape
        self.image_shape = (channels, height, width)

    @property
    def holds_out(self) -> bool:
        """Whether there is a validation split."""
        return self.val_split or super().holds_out

    @cached_property
    def contents(self) -> Contents:
        """What the files hold."""
        return contents_of(self.path if self.path.is_dir() else self.path.parent, array_files(self.path))

    def load(self, split: SplitName) -> LabelledImages:
        """Give a split."""
        return self._parts[split]

    def load_held_out(self) -> LabelledImages:
        """Give the validation split."""
        return self.load("val")

    def remarks(self) -> Sequence[str]:
        """Say how many training images show each class."""
        return describe(self.splits["train"].labels, self.names)

    def _read(self, test_fraction: float) -> Mapping[SplitName, LabelledImages]:
        arrays = self._arrays()
        found = {
            split: pair
            for split, pairs in DIVIDED_ARRAYS.items()
            if (pair := self._the_one_of(pairs, arrays)) is not None
        }
        if self.measured in ("val", "all") and "val" in found and not self.val_fraction:
            self.val_split = True
        if self.val_split and (self.val_fraction or "val" not in found):
            cause = (
                "with data.val_fraction" if self.val_fraction else f"without val_images and val_labels in {self.path}"
            )
            raise ValueError(f"data.val_split=true has no effect {cause}; leave one of them out")
        if {"train", "test"} <= found.keys():
            if test_fraction != TEST_FRACTION:
                raise ValueError(
                    f"data.test_fraction={test_fraction} has no effect: {self.path} is already divided; leave it out"
                )
            wanted = [split for split in found if split != "val" or self.val_split]
            images = {split: self._images(arrays[found[split][0]]) for split in wanted}
            labels = self._labels({split: arrays[found[split][1]] for split in wanted})
            for split in wanted:
                if images[split].shape[1:] != images["train"].shape[1:]:
                    raise DataError(
                        f"{self.path}: training and {split} images differ in shape, "
                        f"{tuple(images['train'].shape[1:])} and {tuple(images[split].shape[1:])}"
                    )
            return {split: self._pair(images[split], labels[split]) for split in wanted}
        pair = self._the_one_of(UNDIVIDED_ARRAYS, arrays)
        if pair is None:
            raise DataError(
                f"{self.path} must hold images and labels, or train_images, train_labels, test_images and test_labels, "
                f"or x_train, y_train, x_test and y_test; it has {', '.join(arrays) or 'no arrays'}"
            )
        whole = self._pair(self._images(arrays[pair[0]]), self._labels({"train": arrays[pair[1]]})["train"])
        if self.measured == "all":
            return {"train": whole, "test": LabelledImages(whole.images[:0], whole.labels[:0])}
        try:
            train, test = whole.divide(second=test_fraction)
        except ValueError as error:
            raise DataError(not_divided(self.path, test_fraction, self.measured, error)) from error
        return {"train": train, "test": test}

    def _the_one_of(self, pairs: Sequence[tuple[str, str]], arrays: Mapping[str, np.ndarray]) -> tuple[str, str] | None:
        there = [pair for pair in pairs if set(pair) <= arrays.keys()]
        if len(there) > 1:
            raise DataError(f"{self.path} has both {there[0][0]} and {there[1][0]}; remove one of them")
        return there[0] if there else None

    def _arrays(self) -> dict[str, np.ndarray]:
        try:
            if self.path.is_dir():
                return {path.stem: np.load(path, allow_pickle=False) for path in array_files(self.path)}
            if self.path.exists() and not self.path.is_file():
                raise OSError("it is not a regular file")
            if unpacked_bytes(self.path) > memory_bytes() / 2:
                raise OSError("its arrays take more than half of this machine's memory, and dividing copies them")
            with np.load(self.path, allow_pickle=False) as file:
                return {name: file[name] for name in file if name in ARRAYS}
        except Exception as error:  # each part of an archive has errors of its own, MemoryError among them
            raise DataError(f"data.path={self.path} is not a readable .npz file: {error}") from error

    def _pair(self, images: torch.Tensor, labels: np.ndarray) -> LabelledImages:
        if len(labels) != len(images):
            raise DataError(f"{self.path}: {len(images)} images but {len(labels)} labels")
        return LabelledImages(images, torch.from_numpy(labels))

    def _images(self, images: np.ndarray) -> torch.Tensor:
        """Give images on the scale of bytes, (number, channel, height, width)."""
        if images.ndim not in (3, 4) or 0 in images.shape or images.dtype.kind not in "biuf":
            raise DataError(
                f"{self.path}: images must be numbers of shape (N, height, width), (N, height, width, channels) or (N, "
                f"channels, height, width), are {images.dtype} of shape {images.shape}"
            )
        axes = self._axes(images.shape)
        scaled = self._scaled(images)
        ordered = scaled[:, None] if axes == "NHW" else scaled.transpose(0, 3, 1, 2) if axes == "NHWC" else scaled
        return torch.from_numpy(np.ascontiguousarray(ordered))

    def _axes(self, shape: tuple[int, ...]) -> str:
        if self.layout != "auto":
            if len(self.layout) != len(shape):
                raise DataError(f"{self.path}: images of shape {shape} cannot have data.layout={self.layout}")
            return self.layout
        if len(shape) == 3:
            return "NHW"
        fits = [axes for axes, axis in (("NHWC", 3), ("NCHW", 1)) if shape[axis] <= MOST_CHANNELS]
        if len(fits) != 1:
            raise DataError(
                f"{self.path}: which axis of images of shape {shape} is that of channels? Say data.layout=NHWC or NCHW"
            )
        return fits[0]

    def _scaled(self, images: np.ndarray) -> np.ndarray:
        if self.value_range is None:
            if images.dtype == np.uint8:
                return images
            if images.dtype == np.uint16:
                return as_bytes_of_16_bits(images)
        black, white = self.value_range or (0.0, 1.0)
        least, most = float(images.min()), float(images.max())
        if not black <= least <= most <= white:  # also of NaN
            known = "data.value_range says" if self.value_range else "images of floats or other integers have"
            raise DataError(
                f"{self.path}: {images.dtype} images have values from {least:g} to {most:g}, {known} {black:g} to "
                f"{white:g}; say data.value_range=[BLACK,WHITE]"
            )
        return ((images - np.float32(black)) * np.float32(255 / (white - black))).astype(np.float32)

    def _labels(self, arrays: Mapping[SplitName, np.ndarray]) -> Mapping[str, np.ndarray]:
        by_split = {str(split): values for split, values in arrays.items()}
        found = read_labels(by_split, self.path, measured=self.measured is not None)
        self.num_classes, self.class_names = found.num_classes, found.names
        self.labels_per_image = None if found.several else 1
        return found.of


def _is_range(given: Any) -> bool:
    is_pair = isinstance(given, Sequence) and len(given) == 2 and all(isinstance(each, int | float) for each in given)
    return is_pair and bool(given[0] < given[1])
