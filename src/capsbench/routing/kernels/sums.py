"""Sums over children, each computed in the fastest way for its votes and device."""

from collections.abc import Callable, Iterable

from torch import Tensor

from capsbench.routing.kernels.blocks import Contribution, sum_over_blocks
from capsbench.routing.transformations import is_transformed
from capsbench.routing.votes import LazyVotes, Votes

FEW_BYTES = {"cpu": 2**25, "cuda": 2**28}
"""Up to this size, computing all lazy votes at once is faster than computing blocks of them twice. On a CPU the system
hands out new pages for each larger tensor, which takes longer than the arithmetic. A GPU is faster with all votes at
once; there blocks save memory, of which a pass over all votes needs several times their size."""

FEWEST_EXAMPLES, FEWEST_BYTES = 16, 2**22
"""From as many examples and votes on, a kernel can be faster on a CPU than all votes at once."""


def sum_over_children(
    contribution: Contribution,
    votes: Votes,
    *,
    per_child: Iterable[Tensor] = (),
    shared: Iterable[Tensor] = (),
    kernel: Callable[..., tuple[Tensor, ...]] | None = None,
) -> tuple[Tensor, ...]:
    """Sum what each child contributes. A router written with this can route lazy votes.

    Args:
        contribution: called as `contribution(votes, *per_child, *shared)`, once for all children or once for each block
            of them; returns its sums over the children it is called with. Every tensor that needs a gradient must be
            among its arguments.
        votes: (batch, child, parent, dim). Many lazy votes are computed and summed a block of children at a time.
        per_child: tensors (batch, child, ...) of which a block gets its part.
        shared: tensors that every block gets unchanged.
        kernel: computes the same as `kernel(votes, *per_child, *shared)` from lazy votes, faster.

    Returns:
        The sums that `contribution` returns, over all children.

    >>> import torch
    >>> votes, activations = torch.ones(1, 3, 2, 4), torch.tensor([[1.0, 0.0, 0.5]])
    >>> weighted = lambda votes, activations: (torch.einsum("bi,bijk->bjk", activations, votes),)
    >>> sum_over_children(weighted, votes, per_child=(activations,))
    (tensor([[[1.5000, 1.5000, 1.5000, 1.5000],
             [1.5000, 1.5000, 1.5000, 1.5000]]]),)
    """
    if isinstance(votes, LazyVotes):
        if stays_lazy(votes, has_kernel=kernel is not None):
            if kernel is not None:
                return kernel(votes, *per_child, *shared)
            return sum_over_blocks(contribution, votes, tuple(per_child), tuple(shared))
        votes = votes.materialize()
    return contribution(votes, *per_child, *shared)


def stays_lazy(votes: LazyVotes, has_kernel: bool) -> bool:
    """Whether blocks of votes are faster than all at once, or were asked for. Under a transform, all at once."""
    if is_transformed():
        return False
    if has_kernel and votes.device.type == "cpu":
        return votes.keep_lazy or not few_votes(votes.shape[0], votes.num_bytes)
    return votes.keep_lazy or votes.num_bytes > FEW_BYTES.get(votes.device.type, FEW_BYTES["cuda"])


def few_votes(batch: int, num_bytes: int, fewest: int = FEWEST_BYTES) -> bool:
    """Whether, on a CPU, all votes at once are faster than a kernel, which pays from `fewest` bytes on."""
    return num_bytes <= FEW_BYTES["cpu"] and (batch < FEWEST_EXAMPLES or num_bytes < fewest)
