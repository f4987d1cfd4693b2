"""Where data sets come from: files, checksums, addresses, licences. It needs no PyTorch, so a list is quick."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from capsbench.data.files import DataFile, FileSet


def _gzipped(address: str, *files: tuple[str, str, str, float]) -> tuple[DataFile, ...]:
    """Files that an address gives compressed: name, MD5, MD5 of the download, MB of the download."""
    return tuple(DataFile(name, md5, (f"{address}/{name}.gz",), packed, size) for name, md5, packed, size in files)


MNIST = FileSet(
    "mnist",
    _gzipped(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 9.9),
        ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432", 0.03),
        ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3", 1.6),
        ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c", 0.005),
    ),
    elsewhere=("MNIST/raw",),
)
FASHION_MNIST = FileSet(
    "fashion_mnist",
    _gzipped(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        ("train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26.4),
        ("train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9", "25c81989df183df01b3e8a0aad5dffbe", 0.03),
        ("t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a", "bef4ecab320f06d8554ea6380940ec79", 4.4),
        ("t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965", "bb300cfdad3c16e7a12a480ee83cd310", 0.005),
    ),
    elsewhere=("FashionMNIST/raw", "/usr/share/datasets/fashion-mnist"),
)
CIFAR10 = FileSet(
    "cifar10",
    (
        DataFile(
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
            "c58f30108f718f92721af3b95e74349a",
            download_mb=170.5,
        ),
    ),
    elsewhere=(".",),
)
SVHN = FileSet(
    "svhn",
    tuple(
        DataFile(name, md5, (f"http://ufldl.stanford.edu/housenumbers/{name}",), md5, size)
        for name, md5, size in (
            ("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", 182.0),
            ("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", 64.3),
        )
    ),
    elsewhere=(".", "SVHN"),
)
AFFNIST = FileSet(
    "affnist",
    (
        DataFile(
            "test.mat",
            None,
            ("https://www.cs.toronto.edu/~tijmen/affNIST/32x/transformed/test.mat.zip",),
            None,
            download_mb=130.0,
            parts=tuple(f"test_batches/{number}.mat" for number in range(1, 33)),
        ),
    ),
)
NORB_STEMS = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
"""What the names of each split's three files begin with."""
SMALL_NORB = FileSet(
    "small_norb",
    _gzipped(
        "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small",
        *(
            (f"{NORB_STEMS[split]}-{part}.mat", md5, packed, size)
            for split, part, md5, packed, size in (
                ("train", "dat", "8138a0902307b32dfa0025a36dfa45ec", "66054832f9accfe74a0f4c36a75bc0a2", 131.0),
                ("train", "cat", "fd5120d3f770ad57ebe620eb61a0b633", "23c8b86101fbf0904a000b43d3ed2fd9", 0.02),
                ("train", "info", "19faee774120001fc7e17980d6960451", "51dee1210a742582ff607dfd94e332e3", 0.1),
                ("test", "dat", "e9920b7f7b2869a8f1a12e945b2c166c", "e4ad715691ed5a3a5f138751a4ceb071", 131.0),
                ("test", "cat", "fd5120d3f770ad57ebe620eb61a0b633", "5aa791cd7e6016cf957ce9bdb93b8603", 0.02),
                ("test", "info", "7c5b871cc69dcadec1bf6a18141f5edc", "a9454f3864d7fd4bb3ea7fc3eb84924e", 0.1),
            )
        ),
    ),
)


def norb_cache(digests: Iterable[str], split: str, size: int, resize_filter: str = "antialias") -> str:
    """Name the cache of a split of smallNORB, reduced to size × size, after the filter and its files' checksums."""
    digest = hashlib.md5("".join(digests).encode(), usedforsecurity=False).hexdigest()
    how = "" if resize_filter == "antialias" else f"{resize_filter}-"
    return f"{split}-{size}x{size}-{how}{digest}.npz"


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        licence, origin: in words.
        files: what it is read from; empty where nothing is downloaded.
        prepared: the names below `data_dir` of what is made of the files, and is enough.
    """

    licence: str
    origin: str
    files: tuple[FileSet, ...] = ()
    prepared: tuple[str, ...] = ()

    @property
    def download_mb(self) -> float:
        """The size of all downloads in MB."""
        return sum(file.download_mb for files in self.files for file in files.files)

    def is_here(self, data_dir: Path) -> bool:
        """Tell whether nothing has to be downloaded. Checksums are compared when the files are read."""
        is_prepared = bool(self.prepared) and all((data_dir / name).exists() for name in self.prepared)
        return is_prepared or all(files.find(data_dir) is not None for files in self.files)


_NORB_PARTS = {
    split: [str(file.md5) for file in SMALL_NORB.files if stem in file.name] for split, stem in NORB_STEMS.items()
}
SOURCES: Mapping[str, Source] = {
    "Digits": Source("CC BY 4.0", "scikit-learn (UCI Optical Recognition of Handwritten Digits)"),
    "MNIST": Source("CC BY-SA 3.0", "http://yann.lecun.com/exdb/mnist", (MNIST,)),
    "FashionMNIST": Source("MIT", "https://github.com/zalandoresearch/fashion-mnist", (FASHION_MNIST,)),
    "CIFAR10": Source(
        "not stated",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        (CIFAR10,),
        ("cifar10/cifar-10-batches-py/test_batch",),
    ),
    "SVHN": Source("non-commercial use", "http://ufldl.stanford.edu/housenumbers", (SVHN,)),
    "AffNIST": Source("not stated", "https://www.cs.toronto.edu/~tijmen/affNIST", (MNIST, AFFNIST)),
    "MultiMNIST": Source("CC BY-SA 3.0", "made from MNIST", (MNIST,)),
    "SmallNORB": Source(
        "research purposes, not for sale",
        "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small",
        (SMALL_NORB,),
        tuple(f"small_norb/{norb_cache(_NORB_PARTS[split], split, 48)}" for split in NORB_STEMS),
    ),
}
"""By the name of the data set's class; sets that are not in it are a user's own."""
