"""Data sets as LightningDataModules: images in memory as bytes, whole batches, computed randomness."""

from capsbench.data.errors import DataError
from capsbench.data.module import Batch, ImageDataModule, LabelledImages
from capsbench.data.sets.affnist import AffNIST
from capsbench.data.sets.arrays import Arrays
from capsbench.data.sets.cifar10 import CIFAR10
from capsbench.data.sets.digits import Digits
from capsbench.data.sets.image_folder import ImageFolder
from capsbench.data.sets.mnist import MNIST, FashionMNIST
from capsbench.data.sets.multi_mnist import MultiMNIST
from capsbench.data.sets.small_norb import SmallNORB
from capsbench.data.sets.svhn import SVHN

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
