"""Batch normalisation of poses and votes, with the constants of the paper's code."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.routing import LazyVotes

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

    @property
    def can_fold(self) -> bool:
        """Whether `fold` does what `forward` does: not in training over several devices, whose statistics it lacks."""
        return not (self.training and isinstance(self.norm, nn.SyncBatchNorm))

    def fold(self, votes: LazyVotes) -> LazyVotes:
        """Normalise votes by their factors: the scale goes into the weights, the shift is the weight of a constant 1.

        Raises:
            ValueError: one vote alone in a training batch, which has no variance.
        """
        mean, variance = self._batch_statistics(votes) if self.training else self._running_statistics()
        scale = self.norm.weight * (variance + self.norm.eps).rsqrt()
        shift = self.norm.bias - mean * scale

        batch, num_children, num_parents, _ = votes.shape
        rows, columns = votes.weight.shape[3:]
        each = (1, 1, 1) if self.kind == "shared" else (num_children, num_parents, 1)
        one = votes.children.new_ones(batch, num_children, rows, 1)
        weight_of_one = shift.view(*each, rows, columns).expand(num_children, num_parents, 1, rows, columns)
        return LazyVotes(
            torch.cat([votes.children, one], dim=-1),
            torch.cat([votes.weight * scale.view(*each, rows, columns), weight_of_one], dim=2),
            votes.never_whole,
        )

    def _running_statistics(self) -> tuple[Tensor, Tensor]:
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        return mean, variance

    def _batch_statistics(self, votes: LazyVotes) -> tuple[Tensor, Tensor]:
        """Mean and variance of a training batch, which also enter the running statistics.

        No vote is formed for them: a vote is linear in its child, so that means and covariances of each child tell all.
        Nor do they lose digits as a float32 sum over all votes does.
        """
        children, weight = votes.children, votes.weight
        batch, num_children, num_parents, _ = votes.shape
        count = batch * num_children * num_parents if self.kind == "shared" else batch
        if count < 2:
            raise ValueError("batch norm of votes needs more than one example in a training batch, got 1")
        mean_child = children.mean(dim=0)
        centred = children - mean_child
        covariance = torch.einsum("bixy,bixw->ixyw", centred, centred) / batch
        mean = torch.einsum("ixy,ijyxz->ijxz", mean_child, weight)
        variance = (torch.einsum("ixyw,ijwxz->ijyxz", covariance, weight) * weight).sum(dim=2)
        if self.kind == "shared":  # the variance over all pairs: its mean within a pair, and that of the pairs' means
            shared_mean = mean.mean(dim=(0, 1))
            variance = (variance + (mean - shared_mean).square()).mean(dim=(0, 1))
            mean = shared_mean
        mean, variance = mean.flatten(), variance.flatten()

        running_mean, running_variance = self._running_statistics()
        momentum = self.norm.momentum
        assert momentum is not None
        assert self.norm.num_batches_tracked is not None
        with torch.no_grad():
            self.norm.num_batches_tracked.add_(1)
            running_mean.lerp_(mean, momentum)
            running_variance.lerp_(variance * (count / (count - 1)), momentum)
        return mean, variance
