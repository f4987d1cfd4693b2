"""MNIST and Fashion-MNIST: four IDX files, found, downloaded, and checked before a byte of them is used."""

import contextlib
import gzip
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torchvision.datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from capsbench.data.base import DataError, ImageDataModule, LabelledImages


class IdxImages(ImageDataModule):
    """A data set in MNIST's format: images and labels, training and test, each one IDX file, gzip-compressed or not.

    Sources, in order: `data_dir`/<folder>, `data_dir` as torchvision lays it out, the system's own copy, download.

    Args:
        data_dir: where data sets are kept.
        **options: see `ImageDataModule`.
    """

    image_shape = (1, 28, 28)
    num_classes = 10
    folder: ClassVar[str]
    md5: ClassVar[Mapping[str, str]]
    """Digest of each file's content, uncompressed: a copy compressed by someone else is as good."""
    torchvision_class: ClassVar[type[torchvision.datasets.MNIST]]
    system_folders: ClassVar[tuple[Path, ...]] = ()

    def __init__(self, *, data_dir: str | os.PathLike[str] = "data", **options: Any) -> None:
        super().__init__(**options)
        self.data_dir = Path(data_dir)

    def prepare_data(self) -> None:
        """Make sure the files are somewhere; download them if not."""
        self.locate()

    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """Read, check and parse the four files."""
        folder = self.locate()
        return self._load_split(folder, "train"), self._load_split(folder, "t10k")

    def locate(self) -> Path:
        """The first folder that has all four files.

        Raises:
            DataError: none has, and the download failed.
        """
        torchvision_raw = self.data_dir / self.torchvision_class.__name__ / "raw"
        candidates = (self.data_dir / self.folder, torchvision_raw, *self.system_folders)
        for candidate in candidates:
            if not self._missing(candidate):
                return candidate
        try:
            with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
                self.torchvision_class(str(self.data_dir), download=True)
        except (OSError, RuntimeError) as error:
            looked = "; ".join(f"{path} lacks {self._missing(path)}" for path in candidates)
            reason = " ".join(str(error).split())
            raise DataError(
                f"{self.folder} is not here and could not be downloaded ({reason}). Looked in: {looked}. "
                f"Put its four files into {candidates[0]}, or set data_dir or CAPSBENCH_DATA to where they are"
            ) from error
        return torchvision_raw

    def _missing(self, folder: Path) -> str:
        """Which of the four files a folder lacks, in words; empty if none."""
        missing = [name for name in self.md5 if not any(path.is_file() for path in _spellings(folder, name))]
        return "all four files" if len(missing) == len(self.md5) else ", ".join(missing)

    def _load_split(self, folder: Path, split: str) -> LabelledImages:
        with self._checked(folder, f"{split}-images-idx3-ubyte") as path:
            images = read_image_file(path).unsqueeze(1)
        with self._checked(folder, f"{split}-labels-idx1-ubyte") as path:
            labels = read_label_file(path)
        return LabelledImages(images, labels)

    @contextlib.contextmanager
    def _checked(self, folder: Path, name: str) -> Iterator[str]:
        """The file's content under a plain path, after its digest has matched."""
        source = next(path for path in _spellings(folder, name) if path.is_file())
        try:
            content = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
        except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
            raise DataError(f"{source} cannot be read ({error}); delete it to have it downloaded again") from error
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != self.md5[name]:
            raise DataError(
                f"{source} is damaged or another file: its content must have MD5 {self.md5[name]}, has {found}; "
                "delete it to have it downloaded again"
            )
        with tempfile.NamedTemporaryFile(prefix=name) as plain:
            plain.write(content)
            plain.flush()
            yield plain.name


def _spellings(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.gz", folder / name


class MNIST(IdxImages):
    """Handwritten digits, 60,000 + 10,000 (LeCun, Bottou, Bengio and Haffner 1998)."""

    folder = "mnist"
    torchvision_class = torchvision.datasets.MNIST
    md5 = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }


class FashionMNIST(IdxImages):
    """Zalando's article pictures, 60,000 + 10,000 (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747).

    Debian's package dataset-fashion-mnist is one of its sources.
    """

    folder = "fashion_mnist"
    torchvision_class = torchvision.datasets.FashionMNIST
    system_folders = (Path("/usr/share/datasets/fashion-mnist"),)
    md5 = {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }
