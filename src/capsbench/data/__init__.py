"""Data sets as LightningDataModules: images in memory as bytes, batches and their augmentation computed.

Names are imported on first use, since each data set has dependencies of its own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capsbench.data.augmentation import Augmentation
    from capsbench.data.batch import Batch, BatchKey, LabelledImages
    from capsbench.data.files import DataError
    from capsbench.data.module import ImageDataModule
    from capsbench.data.sets.affnist import AffNIST
    from capsbench.data.sets.arrays import Arrays
    from capsbench.data.sets.cifar10 import CIFAR10
    from capsbench.data.sets.digits import Digits
    from capsbench.data.sets.image_folder import ImageFolder
    from capsbench.data.sets.mnist import MNIST, FashionMNIST
    from capsbench.data.sets.multi_mnist import MultiMNIST
    from capsbench.data.sets.small_norb import SmallNORB
    from capsbench.data.sets.svhn import SVHN

_MODULES = {
    "CIFAR10": "sets.cifar10",
    "MNIST": "sets.mnist",
    "SVHN": "sets.svhn",
    "AffNIST": "sets.affnist",
    "Arrays": "sets.arrays",
    "Augmentation": "augmentation",
    "Batch": "batch",
    "BatchKey": "batch",
    "DataError": "files",
    "Digits": "sets.digits",
    "FashionMNIST": "sets.mnist",
    "ImageDataModule": "module",
    "ImageFolder": "sets.image_folder",
    "LabelledImages": "batch",
    "MultiMNIST": "sets.multi_mnist",
    "SmallNORB": "sets.small_norb",
}
__all__ = [
    "CIFAR10",
    "MNIST",
    "SVHN",
    "AffNIST",
    "Arrays",
    "Augmentation",
    "Batch",
    "BatchKey",
    "DataError",
    "Digits",
    "FashionMNIST",
    "ImageDataModule",
    "ImageFolder",
    "LabelledImages",
    "MultiMNIST",
    "SmallNORB",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
