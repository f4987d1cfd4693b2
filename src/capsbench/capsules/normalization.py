"""Batch normalisation of poses and votes, with the constants of the paper's code."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.01
"""Keras's momentum 0.99, as PyTorch counts it."""

VoteNormKind = Literal["shared", "per_vote", "none"]


def batch_norm_1d(num_features: int) -> nn.BatchNorm1d:
    """Batch normalisation over (batch, features) with the constants of the paper's code."""
    return nn.BatchNorm1d(num_features, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)


def batch_norm_2d(num_channels: int) -> nn.BatchNorm2d:
    """Batch normalisation over (batch, channels, height, width) with the constants of the paper's code."""
    return nn.BatchNorm2d(num_channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)


class VoteNorm(nn.Module):
    """Batch normalisation of votes.

    Args:
        num_children, num_parents, pose_dim: the shape of one example's votes.
        kind: "shared" keeps one mean and variance per pose dimension, over batch, children and parents (the paper's
            Algorithm 2, line 4); "per_vote" one for each (child, parent, dimension), as in the authors' §4.4 code.
        gain: what γ starts at. With 1, dynamic routing's squash is saturated before anything agrees.

    Raises:
        ValueError: gain is not positive, or kind is neither of the two.
    """

    def __init__(self, num_children: int, num_parents: int, pose_dim: int, kind: VoteNormKind, gain: float) -> None:
        super().__init__()
        if not gain > 0:
            raise ValueError(f"vote_gain must be positive, got {gain}")
        if kind not in ("shared", "per_vote"):
            raise ValueError(f"vote_norm must be shared, per_vote or none, got {kind!r}")
        self.kind = kind
        self.norm: nn.BatchNorm1d | nn.BatchNorm2d
        if kind == "shared":
            self.norm = batch_norm_2d(pose_dim)
        else:
            self.norm = batch_norm_1d(num_children * num_parents * pose_dim)
        nn.init.constant_(self.norm.weight, gain)

    def forward(self, votes: Float[Tensor, "batch child parent dim"]) -> Float[Tensor, "batch child parent dim"]:
        """Normalise votes; the shape stays."""
        if self.kind == "shared":
            # Votes seen as a picture of (child × parent) pixels, channels last: no copy, and the fast kernel.
            normed: Tensor = self.norm(votes.permute(0, 3, 1, 2))
            return normed.permute(0, 2, 3, 1)
        flat: Tensor = self.norm(votes.flatten(1))
        return flat.view_as(votes)
