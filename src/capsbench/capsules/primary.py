"""Primary capsules: where feature maps become capsules."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.capsules.normalization import batch_norm_1d
from capsbench.routing import Capsules, squash, squashed_norm


class PrimaryCapsules(nn.Module):
    """Convolution, (batch norm per pose dimension), grouping of channels into capsules, squash.

    Args:
        in_channels: channels of the feature map.
        groups: capsules at each place of the output map.
        pose_dim: dimensions of a capsule.
        kernel_size, stride, padding: of the convolution, in pixels.
        batch_norm: normalise each pose dimension over batch, places and groups; the convolution then has no bias.

    Source: Sabour et al. 2017 (arXiv:1710.09829), §4; with batch norm, the paper's §3.4.
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
    ) -> None:
        super().__init__()
        self.groups = groups
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.conv = nn.Conv2d(in_channels, groups * pose_dim, kernel_size, stride, padding, bias=not batch_norm)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        self.norm = batch_norm_1d(pose_dim) if batch_norm else None

    def num_capsules(self, height: int, width: int) -> int:
        """How many capsules a feature map of height × width pixels gives (0 or less: it is too small)."""
        rows, columns = ((size + 2 * self.padding - self.kernel_size) // self.stride + 1 for size in (height, width))
        return max(rows, 0) * max(columns, 0) * self.groups

    def forward(self, features: Float[Tensor, "batch channel height width"]) -> Capsules:
        """Feature map to capsules; the activation of each is the length of its pose."""
        poses = rearrange(self.conv(features), "b (group dim) h w -> b (h w group) dim", group=self.groups)
        if self.norm is not None:
            poses = self.norm(poses.flatten(0, 1)).view_as(poses)
        return Capsules(squash(poses), activations=squashed_norm(poses))
