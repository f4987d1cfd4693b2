"""Your own images, from folders of files."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from capsbench.data.batch import SPLIT_SEED, LabelledImages, SplitName
from capsbench.data.decoding import REMEDY, Form, Read, decode
from capsbench.data.digest import Contents, contents_of
from capsbench.data.files import DataError, at_home
from capsbench.data.foreign import free_memory_bytes
from capsbench.data.module import ImageDataModule
from capsbench.data.on_disk import OnDisk
from capsbench.data.own_files import Measured, folders_in, not_divided, split_folders
from capsbench.data.picture_cache import PictureCache
from capsbench.data.pictures import (
    LARGEST_SIDE,
    SUFFIXES,
    Fit,
    files_below,
    is_grey,
    is_named_as_picture,
    read_picture,
)
from capsbench.data.preparation import Preparation

log = logging.getLogger(__name__)

TEST_FRACTION = 0.2
Kind = TypeVar("Kind")

Labelled = list[tuple[Path, int]]
"""Files and the numbers of their classes."""


class ImageFolder(ImageDataModule):
    """Images from the files in PATH/train/CLASS/ and PATH/test/CLASS/, decoded once as a viewer shows them.

    Where the classes lie directly in PATH, a part of each is tested on, the same for every seed. Folders in that of a
    class belong to the class. Classes are numbered in the order of their names, 2 before 10. Images become grey if all
    training images are, otherwise RGB. They are kept in memory if they fit into half of what is free, else on disk.

    Args:
        path: the folder.
        data_dir: the folder that `path` is relative to.
        val_split: hold out PATH/val/CLASS/ to tune on; without PATH/test/ it is tested on in any case.
        test_fraction: the share of each class to test on where the classes lie directly in PATH.
        resize: side of the square that every image becomes; None: all must have one size.
        fit: how an image becomes square: "stretch", "crop" or "pad".
        background: the colour behind transparent parts, see `read_picture`.
        skip_unreadable: leave out images that cannot be read, and say how many; otherwise the first is an error.
        cache: where images are kept that do not fit into memory; None: in the user's cache directory.
        title: the set's name in tables; None: the folder's name.
        stands_in_for: the title of the set that these images replace.
        measured: the split that a trained network is measured on, or "all", which divides nothing; "val" and "all" read
            validation images, too; None: the set is trained on, and has at least two classes.
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
        skip_unreadable: bool = False,
        cache: str | os.PathLike[str] | None = None,
        title: str | None = None,
        stands_in_for: str | None = None,
        measured: Measured | None = None,
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
        self.skip_unreadable = skip_unreadable
        self.cache = None if cache is None else Path(cache)
        self.stands_in_for = stands_in_for
        self.measured = measured
        self.title = title or self.path.resolve().name
        self.test_fraction = test_fraction
        self.files = self._find(test_fraction)
        self.form = self._form(None if resize is None else (resize, resize))
        self.image_shape = self.form.shape

    def _form(self, size: tuple[int, int] | None) -> Form:
        """What images become: of one size, and grey if all to train on are."""
        paths = [path for path, _ in self.files["train"]]
        is_resized = size is not None
        if size is None:
            size = next(self._of_readable(lambda path: read_picture(path, self.background).size, paths), None)
        if size is None:
            raise DataError(f"{self.path}: no picture to train on can be read; the first: {paths[0]}")
        part = self.test_fraction if self.files["test"] else "all"
        is_all_grey = self.contents.remembered(f"grey-{part}", lambda: all(self._of_readable(is_grey, paths)))
        return Form((1 if is_all_grey else 3, size[1], size[0]), is_resized, self.fit, self.background)

    def _of_readable(self, what: Callable[[Path], Kind], paths: Sequence[Path]) -> Iterator[Kind]:
        for path in paths:
            try:
                yield what(path)
            except DataError as error:
                if not self.skip_unreadable:
                    raise DataError(f"{error}; {REMEDY}") from error

    @property
    def holds_out(self) -> bool:
        """Whether there is a validation split."""
        return self.val_split or super().holds_out

    @property
    def preparation(self) -> Preparation:
        """What is done to images in evaluation."""
        return replace(super().preparation, fit=self.fit, background=self.background)

    @cached_property
    def contents(self) -> Contents:
        """What the files hold."""
        return contents_of(self.path, [path for files in self.files.values() for path, _ in files])

    def load(self, split: SplitName) -> LabelledImages:
        """Decode every image of a split.

        Raises:
            DataError: a file cannot be read, or has another size.
        """
        files = self.files[split]
        paths, labels = [path for path, _ in files], torch.tensor([label for _, label in files], dtype=torch.int64)
        if not files:
            return LabelledImages(torch.empty(0, *self.form.shape, dtype=torch.uint8), labels)
        quiet = self.trainer is not None and self.trainer.progress_bar_callback is None
        decoded = partial(
            decode, paths, self.form, skip_unreadable=self.skip_unreadable, name=f"{split}: reading", quiet=quiet
        )
        whole: LabelledImages
        if self._fits_into_memory:
            read, pixels, end = Read(), np.empty((len(files), *self.form.shape), np.uint8), 0
            for block in decoded(read):
                pixels[end : (end := end + len(block))] = block
            whole = LabelledImages(torch.from_numpy(pixels), labels)
        else:
            how = json.dumps([asdict(self.form), sorted(self.files), self.test_fraction, self.skip_unreadable])
            cache = PictureCache(self.cache, self.path, self.contents.digest, how)
            images, read = cache.images(split, paths, self.form, decoded)
            whole = OnDisk(images, labels)  # type: ignore[arg-type]
        self._check_sizes(split, read)
        if not read.unreadable:
            return whole
        return whole.take(self._readable(split, read))

    @cached_property
    def _fits_into_memory(self) -> bool:
        number = sum(map(len, self.files.values()))
        return number * int(np.prod(self.form.shape)) <= free_memory_bytes() / 2

    def _check_sizes(self, split: SplitName, read: Read) -> None:
        _, height, width = self.form.shape
        if not self.form.is_resized and set(read.sizes) - {(width, height)}:
            found = ", ".join(f"{one}×{other} ({number})" for (one, other), number in read.sizes.most_common(3))
            raise DataError(
                f"{self.path}: all must have the size of the first picture to train on, {width}×{height}; "
                f"the {split} split has {len(read.sizes)} sizes, such as {found}. data.resize=64 makes all 64×64"
            )

    def _readable(self, split: SplitName, read: Read) -> list[int]:
        """Say what is left out of a split, and list the rest."""
        files, first = self.files[split], next(iter(read.unreadable.values()))
        log.warning(
            "%s: %d of %d pictures of the %s split cannot be read and are left out; the first: %s",
            *(self.path, len(read.unreadable), len(files), split, first),
        )
        self.unreadable[split] = [str(files[number][0].relative_to(self.path)) for number in read.unreadable]
        rest = [number for number in range(len(files)) if number not in read.unreadable]
        lost = set(range(self.num_classes)) - {files[number][1] for number in rest}
        if split == "train" and lost and self.measured is None:
            raise DataError(f"{self.path}: no picture of {self.classes[min(lost)]} to train on can be read")
        return rest

    def load_held_out(self) -> LabelledImages:
        """Decode every image of the validation split."""
        return self.load("val")

    def _find(self, test_fraction: float) -> dict[SplitName, Labelled]:
        """List the files of each split, and name the classes."""
        folders = folders_in(self.path)
        found = split_folders(self.path)
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
        if self.measured in ("val", "all") and "val" in found and not self.val_fraction:
            self.val_split = True
        if self.val_split and ("val" not in found or self.val_fraction):
            cause = "with data.val_fraction" if "val" in found else f"without {self.path / 'val'}"
            raise ValueError(f"data.val_split=true has no effect {cause}; leave one of them out")
        if "val" in found and not self.val_split:
            log.warning("%s is not read; data.val_split=true holds it out to tune on", found.pop("val"))
        classes = folders_in(found["train"])
        self._name(classes, found["train"])
        for split, folder in found.items():
            if extra := [each.name for each in folders_in(folder) if each.name not in self.classes]:
                raise DataError(f"{folder} has classes that {found['train']} has not: {', '.join(extra)}")
            if split != "train" and not folders_in(folder):
                raise DataError(f"{folder} has no class folders")
        return {split: self._files_in(folders_in(folder)) for split, folder in found.items()}

    def _divided(self, folders: Sequence[Path], test_fraction: float) -> dict[SplitName, Labelled]:
        if self.val_split:
            raise ValueError(f"data.val_split=true has no effect: {self.path} has no val/; use data.val_fraction")
        self._name(folders, self.path)
        files = self._files_in(folders)
        if self.measured == "all":
            return {"train": files, "test": []}
        try:
            train, test = train_test_split(
                files, test_size=test_fraction, stratify=[label for _, label in files], random_state=SPLIT_SEED
            )
        except ValueError as error:
            raise DataError(not_divided(self.path, test_fraction, self.measured, error)) from error
        return {"train": train, "test": test}

    def _name(self, folders: Sequence[Path], place: Path) -> None:
        if len(folders) < 2 and not (folders and self.measured):
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
