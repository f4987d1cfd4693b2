"""Data sets as LightningDataModules: images in memory as bytes, whole batches, computed randomness."""

from capsbench.data.base import Batch, ImageDataModule, LabelledImages
from capsbench.data.digits import Digits
from capsbench.data.errors import DataError
from capsbench.data.idx import MNIST, FashionMNIST

__all__ = ["MNIST", "Batch", "DataError", "Digits", "FashionMNIST", "ImageDataModule", "LabelledImages"]
