"""ResNet-capsule network: a pre-activation ResNet, primary capsules, capsule layers.

Trainable parameters: 903,760 on 32×32×3 with blocks (8, 8, 8) and hidden capsules (32, 16); 195,376 on 40×40×1 with
blocks (1, 1, 1) and no hidden layer. EM routing adds two for each parent.
"""

import itertools
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from capsbench.capsules import (
    BATCH_NORM_MOMENTUM,
    CapsuleLayer,
    Capsules,
    MatrixTransform,
    PrimaryCapsules,
    RouterFactory,
    VoteNormKind,
    WeightInit,
    batch_norm_2d,
)

STAGE_FILTERS = (16, 32, 64)
TOTAL_STRIDE = 8
"""Of two stages and of the primary capsules, 2 each."""


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
        batch_norm_momentum: each batch's share in the running statistics that evaluation uses; 0.01 in the paper's
            code, which is too slow for runs of a few hundred steps.

    Raises:
        ValueError: the image is smaller than 8×8, blocks are not three positive numbers, pose_dim is not a square
            number, vote_norm or weight_init is unknown, or vote_gain is not positive.

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
        self.backbone = make_backbone(channels, blocks, batch_norm_momentum)
        self.primary = PrimaryCapsules(
            STAGE_FILTERS[-1],
            groups,
            pose_dim,
            kernel_size=5,
            padding=2,
            batch_norm=True,
            batch_norm_momentum=batch_norm_momentum,
        )
        num_primary = self.primary.num_capsules(*(-(-size // 4) for size in (height, width)))
        sizes = [num_primary, *hidden_capsules, num_classes]
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


def make_backbone(channels: int, blocks: Sequence[int], momentum: float) -> nn.Sequential:
    """Make the ResNet: (batch, channels, H, W) to (batch, 64, H/4, W/4).

    Args:
        channels: of the images.
        blocks: residual blocks in each of the three stages.
        momentum: of batch normalisation.

    Raises:
        ValueError: blocks are not three positive numbers.
    """
    if len(blocks) != len(STAGE_FILTERS) or min(blocks) < 1:
        raise ValueError(f"blocks must be three numbers of at least 1, one per stage, got {list(blocks)}")
    width = STAGE_FILTERS[0]
    layers: list[nn.Module] = [conv(channels, width, 3), batch_norm_2d(width, momentum), nn.ReLU()]
    for stage, (filters, count) in enumerate(zip(STAGE_FILTERS, blocks, strict=True)):
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            activated = stage == 0 and block == 0
            layers.append(PreActivationBlock(width, filters, stride, momentum, activated=activated))
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
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, momentum: float, *, activated: bool = False
    ) -> None:
        super().__init__()
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
        """Compute shortcut plus residual; a 1×1 convolution reads the activated input."""
        activated = self.activation(x)
        shortcut = x if self.projection is None else self.projection(activated)
        return shortcut + self.residual(activated)


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Make a convolution with He-normal weights, no bias, and padding that keeps the size at stride 1."""
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer
