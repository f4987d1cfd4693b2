"""Architectures: images to class capsules, with any router."""

from capsbench.models.capsnet import CapsNet
from capsbench.models.resnet_capsnet import ResNetCapsNet

__all__ = ["CapsNet", "ResNetCapsNet"]
