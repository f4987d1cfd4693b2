"""Data sets as LightningDataModules: images in memory as bytes, whole batches, computed randomness."""

from capsbench.data.affnist import AffNIST
from capsbench.data.arrays import Arrays
from capsbench.data.base import Batch, ImageDataModule, LabelledImages
from capsbench.data.cifar10 import CIFAR10
from capsbench.data.digits import Digits
from capsbench.data.errors import DataError
from capsbench.data.idx import MNIST, FashionMNIST
from capsbench.data.image_folder import ImageFolder
from capsbench.data.multi_mnist import MultiMNIST
from capsbench.data.small_norb import SmallNORB
from capsbench.data.svhn import SVHN

__all__ = [
    "CIFAR10",
    "MNIST",
    "SVHN",
    "AffNIST",
    "Arrays",
    "Batch",
    "DataError",
    "Digits",
    "FashionMNIST",
    "ImageDataModule",
    "ImageFolder",
    "LabelledImages",
    "MultiMNIST",
    "SmallNORB",
]
