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
    LayerInit,
    MatrixTransform,
    PrimaryCapsules,
    RouterFactory,
    StridePadding,
    VoteNormKind,
    WeightInit,
)
from capsbench.models.backbone import STAGE_FILTERS, Shortcut, make_backbone, same_conv
from capsbench.routing import check_choice

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

    __call__: Callable[..., Capsules]

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
        check_choice("primary_norm", primary_norm, "shared", "per_capsule")
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
