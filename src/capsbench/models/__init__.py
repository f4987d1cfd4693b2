"""Architectures: image to class capsules. Each takes its router as a factory and knows none by name."""

from capsbench.models.capsnet import CapsNet
from capsbench.models.resnet_capsnet import ResNetCapsNet

__all__ = ["CapsNet", "ResNetCapsNet"]
