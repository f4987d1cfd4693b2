"""MNIST and Fashion-MNIST, which come as IDX files."""

import tempfile

from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file

from capsbench.data import sources
from capsbench.data.batch import LabelledImages, StoredSplit
from capsbench.data.file_module import FileDataModule


class IdxImages(FileDataModule):
    """A data set in MNIST's format: four IDX files, images and labels, to train and to test."""

    image_shape = (1, 28, 28)
    num_classes = 10

    def load(self, split: StoredSplit) -> LabelledImages:
        """Read, verify and parse the two files of a split."""
        place, prefix = self.source.fetch(self.data_dir), "train" if split == "train" else "t10k"
        images = parse_idx(self.source.read(place, f"{prefix}-images-idx3-ubyte"), "images")
        labels = parse_idx(self.source.read(place, f"{prefix}-labels-idx1-ubyte"), "labels")
        return LabelledImages(images.unsqueeze(1), labels)

    def untransformed_images(self) -> LabelledImages:
        """Give the test images."""
        return self.splits["test"]


def parse_idx(content: bytes, kind: str) -> Tensor:
    """Parse the content of an IDX file: images (example, height, width) or labels (example,)."""
    with tempfile.NamedTemporaryFile(prefix="idx") as plain:
        plain.write(content)
        plain.flush()
        return read_image_file(plain.name) if kind == "images" else read_label_file(plain.name)


class MNIST(IdxImages):
    """Handwritten digits, 60,000 + 10,000 (LeCun, Bottou, Bengio and Haffner 1998)."""

    title = "MNIST"
    source = sources.MNIST


class FashionMNIST(IdxImages):
    """Zalando's article pictures, 60,000 + 10,000 (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747).

    The files of Debian's package dataset-fashion-mnist are found too.
    """

    title = "Fashion-MNIST"
    class_names = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
    )  # fmt: skip
    source = sources.FASHION_MNIST
