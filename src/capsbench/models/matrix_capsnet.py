"""Matrix capsules: a convolution, primary capsules, two convolutional capsule layers, class capsules.

Trainable parameters with EM routing, for 10 classes on 28×28×1: 68,308 with 64 filters and 8, 16, 16 types of capsules;
318,420 with 32 of each. All transforms are shared by all places, so the image's size does not matter.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.capsules import (
    BATCH_NORM_MOMENTUM,
    CapsuleLayer,
    Capsules,
    Conv2d,
    ConvCapsuleLayer,
    LayerInit,
    MatrixTransform,
    RouterFactory,
    SharedMatrixTransform,
    VoteNormKind,
    WeightInit,
)
from capsbench.routing import check_choice, check_effect, squashed_norm

KERNEL, FIRST_KERNEL = 3, 5
STRIDES = (2, 1)
"""Of the two convolutional capsule layers."""


class MatrixCapsNet(nn.Module):
    """Classify images by capsules with 4×4 poses that see only a part of the map below them. Takes any router.

    Source: Hinton et al. 2018, "Matrix Capsules with EM Routing" (ICLR 2018), fig. 1, and its authors' release. The
    arithmetic of EM is that of `EMRouting`.

    Args:
        image_shape: (channels, height, width) of the images.
        num_classes: number of class capsules.
        router: makes the router of each capsule layer.
        filters: of the first convolution, 5×5 with stride 2.
        primary_types: capsules at each place of the map below the first capsule layer.
        hidden_types: parents at each place of the two convolutional capsule layers.
        pose_dim: dimensions of every capsule; a square number.
        first_padding: zeros around the image, in pixels: 0 as in the release; 2 as in Gritzman 2019 (arXiv:1907.00652).
        primary_bias: whether the convolutions to primary capsules have biases; not in the release.
        primary_logit: added to the logit of primary activations; -1 in the release. A router that reads no activations
            gets lengths of poses instead.
        competition: of the convolutional layers, see `ConvCapsuleLayer`; "auto" is "all" with EM and VB routing.
        coordinate_scale: of the class capsules' votes, see `SharedMatrixTransform`.
        vote_norm, vote_gain, batch_norm_momentum: see `CapsuleLayer`.
        weight_init: see `capsbench.capsules.transforms.glorot_normal_`.
        conv_init: see `capsbench.capsules.initial.Conv2d`.

    Raises:
        ValueError: the image is too small, first_padding is negative, hidden_types are not two numbers, pose_dim is not
            a square number, or a setting has none of the values above or no effect.

    >>> import torch
    >>> from capsbench.routing import EMRouting
    >>> net = MatrixCapsNet((1, 28, 28), 10, EMRouting, filters=64, primary_types=8, hidden_types=(16, 16))
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
        filters: int = 32,
        primary_types: int = 32,
        hidden_types: Sequence[int] = (32, 32),
        pose_dim: int = 16,
        first_padding: int = 0,
        primary_bias: bool = False,
        primary_logit: float = -1.0,
        competition: Literal["auto", "place", "all"] = "auto",
        coordinate_scale: float = 1.0,
        vote_norm: VoteNormKind = "none",
        vote_gain: float | None = None,
        weight_init: WeightInit = "pair",
        conv_init: LayerInit = "torch",
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
    ) -> None:
        super().__init__()
        check_choice("competition", competition, "auto", "place", "all")
        if len(hidden_types) != len(STRIDES):
            raise ValueError(f"hidden_types must be two numbers, one per layer, got {list(hidden_types)}")
        if first_padding < 0:
            raise ValueError(f"first_padding must be at least 0, got {first_padding}")
        channels, height, width = image_shape
        least = self.least_size(first_padding)
        if min(height, width) < least:
            raise ValueError(
                f"MatrixCapsNet needs images of at least {least}×{least} pixels, got {height}×{width}; "
                "use larger images, first_padding=2, or ResNetCapsNet"
            )
        self.num_classes, self.pose_dim = num_classes, pose_dim
        self.primary_types, self.primary_logit = primary_types, primary_logit
        self.conv = Conv2d(channels, filters, FIRST_KERNEL, 2, first_padding, bias=True, init=conv_init)
        self.primary_poses = Conv2d(filters, primary_types * pose_dim, 1, bias=primary_bias, he=False, init=conv_init)
        rows, columns = ((size + 2 * first_padding - FIRST_KERNEL) // 2 + 1 for size in (height, width))
        grid, types = (rows, columns), primary_types
        layers: list[ConvCapsuleLayer] = []
        for parents, stride in zip(hidden_types, STRIDES, strict=True):
            layer = ConvCapsuleLayer(
                MatrixTransform(KERNEL**2 * types, parents, pose_dim, weight_init),
                router,
                grid=grid,
                kernel_size=KERNEL,
                stride=stride,
                competition=None if competition == "auto" else competition,
                feeds_capsules=True,
                vote_norm=vote_norm,
                vote_gain=vote_gain,
                batch_norm_momentum=batch_norm_momentum,
            )
            layers.append(layer)
            grid, types = layer.parent_grid, parents
        router_made = layers[0].layer.router
        reads = router_made.reads_activations  # else weights without a gradient would stop DDP
        if not reads:
            check_effect("primary_logit", primary_logit, -1.0, f"with {type(router_made).__name__}")
        self.primary_activations = (
            Conv2d(filters, primary_types, 1, bias=primary_bias, he=False, init=conv_init) if reads else None
        )
        shared = SharedMatrixTransform(grid, types, num_classes, pose_dim, weight_init, coordinate_scale)
        class_layer = CapsuleLayer(
            shared, router, vote_norm=vote_norm, vote_gain=vote_gain, batch_norm_momentum=batch_norm_momentum
        )
        self.capsule_layers = nn.Sequential(*layers, class_layer)

    @staticmethod
    def least_size(first_padding: int) -> int:
        """Return how many pixels an image's side must have: one place for the class capsules to read."""
        places = 1
        for stride in reversed(STRIDES):
            places = (places - 1) * stride + KERNEL
        return (places - 1) * 2 + FIRST_KERNEL - 2 * first_padding

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Capsules:
        """Map images to class capsules: poses (batch, class, dim), activations (batch, class)."""
        features = self.conv(images).relu_()
        poses = rearrange(self.primary_poses(features), "b (type dim) h w -> b (h w type) dim", type=self.primary_types)
        if self.primary_activations is None:
            activations = squashed_norm(poses)
        else:
            logits = rearrange(self.primary_activations(features), "b type h w -> b (h w type)")
            activations = (logits + self.primary_logit).sigmoid()
        capsules: Capsules = self.capsule_layers(Capsules(poses, activations))
        return capsules
