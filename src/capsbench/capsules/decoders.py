"""Decoders: the pose of a class capsule back to an image."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from capsbench.capsules.initial import ConvTranspose2d, LayerInit, Linear
from capsbench.capsules.normalization import BATCH_NORM_MOMENTUM, batch_norm_1d, batch_norm_2d
from capsbench.routing import check_choice

STRIDES = (1, 2, 2)
LEAK = 0.3
"""The slope of LeakyReLU below zero: Keras's default, which the paper's code uses."""


class _Decoder(nn.Module):
    """Computes images of chosen classes from their poses by `layers`."""

    __call__: Callable[..., Tensor]
    layers: nn.Module
    takes: tuple[int | None, int]
    """Classes, None for any number, and dimensions of a pose."""

    def _check(self, poses: Tensor, chosen: Tensor) -> None:
        """Raise ValueError unless poses and choices are of one batch of such classes."""
        classes, dim = self.takes
        num = poses.shape[1] if classes is None and poses.ndim == 3 else classes
        if poses.ndim != 3 or poses.shape[1:] != (num, dim):
            raise ValueError(
                f"this decoder takes poses (batch, {classes or 'any number of'} classes, {dim} dimensions), "
                f"got {tuple(poses.shape)}"
            )
        if chosen.ndim != 2 or chosen.shape[0] != poses.shape[0]:
            raise ValueError(f"chosen classes must be ({poses.shape[0]}, several), got {tuple(chosen.shape)}")

    def _images(self, given: Float[Tensor, "batch several dim"]) -> Float[Tensor, "batch several channel height width"]:
        images: Tensor = self.layers(given.flatten(0, 1).to(next(self.parameters()).dtype))
        return torch.unflatten(images, 0, given.shape[:2])


class _PoseDecoder(_Decoder):
    """Computes an image from one pose."""

    def forward(
        self, poses: Float[Tensor, "batch class dim"], chosen: Int64[Tensor, "batch several"]
    ) -> Float[Tensor, "batch several channel height width"]:
        """Compute an image from the pose of each chosen class."""
        self._check(poses, chosen)
        return self._images(poses.gather(1, chosen.unsqueeze(2).expand(-1, -1, poses.shape[2])))


class DeconvDecoder(_PoseDecoder):
    """Reconstruct an image from one pose, without knowing its class.

    Pose → linear → three 5×5 transposed convolutions, the last two of which double the size → sigmoid, with batch norm
    and LeakyReLU between. With poses of 16 it has 186,145 trainable parameters for 40×40×1, 163,041 for 36×36×1.

    Source: the paper's §4.3.

    Args:
        image_shape: (channels, height, width) of the images; height and width are multiples of 4.
        num_classes: unused; every decoder has this signature.
        pose_dim: dimensions of a pose.
        filters: channels of the smallest feature map; each of the next two has half as many.
        batch_norm_momentum: each batch's share in the running statistics that evaluation uses.
        init: "torch", or "keras" for the initial values of the paper's code; see `Linear` and `ConvTranspose2d`.

    Raises:
        ValueError: height or width is not a multiple of 4, or init is unknown.

    >>> decoder = DeconvDecoder((1, 28, 28), num_classes=10, pose_dim=16)
    >>> poses, chosen = torch.randn(2, 10, 16), torch.tensor([[3], [8]])  # (batch, class, dim), (batch, several)
    >>> decoder(poses, chosen).shape  # (batch, several, channel, height, width)
    torch.Size([2, 1, 1, 28, 28])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        pose_dim: int,
        *,
        filters: int = 64,
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
        init: LayerInit = "torch",
    ) -> None:
        super().__init__()
        check_choice("init", init, "torch", "keras")
        self.takes = (None, pose_dim)
        channels, height, width = image_shape
        enlarged = math.prod(STRIDES)
        if height % enlarged or width % enlarged:
            raise ValueError(
                f"DeconvDecoder enlarges its base by {enlarged}, so images must be multiples of {enlarged} pixels in "
                f"height and width, got {height}×{width}; use DenseDecoder, or other images"
            )
        base = (filters, height // enlarged, width // enlarged)
        widths = [filters, filters // 2, filters // 4, channels]
        first, second, last = (
            ConvTranspose2d(before, after, 5, stride, init)
            for before, after, stride in zip(widths, widths[1:], STRIDES, strict=False)
        )
        self.layers = nn.Sequential(
            Linear(pose_dim, math.prod(base), init),
            batch_norm_1d(math.prod(base), batch_norm_momentum),
            nn.LeakyReLU(LEAK),
            nn.Unflatten(1, base),
            first,
            batch_norm_2d(widths[1], batch_norm_momentum),
            nn.LeakyReLU(LEAK),
            second,
            batch_norm_2d(widths[2], batch_norm_momentum),
            nn.LeakyReLU(LEAK),
            last,
            nn.Sigmoid(),
        )


class DeepCapsDecoder(_PoseDecoder):
    """Reconstruct an image from one pose, without knowing its class, by a chain of linear layers.

    Pose → linear → ReLU → batch norm → 3×3 transposed convolutions to 64, 32 and 16 channels, from 64 pixels on also 8,
    and to those of the image → ReLU. Each but the first and the last doubles the size. Nothing is between them, as in
    the source's code. Poses of 32 make 58,417 parameters for 28×28×1, 66,627 for 32×32×3, 67,571 for 64×64×3.

    Source: the code of Rajasegaran et al. 2019, "DeepCaps" (arXiv:1904.09546), §3.4.

    Args:
        image_shape: (channels, height, width) of the images; height and width are multiples of 4, if one of them is 64
            or more, of 8.
        num_classes: unused; every decoder has this signature.
        pose_dim: dimensions of a pose.
        batch_norm_momentum: each batch's share in the running statistics that evaluation uses.
        init: "torch", or "keras" for the initial values of Keras; see `Linear` and `ConvTranspose2d`.

    Raises:
        ValueError: height or width is no such multiple, or init is unknown.

    >>> decoder = DeepCapsDecoder((3, 64, 64), num_classes=10, pose_dim=32)
    >>> poses, chosen = torch.randn(2, 10, 32), torch.tensor([[3], [8]])  # (batch, class, dim), (batch, several)
    >>> decoder(poses, chosen).shape  # (batch, several, channel, height, width)
    torch.Size([2, 1, 3, 64, 64])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        pose_dim: int,
        *,
        batch_norm_momentum: float = 0.2,
        init: LayerInit = "torch",
    ) -> None:
        super().__init__()
        check_choice("init", init, "torch", "keras")
        self.takes = (None, pose_dim)
        channels, height, width = image_shape
        widths = [16, 64, 32, 16, *([8] if max(height, width) >= 64 else [])]
        enlarged = 2 ** (len(widths) - 2)
        if height % enlarged or width % enlarged:
            raise ValueError(
                f"DeepCapsDecoder enlarges its base by {enlarged}, so images must be multiples of {enlarged} pixels "
                f"in height and width, got {height}×{width}; use DenseDecoder, or other images"
            )
        base = (widths[0], height // enlarged, width // enlarged)
        strides = [1, *[2] * (len(widths) - 2), 1]
        self.layers = nn.Sequential(
            Linear(pose_dim, math.prod(base), init),
            nn.ReLU(),
            nn.Unflatten(1, base),
            batch_norm_2d(widths[0], batch_norm_momentum),
            *(
                ConvTranspose2d(before, after, 3, stride, init)
                for (before, after), stride in zip(itertools.pairwise([*widths, channels]), strides, strict=True)
            ),
            nn.ReLU(),
        )


class DenseDecoder(_Decoder):
    """Reconstruct an image from all poses, of which those not chosen are set to 0, so the class is known.

    Linear layers of 512 and 1024 units with ReLU, then one of as many units as pixels → sigmoid.

    Source: Sabour et al. 2017 (arXiv:1710.09829), §4.1.

    Args:
        image_shape: (channels, height, width) of the images.
        num_classes, pose_dim: how many poses there are, and dimensions of each.
        hidden: units of the layers before the last.
        init: "torch", or "keras" for its initial values; see `Linear`.

    Raises:
        ValueError: a layer would have no units, or init is unknown.

    >>> decoder = DenseDecoder((1, 28, 28), num_classes=10, pose_dim=16)
    >>> poses, chosen = torch.randn(2, 10, 16), torch.tensor([[3], [8]])  # (batch, class, dim), (batch, several)
    >>> decoder(poses, chosen).shape  # (batch, several, channel, height, width)
    torch.Size([2, 1, 1, 28, 28])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        pose_dim: int,
        *,
        hidden: Sequence[int] = (512, 1024),
        init: LayerInit = "torch",
    ) -> None:
        super().__init__()
        check_choice("init", init, "torch", "keras")
        self.takes = (num_classes, pose_dim)
        widths = [num_classes * pose_dim, *hidden]
        if min(widths) < 1:
            raise ValueError(f"hidden must be numbers of at least 1, got {list(hidden)}")
        layers = [part for pair in itertools.pairwise(widths) for part in (Linear(*pair, init), nn.ReLU())]
        last = Linear(widths[-1], math.prod(image_shape), init)
        self.layers = nn.Sequential(*layers, last, nn.Sigmoid(), nn.Unflatten(1, image_shape))

    def forward(
        self, poses: Float[Tensor, "batch class dim"], chosen: Int64[Tensor, "batch several"]
    ) -> Float[Tensor, "batch several channel height width"]:
        """Compute an image in [0, 1] for each chosen class; the poses of all other classes are masked."""
        self._check(poses, chosen)
        mask = torch.nn.functional.one_hot(chosen, poses.shape[1]).to(poses.dtype)
        return self._images(torch.einsum("bsj,bjk->bsjk", mask, poses).flatten(2))
