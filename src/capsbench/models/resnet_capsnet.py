"""ResNet-capsule network: a pre-activation ResNet, primary capsules, capsule layers.

Trainable parameters: 903,760 on 32×32×3 with blocks (8, 8, 8) and hidden capsules (32, 16); 195,376 on 40×40×1 with
blocks (1, 1, 1) and no hidden layer. EM routing adds two for each parent.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from capsbench.capsules import (
    BATCH_NORM_MOMENTUM,
    CapsuleLayer,
    Capsules,
    Conv2d,
    LayerInit,
    MatrixTransform,
    PrimaryCapsules,
    RouterFactory,
    StridePadding,
    VoteNormKind,
    WeightInit,
    batch_norm_2d,
)
from capsbench.routing import check_choice

STAGE_FILTERS = (16, 32, 64)
TOTAL_STRIDE = 8
"""Of two stages and of the primary capsules, 2 each."""

Shortcut = Literal["activated", "raw"]


class ResNetCapsNet(nn.Module):
    """Classify images by a ResNet and capsule layers, with any router.

    Source: the paper's §3.4 and fig. 3.

    Args:
        image_shape: (channels, height, width) of the images.
        num_classes: number of class capsules.
        router: makes the router of each capsule layer.
        blocks: residual blocks in the stages of 16, 32 and 64 filters.
        hidden_capsules: capsules of each layer before the class capsules.
        groups: primary capsules at each place.
        pose_dim: dimensions of every capsule; a square number.
        vote_norm, vote_gain: see `CapsuleLayer`.
        weight_init: see `capsbench.capsules.transforms.glorot_normal_`.
        conv_init: "torch", or "keras", which cuts He's normal distribution at 2σ.
        shortcut: what a shortcut's 1×1 convolution reads: "activated", the block's input after batch norm and ReLU, as
            in He et al.'s code; or "raw", the input before them, as in the authors' code.
        stride_padding: "symmetric", or "tensorflow", as in the authors' code; see `capsbench.capsules.initial.Conv2d`.
        primary_norm: see `PrimaryCapsules`.
        batch_norm_momentum: each batch's share in the running statistics that evaluation uses; 0.01 in the paper's
            code, which is too slow for runs of a few hundred steps.

    Raises:
        ValueError: the image is smaller than 8×8, blocks are not three positive numbers, pose_dim is not a square
            number, vote_gain is not positive, or a setting has none of the values above.

    >>> import torch
    >>> from capsbench.routing import FMAgreement
    >>> net = ResNetCapsNet((1, 28, 28), 10, FMAgreement, blocks=(1, 1, 1), hidden_capsules=())
    >>> capsules = net(torch.rand(2, 1, 28, 28))  # (batch, channel, height, width)
    >>> capsules.poses.shape, capsules.activations.shape  # (batch, class, dim) and (batch, class)
    (torch.Size([2, 10, 16]), torch.Size([2, 10]))
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        router: RouterFactory,
        *,
        blocks: Sequence[int] = (8, 8, 8),
        hidden_capsules: Sequence[int] = (32, 16),
        groups: int = 4,
        pose_dim: int = 16,
        vote_norm: VoteNormKind = "shared",
        vote_gain: float | None = None,
        weight_init: WeightInit = "pair",
        conv_init: LayerInit = "torch",
        shortcut: Shortcut = "activated",
        stride_padding: StridePadding = "symmetric",
        primary_norm: Literal["shared", "per_capsule"] = "shared",
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        if min(height, width) < TOTAL_STRIDE:
            raise ValueError(
                f"ResNetCapsNet needs images of at least {TOTAL_STRIDE}×{TOTAL_STRIDE} pixels, its total stride, "
                f"got {height}×{width}"
            )
        self.num_classes, self.pose_dim = num_classes, pose_dim
        check_choice("arch.primary_norm", primary_norm, "shared", "per_capsule")
        conv = partial(same_conv, init=conv_init, stride_padding=stride_padding)
        self.backbone = make_backbone(channels, blocks, batch_norm_momentum, shortcut, conv)
        self.primary = PrimaryCapsules(
            STAGE_FILTERS[-1],
            groups,
            pose_dim,
            map_size=(-(-height // 4), -(-width // 4)),
            kernel_size=5,
            padding=2,
            norm=primary_norm,
            batch_norm_momentum=batch_norm_momentum,
            conv_init=conv_init,
            stride_padding=stride_padding,
        )
        sizes = [self.primary.num_capsules, *hidden_capsules, num_classes]
        self.capsule_layers = nn.ModuleList(
            CapsuleLayer(
                MatrixTransform(children, parents, pose_dim, weight_init),
                router,
                vote_norm=vote_norm,
                vote_gain=vote_gain,
                feeds_capsules=layer < len(hidden_capsules),
                batch_norm_momentum=batch_norm_momentum,
            )
            for layer, (children, parents) in enumerate(itertools.pairwise(sizes))
        )

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Capsules:
        """Map images to class capsules: poses (batch, class, dim), activations (batch, class)."""
        capsules: Capsules = self.primary(self.backbone(images))
        for layer in self.capsule_layers:
            capsules = layer(capsules)
        return capsules


def same_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    init: LayerInit = "torch",
    stride_padding: StridePadding = "symmetric",
) -> Conv2d:
    """Make a convolution with He-normal weights, no bias, and padding that keeps the size at stride 1."""
    padding = kernel_size // 2
    return Conv2d(in_channels, out_channels, kernel_size, stride, padding, init=init, stride_padding=stride_padding)


def make_backbone(
    channels: int,
    blocks: Sequence[int],
    momentum: float,
    shortcut: Shortcut = "activated",
    conv: Callable[..., nn.Module] = same_conv,
) -> nn.Sequential:
    """Make the ResNet: (batch, channels, H, W) to (batch, 64, H/4, W/4).

    Args:
        channels: of the images.
        blocks: residual blocks in each of the three stages.
        momentum: of batch normalisation.
        shortcut: see `ResNetCapsNet`.
        conv: makes a convolution of (in_channels, out_channels, kernel_size, stride).

    Raises:
        ValueError: blocks are not three positive numbers, or shortcut is unknown.
    """
    check_choice("arch.shortcut", shortcut, "activated", "raw")
    if len(blocks) != len(STAGE_FILTERS) or min(blocks) < 1:
        raise ValueError(f"blocks must be three numbers of at least 1, one per stage, got {list(blocks)}")
    width = STAGE_FILTERS[0]
    layers: list[nn.Module] = [conv(channels, width, 3), batch_norm_2d(width, momentum), nn.ReLU()]
    for stage, (filters, count) in enumerate(zip(STAGE_FILTERS, blocks, strict=True)):
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            activated = stage == 0 and block == 0
            layers.append(
                PreActivationBlock(width, filters, stride, momentum, activated=activated, shortcut=shortcut, conv=conv)
            )
            width = filters
    return nn.Sequential(*layers, batch_norm_2d(width, momentum), nn.ReLU())


class PreActivationBlock(nn.Module):
    """Add two convolutions, each after batch norm and ReLU, to a shortcut.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks" (arXiv:1603.05027).

    Args:
        in_channels, out_channels: of the block. If they differ, or if stride is not 1, the shortcut is a 1×1
            convolution.
        stride: of the first convolution, in pixels.
        momentum: of batch normalisation.
        activated: the input has passed batch norm and ReLU already, as after the first convolution of the network.
        shortcut: see `ResNetCapsNet`.
        conv: see `make_backbone`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        momentum: float,
        *,
        activated: bool = False,
        shortcut: Shortcut = "activated",
        conv: Callable[..., nn.Module] = same_conv,
    ) -> None:
        super().__init__()
        self.reads_raw = shortcut == "raw"
        self.activation = nn.Identity() if activated else nn.Sequential(batch_norm_2d(in_channels, momentum), nn.ReLU())
        self.residual = nn.Sequential(
            conv(in_channels, out_channels, 3, stride),
            batch_norm_2d(out_channels, momentum),
            nn.ReLU(),
            conv(out_channels, out_channels, 3),
        )
        changes_shape = stride != 1 or in_channels != out_channels
        self.projection = conv(in_channels, out_channels, 1, stride) if changes_shape else None

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch out h w"]:
        """Compute shortcut plus residual."""
        activated = self.activation(x)
        shortcut = x if self.projection is None else self.projection(x if self.reads_raw else activated)
        return shortcut + self.residual(activated)
