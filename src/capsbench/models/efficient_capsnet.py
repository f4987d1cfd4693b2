"""Efficient-CapsNet: four convolutions, one capsule per group of channels, and one capsule layer.

Trainable parameters with self-attention routing: 161,824 on 28×28×1 and 168,544 on 32×32×3 for 10 classes; 151,664 on
48×48×2 for 5, with the first layer and the norm of smallNORB. Theirs: 161K and 151K.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.capsules import (
    BATCH_NORM_MOMENTUM,
    CapsuleLayer,
    Capsules,
    Conv2d,
    FullTransform,
    LayerInit,
    RouterFactory,
    WeightInit,
    batch_norm_2d,
)
from capsbench.routing import check_choice, check_effect, exp_squash, exp_squashed_norm

FILTERS = (32, 64, 64, 128)


class EfficientCapsNet(nn.Module):
    """Classify images by few capsules: each sees the whole map, but only its own channels. Takes any router.

    Source: Mazzia et al. 2021 (arXiv:2101.12491), and its code, whose router is `AttentionRouting`.

    Args:
        image_shape: (channels, height, width) of the images.
        num_classes: number of class capsules.
        router: makes the router of the class capsules.
        first_kernel, first_stride: of the first convolution, in pixels; 5 and 1, for smallNORB 7 and 2.
        norm: after each convolution's activation: "batch" after ReLU, or "instance" after a leaky ReLU, for smallNORB.
        primary_dim, pose_dim: dimensions of primary and class capsules; the former must divide 128.
        weight_init: see `capsbench.capsules.transforms.glorot_normal_`.
        conv_init: see `capsbench.capsules.initial.Conv2d`.
        batch_norm_momentum: each batch's share in the running statistics that evaluation uses.

    Raises:
        ValueError: the image is too small for the four convolutions, or leaves an instance norm one pixel; primary_dim
            does not divide 128; norm, weight_init or conv_init is unknown; or batch_norm_momentum is set without a
            batch norm.

    >>> import torch
    >>> from capsbench.routing import AttentionRouting
    >>> net = EfficientCapsNet((1, 28, 28), 10, AttentionRouting)
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
        first_kernel: int = 5,
        first_stride: int = 1,
        norm: Literal["batch", "instance"] = "batch",
        primary_dim: int = 8,
        pose_dim: int = 16,
        weight_init: WeightInit = "pair",
        conv_init: LayerInit = "torch",
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
    ) -> None:
        super().__init__()
        check_choice("norm", norm, "batch", "instance")
        if norm == "instance":
            check_effect("batch_norm_momentum", batch_norm_momentum, BATCH_NORM_MOMENTUM, 'with norm="instance"')
        if FILTERS[-1] % primary_dim:
            raise ValueError(f"primary_dim must divide {FILTERS[-1]}, got {primary_dim}")
        channels, height, width = image_shape
        least = first_kernel + 6 * first_stride  # 3×3, 3×3 and 3×3 see 7 pixels of the first layer
        if min(height, width) < least:
            raise ValueError(
                f"EfficientCapsNet needs images of at least {least}×{least} pixels for its four convolutions, "
                f"got {height}×{width}; use larger images or ResNetCapsNet"
            )
        self.num_classes, self.pose_dim, self.primary_dim = num_classes, pose_dim, primary_dim
        conv = partial(Conv2d, bias=True, init=conv_init)
        layers: list[nn.Module] = []
        kernels, strides = (first_kernel, 3, 3, 3), (first_stride, 1, 1, 2)
        for filters, kernel, stride in zip(FILTERS, kernels, strides, strict=True):
            layers += [conv(channels, filters, kernel, stride), nn.LeakyReLU(0.3) if norm == "instance" else nn.ReLU()]
            layers += [
                nn.InstanceNorm2d(filters, affine=True)
                if norm == "instance"
                else batch_norm_2d(filters, batch_norm_momentum)
            ]
            channels = filters
            height, width = ((pixels - kernel) // stride + 1 for pixels in (height, width))
        if norm == "instance" and height * width == 1:
            raise ValueError(
                'norm="instance" needs a map of more than one pixel, but the four convolutions leave 1×1 of '
                f'{image_shape[1]}×{image_shape[2]}; take larger images or norm="batch"'
            )
        self.convolutions = nn.Sequential(*layers)
        self.primary = conv(channels, channels, (height, width), groups=channels)
        transform = FullTransform(channels // primary_dim, num_classes, primary_dim, pose_dim, weight_init)
        self.class_capsules = CapsuleLayer(transform, router)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Capsules:
        """Map images to class capsules: poses (batch, class, dim), activations (batch, class)."""
        channels: Tensor = self.primary(self.convolutions(images)).flatten(1)
        s = rearrange(channels, "batch (capsule dim) -> batch capsule dim", dim=self.primary_dim)
        capsules: Capsules = self.class_capsules(Capsules(exp_squash(s), activations=exp_squashed_norm(s)))
        return capsules
