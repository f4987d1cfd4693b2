"""Primary capsules: the layer that turns feature maps into capsules."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.capsules.normalization import BATCH_NORM_MOMENTUM, batch_norm_1d
from capsbench.routing import Capsules, squash, squashed_norm


class PrimaryCapsules(nn.Module):
    """Convolve, group channels into capsules, normalise pose dimensions if asked to, and squash.

    Source: Sabour et al. 2017 (arXiv:1710.09829), §4; with batch norm, the paper's §3.4.

    Args:
        in_channels: channels of the feature map.
        groups: capsules at each place of the output map.
        pose_dim: dimensions of a capsule.
        kernel_size, stride, padding: of the convolution, in pixels.
        batch_norm: normalise each pose dimension over batch, places and groups. The convolution then has no bias.
        batch_norm_momentum: each batch's share in the running statistics that evaluation uses.

    >>> import torch
    >>> primary = PrimaryCapsules(in_channels=64, groups=4, pose_dim=16, kernel_size=5, padding=2)
    >>> capsules = primary(torch.randn(2, 64, 8, 8))  # (batch, channel, height, width)
    >>> capsules.poses.shape, capsules.activations.shape  # (batch, 4 · 4 · groups, dim) and (batch, 4 · 4 · groups)
    (torch.Size([2, 64, 16]), torch.Size([2, 64]))
    """

    def __init__(
        self,
        in_channels: int,
        groups: int,
        pose_dim: int,
        *,
        kernel_size: int,
        stride: int = 2,
        padding: int = 0,
        batch_norm: bool = False,
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
    ) -> None:
        super().__init__()
        self.groups = groups
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.conv = nn.Conv2d(in_channels, groups * pose_dim, kernel_size, stride, padding, bias=not batch_norm)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        self.norm = batch_norm_1d(pose_dim, batch_norm_momentum) if batch_norm else None

    def num_capsules(self, height: int, width: int) -> int:
        """Return how many capsules a feature map of height × width pixels gives; 0 if it is too small."""
        rows, columns = ((size + 2 * self.padding - self.kernel_size) // self.stride + 1 for size in (height, width))
        return max(rows, 0) * max(columns, 0) * self.groups

    def forward(self, features: Float[Tensor, "batch channel height width"]) -> Capsules:
        """Turn a feature map into capsules; the activation of each is the length of its pose."""
        poses = rearrange(self.conv(features), "b (group dim) h w -> b (h w group) dim", group=self.groups)
        if self.norm is not None:
            poses = self.norm(poses.flatten(0, 1)).view_as(poses)
        return Capsules(squash(poses), activations=squashed_norm(poses))
