"""The pre-activation ResNet below capsule layers, and below the plain classifier that they are compared with."""

from collections.abc import Callable, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from capsbench.capsules import Conv2d, LayerInit, StridePadding, batch_norm_2d
from capsbench.routing import check_choice

STAGE_FILTERS = (16, 32, 64)

Shortcut = Literal["activated", "raw"]


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
    check_choice("shortcut", shortcut, "activated", "raw")
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
