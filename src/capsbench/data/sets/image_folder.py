"""Your own images, from folders of PNG or JPEG files."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from capsbench.data.batch import LabelledImages, StoredSplit
from capsbench.data.files import DataError, at_home
from capsbench.data.module import ImageDataModule

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
"""Of what is read, whatever a file is called: Pillow would run Ghostscript for a file of PostScript."""
LARGEST_SIDE = 4096
"""Pixels in either direction: a small file of more would fill the memory."""
GREY = ("1", "L", "LA", "I", "I;16")
"""Pillow's modes without colour."""


class ImageFolder(ImageDataModule):
    """Images from PATH/train/CLASS/*.png and PATH/test/CLASS/*.png (or .jpg, .jpeg), read into memory once.

    Classes are numbered in the order of their names. All images have the same size. They become grey if all training
    images are, otherwise RGB.

    Args:
        path: the folder that holds train/ and test/.
        data_dir: the folder that `path` is relative to.
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
        title: str | None = None,
        stands_in_for: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.path = at_home(data_dir) / at_home(path)
        self.stands_in_for = stands_in_for
        self.title = title or self.path.resolve().name
        self.class_names = self.classes = [folder.name for folder in self._class_folders("train")]
        files = self._files("train")[0]
        with _open(files[0]) as first:
            self.size = first.size
        grey = all(_is_grey(path) for path in files)
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
                    raise DataError(f"{path} is not a PNG or JPEG file; move it away")
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
        with _open(path) as image:
            if image.size != self.size:
                raise DataError(f"{path} is {image.size[0]}×{image.size[1]}, others are {self.size[0]}×{self.size[1]}")
            try:
                pixels = np.asarray(image.convert("L" if self.image_shape[0] == 1 else "RGB"))
            except Exception as error:  # each format has errors of its own
                raise DataError(f"{path} is damaged: {error}") from error
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _is_grey(path: Path) -> bool:
    with _open(path) as image:
        return image.mode in GREY


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=FORMATS)
    except Exception as error:  # each format has errors of its own, and an image of too many pixels, too
        raise DataError(f"{path} is not an image in PNG or JPEG format: {error}") from error
    if image.width > LARGEST_SIDE or image.height > LARGEST_SIDE:
        image.close()
        raise DataError(f"{path} is {image.width}×{image.height}, at most {LARGEST_SIDE}×{LARGEST_SIDE} can be read")
    return image
