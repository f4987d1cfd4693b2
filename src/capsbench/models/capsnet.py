"""CapsNet: two convolutions and one capsule layer.

Trainable parameters, without a decoder: 6,804,224 on 28×28×1 and 7,992,576 on 32×32×3 with 256 filters and 32 groups;
705,728 and 1,002,816 with 64 filters and 8 groups; 22,476,288 on 24×24×3 with 64 groups and padding.
"""

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from capsbench.capsules import (
    CapsuleLayer,
    Capsules,
    Conv2d,
    FullTransform,
    LayerInit,
    PrimaryActivation,
    PrimaryCapsules,
    RouterFactory,
    WeightInit,
)
from capsbench.routing import check_choice


class CapsNet(nn.Module):
    """Classify images by two convolutions and one capsule layer, with any router.

    Source: Sabour et al. 2017 (arXiv:1710.09829), fig. 1.

    Args:
        image_shape: (channels, height, width) of the images.
        num_classes: number of class capsules.
        router: makes the router of the class capsules.
        filters: output channels of the first convolution; 256 in the paper, 64 in the authors' lighter variant.
        groups: primary capsules at each place; 32 in the paper, 8 in the lighter variant.
        padding: "valid" pads nothing; "same" pads for both convolutions as TensorFlow does, which Sabour et al.'s code
            does for CIFAR-10, with 64 groups.
        primary_dim, pose_dim: dimensions of primary and class capsules.
        primary: "squash", or "relu" for primary capsules as in HitNet.
        weight_init: see `capsbench.capsules.transforms.glorot_normal_`.
        conv_init: "torch", or "keras" for the convolutions of the authors' code: the first begins with Glorot's uniform
            distribution, and biases are 0.

    Raises:
        ValueError: the image is smaller than 17×17 and not padded, primary capsules are rectified and the router needs
            activations, or padding, primary, weight_init or conv_init is unknown.

    >>> import torch
    >>> from capsbench.routing import DynamicRouting
    >>> net = CapsNet((1, 28, 28), 10, DynamicRouting, filters=64, groups=8)
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
        filters: int = 256,
        groups: int = 32,
        padding: Literal["valid", "same"] = "valid",
        primary_dim: int = 8,
        pose_dim: int = 16,
        primary: PrimaryActivation = "squash",
        weight_init: WeightInit = "pair",
        conv_init: LayerInit = "torch",
    ) -> None:
        super().__init__()
        check_choice("padding", padding, "valid", "same")
        check_choice("primary", primary, "squash", "relu")
        channels, height, width = image_shape
        if padding == "valid" and min(height, width) < 17:
            raise ValueError(
                f"CapsNet needs images of at least 17×17 pixels for its two 9×9 convolutions, got {height}×{width}; "
                'use larger images, padding="same" or ResNetCapsNet'
            )
        border = 4 if padding == "same" else 0
        self.num_classes, self.pose_dim = num_classes, pose_dim
        self.conv = Conv2d(channels, filters, 9, padding=border, bias=True, he=False, init=conv_init)
        self.primary = PrimaryCapsules(
            filters,
            groups,
            primary_dim,
            map_size=(height - 8 + 2 * border, width - 8 + 2 * border),
            kernel_size=9,
            padding=border,
            stride_padding="tensorflow" if border else "symmetric",
            activation=primary,
            conv_init=conv_init,
        )
        transform = FullTransform(self.primary.num_capsules, num_classes, primary_dim, pose_dim, weight_init)
        self.class_capsules = CapsuleLayer(transform, router)
        made = self.class_capsules.router
        if primary == "relu" and made.needs_activations:
            raise ValueError(
                f"rectified primary capsules have no activations, by which {type(made).__name__} weighs them; "
                'take primary="squash", or a router that needs none: HitOrMiss, FMAgreement …'
            )

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Capsules:
        """Map images to class capsules: poses (batch, class, dim), activations (batch, class)."""
        capsules: Capsules = self.class_capsules(self.primary(self.conv(images).relu_()))
        return capsules
