"""Primary capsules: the layer that turns feature maps into capsules."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.capsules.initial import Conv2d, LayerInit, StridePadding
from capsbench.capsules.normalization import BATCH_NORM_MOMENTUM, batch_norm_1d
from capsbench.routing import Capsules, check_choice, check_effect, squash, squashed_norm

PrimaryNormKind = Literal["shared", "per_capsule", "none"]
PrimaryActivation = Literal["squash", "relu"]


class PrimaryCapsules(nn.Module):
    """Convolve, group channels into capsules, normalise pose dimensions if asked to, and squash or rectify.

    Source: Sabour et al. 2017 (arXiv:1710.09829), §4; with batch norm, the paper's §3.4.

    Args:
        in_channels: channels of the feature map.
        groups: capsules at each place of the output map.
        pose_dim: dimensions of a capsule.
        map_size: (height, width) of the feature map, in pixels.
        kernel_size, stride, padding: of the convolution, in pixels.
        norm: batch normalisation of poses. "shared" keeps one mean and variance per pose dimension, over batch, places
            and groups; "per_capsule" one for each capsule and dimension, as in the authors' code for §4.4. With either
            the convolution has no bias.
        activation: "squash", or "relu" of each dimension, as in HitNet.
        batch_norm_momentum: each batch's share in the running statistics that evaluation uses.
        conv_init, stride_padding: see `capsbench.capsules.initial.Conv2d`.

    Attributes:
        num_capsules: how many capsules the map gives; 0 if it is too small.

    Raises:
        ValueError: norm, activation, conv_init or stride_padding is unknown, or batch_norm_momentum is set without a
            norm. In the forward pass: features are of other channels or another size.

    >>> import torch
    >>> primary = PrimaryCapsules(in_channels=64, groups=4, pose_dim=16, map_size=(8, 8), kernel_size=5, padding=2)
    >>> capsules = primary(torch.randn(2, 64, 8, 8))  # (batch, channel, height, width)
    >>> capsules.poses.shape, capsules.activations.shape  # (batch, 4 · 4 · groups, dim) and (batch, 4 · 4 · groups)
    (torch.Size([2, 64, 16]), torch.Size([2, 64]))
    """

    __call__: Callable[..., Capsules]

    def __init__(
        self,
        in_channels: int,
        groups: int,
        pose_dim: int,
        *,
        map_size: tuple[int, int],
        kernel_size: int,
        stride: int = 2,
        padding: int = 0,
        norm: PrimaryNormKind = "none",
        activation: PrimaryActivation = "squash",
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
        conv_init: LayerInit = "torch",
        stride_padding: StridePadding = "symmetric",
    ) -> None:
        super().__init__()
        check_choice("norm", norm, "shared", "per_capsule", "none")
        check_choice("activation", activation, "squash", "relu")
        if norm == "none":
            check_effect("batch_norm_momentum", batch_norm_momentum, BATCH_NORM_MOMENTUM, 'with norm="none"')
        self.takes = (in_channels, *map_size)
        rows, columns = ((size + 2 * padding - kernel_size) // stride + 1 for size in map_size)
        self.num_capsules = max(rows, 0) * max(columns, 0) * groups
        self.groups = groups
        self.activation = activation
        self.conv = Conv2d(
            in_channels,
            groups * pose_dim,
            kernel_size,
            stride,
            padding,
            bias=norm == "none",
            init=conv_init,
            stride_padding=stride_padding,
        )
        normed = pose_dim if norm == "shared" else self.num_capsules * pose_dim
        self.norm = None if norm == "none" else batch_norm_1d(normed, batch_norm_momentum)

    def forward(self, features: Float[Tensor, "batch channel height width"]) -> Capsules:
        """Turn a feature map into capsules; the activation of each is the length of its (rectified) pose, squashed."""
        if features.shape[1:] != self.takes:
            channels, height, width = self.takes
            raise ValueError(
                f"this layer takes (batch, {channels} channels, {height}, {width}), got {tuple(features.shape)}"
            )
        maps = torch.unflatten(self.conv(features), 1, (self.groups, -1))  # (batch, group, dim, row, column)
        poses = maps.permute(0, 3, 4, 1, 2).flatten(1, 3)
        if self.norm is not None:
            poses = self.norm(poses.reshape(-1, self.norm.num_features)).view_as(poses)
        if self.activation == "relu":
            poses = poses.relu()
            return Capsules(poses, activations=squashed_norm(poses))
        return Capsules(squash(poses), activations=squashed_norm(poses))
