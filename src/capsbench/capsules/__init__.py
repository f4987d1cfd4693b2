"""Capsule layers in plain PyTorch: primary capsules, transforms, the layer that routes, decoders."""

from capsbench.capsules.convolutional import Competition, ConvCapsuleLayer
from capsbench.capsules.decoders import DeconvDecoder, DeepCapsDecoder, DenseDecoder
from capsbench.capsules.initial import Conv2d, LayerInit, Linear, StridePadding, initialise
from capsbench.capsules.layer import CapsuleLayer
from capsbench.capsules.normalization import BATCH_NORM_MOMENTUM, VoteNorm, VoteNormKind, batch_norm_1d, batch_norm_2d
from capsbench.capsules.primary import PrimaryActivation, PrimaryCapsules
from capsbench.capsules.routing_3d import ConvRouting3d
from capsbench.capsules.shared_transform import SharedMatrixTransform
from capsbench.capsules.transforms import FullTransform, MatrixTransform, WeightInit
from capsbench.routing import Capsules, RouterFactory, squash

__all__ = [
    "BATCH_NORM_MOMENTUM",
    "CapsuleLayer",
    "Capsules",
    "Competition",
    "Conv2d",
    "ConvCapsuleLayer",
    "ConvRouting3d",
    "DeconvDecoder",
    "DeepCapsDecoder",
    "DenseDecoder",
    "FullTransform",
    "LayerInit",
    "Linear",
    "MatrixTransform",
    "PrimaryActivation",
    "PrimaryCapsules",
    "RouterFactory",
    "SharedMatrixTransform",
    "StridePadding",
    "VoteNorm",
    "VoteNormKind",
    "WeightInit",
    "batch_norm_1d",
    "batch_norm_2d",
    "initialise",
    "squash",
]
