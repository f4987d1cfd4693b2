"""Your own images, from folders of files."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from capsbench.data.batch import SPLIT_SEED, LabelledImages, SplitName
from capsbench.data.files import DataError, at_home
from capsbench.data.module import ImageDataModule
from capsbench.data.pictures import (
    LARGEST_SIDE,
    PASSED_OVER,
    SUFFIXES,
    Fit,
    as_bytes,
    files_below,
    is_grey,
    is_named_as_picture,
    natural,
    read_picture,
    resized,
)
from capsbench.data.preparation import Preparation

log = logging.getLogger(__name__)

SPLITS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What the folder of a split may be called, in small or capital letters."""
TEST_FRACTION = 0.2

Labelled = list[tuple[Path, int]]
"""Files and the numbers of their classes."""


class ImageFolder(ImageDataModule):
    """Images from the files in PATH/train/CLASS/ and PATH/test/CLASS/, read into memory once as a viewer shows them.

    Where the classes lie directly in PATH, a part of each is tested on, the same for every seed. Folders in that of a
    class belong to the class. Classes are numbered in the order of their names, 2 before 10. Images become grey if all
    training images are, otherwise RGB.

    Args:
        path: the folder.
        data_dir: the folder that `path` is relative to.
        val_split: hold out PATH/val/CLASS/ to tune on; without PATH/test/ it is tested on in any case.
        test_fraction: the share of each class to test on where the classes lie directly in PATH.
        resize: side of the square that every image becomes; None: all must have one size.
        fit: how an image becomes square: "stretch", "crop" or "pad".
        background: the colour behind transparent parts, see `read_picture`.
        title: the set's name in tables; None: the folder's name.
        stands_in_for: the title of the set that these images replace.
        **options: see `ImageDataModule`.

    Raises:
        DataError: a folder is missing or empty, a file is no picture, sizes or classes differ.
        ValueError: a setting is out of its range, or has no effect.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        data_dir: str | os.PathLike[str] = "",
        val_split: bool = False,
        test_fraction: float = TEST_FRACTION,
        resize: int | None = None,
        fit: Fit = "stretch",
        background: str = "black",
        title: str | None = None,
        stands_in_for: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not 0 < test_fraction < 1:
            raise ValueError(f"data.test_fraction must be between 0 and 1, got {test_fraction}")
        if resize is not None and not 1 <= resize <= LARGEST_SIDE:
            raise ValueError(f"data.resize must be from 1 to {LARGEST_SIDE}, got {resize}")
        if fit not in get_args(Fit):
            raise ValueError(f"data.fit must be one of {', '.join(get_args(Fit))}, got {fit}")
        if fit != "stretch" and resize is None:
            raise ValueError(f"data.fit={fit} has no effect without data.resize; leave it out")
        self.path = at_home(data_dir) / at_home(path)
        self.val_split = val_split
        self.fit = fit
        self.background = background
        self.stands_in_for = stands_in_for
        self.title = title or self.path.resolve().name
        self.files = self._find(test_fraction)
        train = [path for path, _ in self.files["train"]]
        self.size = read_picture(train[0], background).size if resize is None else (resize, resize)
        self.is_resized = resize is not None
        self.image_shape = (1 if all(map(is_grey, train)) else 3, self.size[1], self.size[0])

    @property
    def holds_out(self) -> bool:
        """Whether there is a validation split."""
        return self.val_split or super().holds_out

    @property
    def preparation(self) -> Preparation:
        """What is done to images in evaluation."""
        return replace(super().preparation, fit=self.fit, background=self.background)

    def load(self, split: SplitName) -> LabelledImages:
        """Decode every image of a split.

        Raises:
            DataError: a file cannot be read, or has another size.
        """
        files = self.files[split]
        pixels = np.empty((len(files), *self.image_shape), np.uint8)

        def decode(number: int) -> tuple[int, int]:
            image = read_picture(files[number][0], self.background)
            size = image.size
            if self.is_resized:
                image = resized(image, self.size, self.fit)
            if image.size == self.size:
                pixels[number] = as_bytes(image, self.image_shape[0])
            return size

        with ThreadPoolExecutor() as pool:
            sizes = Counter(pool.map(decode, range(len(files)), chunksize=256))
        if not self.is_resized and set(sizes) != {self.size}:
            found = ", ".join(f"{width}×{height} ({number})" for (width, height), number in sizes.most_common(3))
            raise DataError(
                f"{self.path}: all must have the size of the first picture to train on, {self.size[0]}×{self.size[1]}; "
                f"the {split} split has {len(sizes)} sizes, such as {found}. data.resize=64 makes all 64×64"
            )
        return LabelledImages(torch.from_numpy(pixels), torch.tensor([label for _, label in files]))

    def load_held_out(self) -> LabelledImages:
        """Decode every image of the validation split."""
        return self.load("val")

    def _find(self, test_fraction: float) -> dict[SplitName, Labelled]:
        """List the files of each split, and name the classes."""
        folders = _folders_in(self.path)
        named = {folder.name.lower(): folder for folder in folders}
        found = {split: named[name] for split, names in SPLITS.items() for name in names if name in named}
        if "train" not in found and folders and not found:
            return self._divided(folders, test_fraction)
        if "train" not in found or not found.keys() & {"test", "val"}:
            raise DataError(
                f"data.path={self.path} must hold train/ and test/ with a folder for each class, or the folders of the "
                f"classes; it has {', '.join(folder.name for folder in folders[:5]) or 'no folders'}"
            )
        if test_fraction != TEST_FRACTION:
            raise ValueError(f"data.test_fraction has no effect: {self.path} has train/ and test/; leave it out")
        if "test" not in found:
            if self.val_split:
                raise ValueError(f"{self.path} has no test/; without data.val_split=true its val/ is tested on")
            found["test"] = found.pop("val")
        if self.val_split and ("val" not in found or self.val_fraction):
            cause = "with data.val_fraction" if "val" in found else f"without {self.path / 'val'}"
            raise ValueError(f"data.val_split=true has no effect {cause}; leave one of them out")
        if "val" in found and not self.val_split:
            log.warning("%s is not read; data.val_split=true holds it out to tune on", found.pop("val"))
        classes = _folders_in(found["train"])
        self._name(classes, found["train"])
        for split, folder in found.items():
            if extra := [each.name for each in _folders_in(folder) if each.name not in self.classes]:
                raise DataError(f"{folder} has classes that {found['train']} has not: {', '.join(extra)}")
            if split != "train" and not _folders_in(folder):
                raise DataError(f"{folder} has no class folders")
        return {split: self._files_in(_folders_in(folder)) for split, folder in found.items()}

    def _divided(self, folders: Sequence[Path], test_fraction: float) -> dict[SplitName, Labelled]:
        if self.val_split:
            raise ValueError(f"data.val_split=true has no effect: {self.path} has no val/; use data.val_fraction")
        self._name(folders, self.path)
        files = self._files_in(folders)
        try:
            train, test = train_test_split(
                files, test_size=test_fraction, stratify=[label for _, label in files], random_state=SPLIT_SEED
            )
        except ValueError as error:
            raise DataError(f"{self.path} cannot be divided into training and test images: {error}") from error
        return {"train": train, "test": test}

    def _name(self, folders: Sequence[Path], place: Path) -> None:
        if len(folders) < 2:
            raise DataError(f"{place} must hold a folder for each of at least two classes, has {len(folders)}")
        self.class_names = self.classes = [folder.name for folder in folders]
        self.num_classes = len(self.classes)

    def _files_in(self, folders: Sequence[Path]) -> Labelled:
        files: Labelled = []
        for folder in folders:
            if not (found := files_below(folder)):
                raise DataError(f"{folder} has no images; remove the folder or fill it")
            if other := [path for path in found if not is_named_as_picture(path)]:
                raise DataError(f"{other[0]} is not a file that ends with {', '.join(SUFFIXES)}; move it away")
            files += [(path, self.classes.index(folder.name)) for path in found]
        return files


def _folders_in(place: Path) -> list[Path]:
    if not place.is_dir():
        raise DataError(f"data.path: there is no folder {place}")
    found = [entry for entry in place.iterdir() if entry.is_dir() and not PASSED_OVER.match(entry.name)]
    return sorted(found, key=lambda entry: natural(entry.name))
