"""Your own images, from folders of files."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from capsbench.data.batch import LabelledImages, StoredSplit
from capsbench.data.files import DataError, at_home
from capsbench.data.module import ImageDataModule
from capsbench.data.pictures import SUFFIXES, as_bytes, is_grey, read_picture


class ImageFolder(ImageDataModule):
    """Images from the files in PATH/train/CLASS/ and PATH/test/CLASS/, read into memory once as a viewer shows them.

    Classes are numbered in the order of their names. All images have the same size. They become grey if all training
    images are, otherwise RGB.

    Args:
        path: the folder that holds train/ and test/.
        data_dir: the folder that `path` is relative to.
        background: the colour behind transparent parts, see `read_picture`.
        title: the set's name in tables; None: the folder's name.
        stands_in_for: the title of the set that these images replace.
        **options: see `ImageDataModule`.

    Raises:
        DataError: a folder is missing or empty, a file is not an image, sizes or classes differ.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        data_dir: str | os.PathLike[str] = "",
        background: str = "black",
        title: str | None = None,
        stands_in_for: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.path = at_home(data_dir) / at_home(path)
        self.background = background
        self.stands_in_for = stands_in_for
        self.title = title or self.path.resolve().name
        self.class_names = self.classes = [folder.name for folder in self._class_folders("train")]
        files = self._files("train")[0]
        self.size = read_picture(files[0], background).size
        grey = all(is_grey(path) for path in files)
        self.image_shape = (1 if grey else 3, self.size[1], self.size[0])
        self.num_classes = len(self.classes)

    def load(self, split: StoredSplit) -> LabelledImages:
        """Decode every image of a split."""
        found = {folder.name for folder in self._class_folders(split)}
        if not found <= set(self.classes):
            extra = ", ".join(sorted(found - set(self.classes)))
            raise DataError(f"{self.path}/test has classes that {self.path}/train has not: {extra}")
        return self._read(split)

    def _class_folders(self, split: str) -> list[Path]:
        folder = self.path / split
        if not folder.is_dir():
            raise DataError(
                f"data.path={self.path} must hold train/ and test/ with a folder for each class; no {folder}"
            )
        classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        if not classes:
            raise DataError(f"{folder} has no class folders")
        return classes

    def _files(self, split: str) -> tuple[list[Path], list[int]]:
        files, labels = [], []
        for folder in self._class_folders(split):
            found = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
            if not found:
                raise DataError(f"{folder} has no images; remove the folder or fill it")
            for path in found:
                if path.suffix.lower() not in SUFFIXES or not path.is_file():
                    raise DataError(f"{path} is not a file that ends with {', '.join(SUFFIXES)}; move it away")
            files += found
            labels += [self.classes.index(folder.name)] * len(found)
        return files, labels

    def _read(self, split: str) -> LabelledImages:
        files, labels = self._files(split)
        with ThreadPoolExecutor() as pool:
            pixels = np.stack(list(pool.map(self._decode, files, chunksize=256)))
        return LabelledImages(torch.from_numpy(pixels), torch.tensor(labels))

    def _decode(self, path: Path) -> np.ndarray:
        """Read one image as bytes (channels, height, width)."""
        image = read_picture(path, self.background)
        if image.size != self.size:
            raise DataError(f"{path} is {image.width}×{image.height}, others are {self.size[0]}×{self.size[1]}")
        return as_bytes(image, self.image_shape[0])
