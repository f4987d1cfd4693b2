"""Batch normalisation of poses and votes, with the constants of the paper's code."""

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from capsbench.routing.batch_norm import by_running_statistics, check_statistics_may_change

BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.01
"""Each batch's share in the running statistics: Keras's momentum of 0.99, as PyTorch counts it."""

VoteNormKind = Literal["shared", "per_vote", "none"]


def batch_norm_1d(num_features: int, momentum: float = BATCH_NORM_MOMENTUM) -> nn.BatchNorm1d:
    """Make a batch normalisation over (batch, features) with the ε of the paper's code."""
    return nn.BatchNorm1d(num_features, BATCH_NORM_EPS, momentum)


def batch_norm_2d(num_channels: int, momentum: float = BATCH_NORM_MOMENTUM) -> nn.BatchNorm2d:
    """Make a batch normalisation over (batch, channels, height, width) with the ε of the paper's code."""
    return nn.BatchNorm2d(num_channels, BATCH_NORM_EPS, momentum)


class VoteNorm(nn.Module):
    """Normalise votes over the batch.

    It trains where `norm`, the batch norm within, does: batch norms are often frozen alone.

    Source: the paper's Algorithm 2, line 4.

    Args:
        num_children, num_parents, pose_dim: the shape of one example's votes.
        kind: "shared" keeps one mean and variance per pose dimension, over batch, children and parents, as in
            Algorithm 2; "per_vote" one for each (child, parent, dimension), as in the authors' code for §4.4.
        gain: the initial γ. A γ of 1 saturates the squash of dynamic routing before any parents agree.
        momentum: each batch's share in the running statistics that evaluation uses.

    Raises:
        RuntimeError: in the forward pass, see `check_statistics_may_change`.
        ValueError: gain is not positive, or kind is neither of the two. In the forward pass: votes of another shape.

    >>> import torch
    >>> norm = VoteNorm(num_children=7, num_parents=3, pose_dim=16, kind="shared", gain=1.0)
    >>> norm(torch.randn(2, 7, 3, 16)).shape  # (batch, child, parent, dim)
    torch.Size([2, 7, 3, 16])
    """

    __call__: Callable[..., Tensor]

    def __init__(
        self,
        num_children: int,
        num_parents: int,
        pose_dim: int,
        kind: VoteNormKind,
        gain: float,
        momentum: float = BATCH_NORM_MOMENTUM,
    ) -> None:
        super().__init__()
        if not gain > 0:
            raise ValueError(f"vote_gain must be positive, got {gain}")
        if kind not in ("shared", "per_vote"):
            raise ValueError(f"vote_norm must be shared, per_vote or none, got {kind!r}")
        self.kind, self.takes = kind, (num_children, num_parents, pose_dim)
        self.norm: nn.BatchNorm1d | nn.BatchNorm2d
        if kind == "shared":
            self.norm = batch_norm_2d(pose_dim, momentum)
        else:
            self.norm = batch_norm_1d(num_children * num_parents * pose_dim, momentum)
        nn.init.constant_(self.norm.weight, gain)

    def forward(self, votes: Float[Tensor, "batch child parent dim"]) -> Float[Tensor, "batch child parent dim"]:
        """Normalise votes and keep their shape. A training batch without examples leaves the running statistics."""
        if votes.shape[1:] != self.takes:
            raise ValueError(f"this norm is of votes (batch, {str(self.takes)[1:]}, got {tuple(votes.shape)}")
        if self.kind == "shared":
            # An image of (child × parent) pixels, channels last: the fast kernel. Transforms give children first.
            return self._normed(votes.contiguous().permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self._normed(votes.flatten(1)).view_as(votes)

    def _normed(self, x: Tensor) -> Tensor:
        is_shared = isinstance(self.norm, nn.SyncBatchNorm)  # then other devices may have examples
        if self.norm.training and x.numel() == 0 and not is_shared:
            return by_running_statistics(self.norm, x)
        check_statistics_may_change(self.norm)
        normed: Tensor = self.norm(x)
        return normed
