"""Sums over children, each computed in the fastest way for its votes and device.

Blocks and Triton are imported when first used: they load the compiler, which takes longer than routing.
"""

from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor

from capsbench.routing.functional import l2_normalize
from capsbench.routing.votes import LazyVotes, Votes

FEW_BYTES = {"cpu": 2**25, "cuda": 2**26}
"""Up to this size, computing all lazy votes at once is faster than computing blocks of them twice. On a CPU the system
hands out new pages for each larger tensor, which takes longer than the arithmetic."""

HAS_TRITON = find_spec("triton") is not None

Contribution = Callable[..., tuple[Tensor, ...]]
"""Computes sums over some children from their votes (batch, child, parent, dim) and further tensors."""


def sum_over_children(
    contribution: Contribution, votes: Votes, *, per_child: Iterable[Tensor] = (), shared: Iterable[Tensor] = ()
) -> tuple[Tensor, ...]:
    """Sum what each child contributes. A router written with this can route lazy votes.

    Args:
        contribution: called as `contribution(votes, *per_child, *shared)`, once for all children or once for each block
            of them; returns its sums over the children it is called with. Every tensor that needs a gradient must be
            among its arguments.
        votes: (batch, child, parent, dim). Many lazy votes are computed and summed a block of children at a time.
        per_child: tensors (batch, child, ...) of which a block gets its part.
        shared: tensors that every block gets unchanged.

    Returns:
        The sums that `contribution` returns, over all children.

    >>> votes, activations = torch.ones(1, 3, 2, 4), torch.tensor([[1.0, 0.0, 0.5]])
    >>> weighted = lambda votes, activations: (torch.einsum("bi,bijk->bjk", activations, votes),)
    >>> sum_over_children(weighted, votes, per_child=(activations,))
    (tensor([[[1.5000, 1.5000, 1.5000, 1.5000],
             [1.5000, 1.5000, 1.5000, 1.5000]]]),)
    """
    if isinstance(votes, LazyVotes):
        if votes.keep_lazy or votes.num_bytes > FEW_BYTES.get(votes.device.type, FEW_BYTES["cuda"]):
            from capsbench.routing.kernels.blocks import sum_over_blocks

            return sum_over_blocks(contribution, votes, tuple(per_child), tuple(shared))
        votes = votes.materialize()
    return contribution(votes, *per_child, *shared)


def vote_sums(
    votes: Votes, normalize: bool
) -> tuple[Float[Tensor, "batch parent dim"], Float[Tensor, "batch parent dim"]]:
    """Sum votes, and their element-wise squares, over children.

    Args:
        votes: (batch, child, parent, dim). Lazy float32 votes on a CUDA GPU are summed by Triton kernels.
        normalize: divide each vote by its length first.

    Returns:
        Σ û and Σ û⊙û, each (batch, parent, dim).

    Raises:
        RuntimeError: a second derivative through Triton's kernels.

    >>> vote_sums(torch.tensor([[[[3.0, 4.0]], [[0.0, 2.0]]]]), normalize=True)
    (tensor([[[0.6000, 1.8000]]]), tensor([[[0.3600, 1.6400]]]))
    """
    if isinstance(votes, LazyVotes) and votes.device.type == "cuda" and votes.dtype == torch.float32 and HAS_TRITON:
        from capsbench.routing.kernels.triton import vote_sums as sums_by_triton

        return sums_by_triton(votes, normalize)
    total, total_of_squares = sum_over_children(partial(_sums, normalize=normalize), votes)
    return total, total_of_squares


def _sums(votes: Float[Tensor, "batch child parent dim"], normalize: bool) -> tuple[Tensor, Tensor]:
    if normalize:
        votes = l2_normalize(votes)
    return votes.sum(dim=1), (votes * votes).sum(dim=1)
