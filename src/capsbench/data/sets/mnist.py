"""MNIST and Fashion-MNIST, which come as IDX files."""

import tempfile
from pathlib import Path

from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file

from capsbench.data.batch import LabelledImages
from capsbench.data.file_module import FileDataModule
from capsbench.data.files import DataFile, FileSet


class IdxImages(FileDataModule):
    """A data set in MNIST's format: four IDX files, images and labels, to train and to test."""

    image_shape = (1, 28, 28)
    num_classes = 10

    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """Read, verify and parse the four files."""
        place = self.source.fetch(self.data_dir)
        return self._load_split(place, "train"), self._load_split(place, "t10k")

    def untransformed_images(self) -> LabelledImages:
        """Give the test images."""
        return self.splits["test"]

    def _load_split(self, place: Path, split: str) -> LabelledImages:
        images = parse_idx(self.source.read(place, f"{split}-images-idx3-ubyte"), "images")
        labels = parse_idx(self.source.read(place, f"{split}-labels-idx1-ubyte"), "labels")
        return LabelledImages(images.unsqueeze(1), labels)


def parse_idx(content: bytes, kind: str) -> Tensor:
    """Parse the content of an IDX file: images (example, height, width) or labels (example,)."""
    with tempfile.NamedTemporaryFile(prefix="idx") as plain:
        plain.write(content)
        plain.flush()
        return read_image_file(plain.name) if kind == "images" else read_label_file(plain.name)


def _idx_files(mirrors: tuple[str, ...], *files: tuple[str, str, str, float]) -> tuple[DataFile, ...]:
    return tuple(
        DataFile(name, md5, tuple(f"{mirror}{name}.gz" for mirror in mirrors), download_md5, megabytes)
        for name, md5, download_md5, megabytes in files
    )


class MNIST(IdxImages):
    """Handwritten digits, 60,000 + 10,000 (LeCun, Bottou, Bengio and Haffner 1998)."""

    title = "MNIST"
    licence = "CC BY-SA 3.0"
    origin = "http://yann.lecun.com/exdb/mnist"
    source = FileSet(
        "mnist",
        _idx_files(
            ("https://ossci-datasets.s3.amazonaws.com/mnist/",),
            ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 9.9),
            ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432", 0.03),
            ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3", 1.6),
            ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c", 0.005),
        ),
        elsewhere=("MNIST/raw",),
    )
    file_sets = (source,)


class FashionMNIST(IdxImages):
    """Zalando's article pictures, 60,000 + 10,000 (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747).

    The files of Debian's package dataset-fashion-mnist are found too.
    """

    title = "Fashion-MNIST"
    licence = "MIT"
    origin = "https://github.com/zalandoresearch/fashion-mnist"
    source = FileSet(
        "fashion_mnist",
        _idx_files(
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            ("train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26.4),
            ("train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9", "25c81989df183df01b3e8a0aad5dffbe", 0.03),
            ("t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a", "bef4ecab320f06d8554ea6380940ec79", 4.4),
            ("t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965", "bb300cfdad3c16e7a12a480ee83cd310", 0.005),
        ),
        elsewhere=("FashionMNIST/raw", "/usr/share/datasets/fashion-mnist"),
    )
    file_sets = (source,)
