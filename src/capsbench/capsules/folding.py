"""Batch normalisation of lazy votes, folded into the weights that compute them."""

import torch
from torch import Tensor, nn

from capsbench.capsules.normalization import VoteNorm
from capsbench.routing import LazyVotes


def can_fold(norm: VoteNorm) -> bool:
    """Return whether `fold` replaces `norm`: not while training on several devices, whose statistics it cannot see."""
    return not (norm.norm.training and isinstance(norm.norm, nn.SyncBatchNorm))


def fold(norm: VoteNorm, votes: LazyVotes) -> LazyVotes:
    """Normalise lazy votes: multiply their weights by the scale, and append the shift as the weight of a constant 1.

    In training the running statistics change, as in `VoteNorm.forward`. The folded weights have the type of the votes.

    Args:
        norm: the normalisation of these votes.
        votes: (batch, child, parent, dim).

    Raises:
        ValueError: the statistics of a training batch come from one vote, which has no variance.
    """
    batch, num_children, num_parents, _ = votes.shape
    is_measured = norm.norm.training and batch > 0
    mean, variance = _batch_statistics(norm, votes) if is_measured else _running_statistics(norm)
    scale = norm.norm.weight * (variance.to(votes.dtype) + norm.norm.eps).rsqrt()
    shift = norm.norm.bias - mean * scale

    rows, columns = votes.weight.shape[3:]
    each = (1, 1, 1) if norm.kind == "shared" else (num_children, num_parents, 1)
    one = votes.children.new_ones(batch, num_children, rows, 1)
    weight_of_one = shift.view(*each, rows, columns).expand(num_children, num_parents, 1, rows, columns)
    return LazyVotes(
        torch.cat([votes.children, one], dim=-1),
        torch.cat([votes.weight * scale.view(*each, rows, columns), weight_of_one], dim=2),
        votes.keep_lazy,
    )


def _running_statistics(norm: VoteNorm) -> tuple[Tensor, Tensor]:
    mean, variance = norm.norm.running_mean, norm.norm.running_var
    assert mean is not None
    assert variance is not None
    return mean, variance


def _batch_statistics(norm: VoteNorm, votes: LazyVotes) -> tuple[Tensor, Tensor]:
    """Compute the mean and variance of a training batch, and update the running statistics.

    A vote is linear in its child, so the mean and covariance of each child give them without any vote. They also lose
    fewer digits than a float32 sum over all votes.
    """
    children, weight = votes.children, votes.weight
    batch, num_children, num_parents, _ = votes.shape
    count = batch * num_children * num_parents if norm.kind == "shared" else batch
    if count < 2:
        raise ValueError("batch norm of votes needs more than one example in a training batch, got 1")
    mean_child = children.mean(dim=0)
    centred = children - mean_child
    covariance = torch.einsum("bixy,bixw->ixyw", centred, centred) / batch
    mean = torch.einsum("ixy,ijyxz->ijxz", mean_child, weight)
    variance = (torch.einsum("ixyw,ijwxz->ijyxz", covariance, weight) * weight).sum(dim=2)
    if norm.kind == "shared":  # the variance within pairs of child and parent, plus that of the pairs' means
        shared_mean = mean.mean(dim=(0, 1))
        variance = (variance + (mean - shared_mean).square()).mean(dim=(0, 1))
        mean = shared_mean
    mean, variance = mean.flatten(), variance.flatten()

    running_mean, running_variance = _running_statistics(norm)
    momentum = norm.norm.momentum
    assert momentum is not None
    assert norm.norm.num_batches_tracked is not None
    with torch.no_grad():
        norm.norm.num_batches_tracked.add_(1)
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        unbiased = variance * (count / (count - 1))
        running_variance.lerp_(unbiased.to(running_variance.dtype), momentum)
    return mean, variance
