"""Architectures: images to class capsules, with any router; and a control without."""

from capsbench.models.capsnet import CapsNet
from capsbench.models.deepcaps import DeepCaps
from capsbench.models.efficient_capsnet import EfficientCapsNet
from capsbench.models.matrix_capsnet import MatrixCapsNet
from capsbench.models.resnet import ResNet
from capsbench.models.resnet_capsnet import ResNetCapsNet

__all__ = ["CapsNet", "DeepCaps", "EfficientCapsNet", "MatrixCapsNet", "ResNet", "ResNetCapsNet"]
