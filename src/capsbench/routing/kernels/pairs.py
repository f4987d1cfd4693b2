"""FM agreement's sums over children, and their gradient written out."""

from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from capsbench.routing.functional import l2_normalize
from capsbench.routing.kernels.batch_last import Gradients, batch_first, batch_last, batch_last_blocks, sum_over_dims
from capsbench.routing.kernels.recompute import gradients_again, stores_all
from capsbench.routing.kernels.sums import sum_over_children
from capsbench.routing.votes import LazyVotes, Votes

SHORTEST = 1e-12
"""A shorter vote has no direction: it counts as zero, see `l2_normalize`."""


HAS_TRITON = find_spec("triton") is not None


def vote_sums(
    votes: Votes, normalize: bool
) -> tuple[Float[Tensor, "batch parent dim"], Float[Tensor, "batch parent dim"]]:
    """Sum votes, and their element-wise squares, over children.

    Args:
        votes: (batch, child, parent, dim). Those of 16 bits are summed in float32. Lazy float32 votes on a CUDA GPU are
            summed by Triton kernels.
        normalize: divide each vote by its length first.

    Returns:
        Σ û and Σ û⊙û, each (batch, parent, dim).

    >>> vote_sums(torch.tensor([[[[3.0, 4.0]], [[0.0, 2.0]]]]), normalize=True)
    (tensor([[[0.6000, 1.8000]]]), tensor([[[0.3600, 1.6400]]]))
    """
    dtype, wide = votes.dtype, torch.promote_types(votes.dtype, torch.float32)
    if dtype != wide:
        total, squares = vote_sums(votes.to(wide), normalize)
        return total.to(dtype), squares.to(dtype)
    if isinstance(votes, LazyVotes) and votes.device.type == "cuda" and votes.dtype == torch.float32 and HAS_TRITON:
        from capsbench.routing.kernels.triton import vote_sums as sums_by_triton  # loads the compiler

        return sums_by_triton(votes, normalize)
    total, squares = sum_over_children(
        partial(_sums, normalize=normalize), votes, kernel=partial(_sums_of_blocks, normalize=normalize)
    )
    return total, squares


def _sums(votes: Float[Tensor, "batch child parent dim"], normalize: bool) -> tuple[Tensor, Tensor]:
    if normalize:
        votes = l2_normalize(votes)
    return votes.sum(dim=1), (votes * votes).sum(dim=1)


def _sums_of_blocks(votes: LazyVotes, normalize: bool) -> tuple[Tensor, Tensor]:
    total, squares = _VoteSums.apply(votes.children, votes.weight, normalize)
    return total, squares


class _VoteSums(torch.autograd.Function):
    """Σ v and Σ v⊙v of votes û, where v = û/‖û‖ or û.

    Source: line 2 of the paper's Algorithm 1; its derivative, equation 7, comes from these by the chain rule.
    """

    @staticmethod
    def forward(ctx: Any, children: Tensor, weight: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
        ctx.normalize = normalize
        ctx.save_for_backward(children, weight)
        total: Any = 0
        total_of_squares: Any = 0
        for block in batch_last_blocks(children, weight, num_spare=1):
            v, (squares,) = block.votes, block.spare
            if normalize:
                _divide_by_length(v, squares)
            total = total + v.sum(dim=0)
            total_of_squares = total_of_squares + torch.mul(v, v, out=squares).sum(dim=0)
        return batch_first(total), batch_first(total_of_squares)

    @staticmethod
    def backward(ctx: Any, by_total: Tensor, by_squares: Tensor) -> tuple[Tensor | None, ...]:
        """With g = ∂Σv + 2 v⊙∂Σv⊙v, the gradient of û is (g - v⟨v, g⟩)/‖û‖, or g of votes that keep their length."""
        children, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        if stores_all((by_total, by_squares)):
            compute = partial(plain_sums, normalize=ctx.normalize)
            return *gradients_again(compute, (children, weight), wanted, (by_total, by_squares)), None
        rows = weight.shape[3]
        by_total, by_squares = batch_last(by_total, rows), batch_last(2 * by_squares, rows)
        found = Gradients(children, weight, wanted)
        for block in batch_last_blocks(children, weight, num_spare=2):
            v, (g, product) = block.votes, block.spare
            inverse = _divide_by_length(v, g) if ctx.normalize else None
            torch.addcmul(by_total, v, by_squares, out=g)
            if inverse is not None:
                along = sum_over_dims(torch.mul(v, g, out=product))
                g.addcmul_(v, along, value=-1)
                g *= inverse
            found.fill(block, g)
        return found.children, found.weight, None


def _divide_by_length(votes: Tensor, spare: Tensor) -> Tensor:
    """Divide votes by their lengths, and return the inverse lengths. What is too short or overflows becomes zero."""
    squared = sum_over_dims(torch.mul(votes, votes, out=spare))
    inverse = squared.masked_fill_(squared < SHORTEST**2, torch.inf).rsqrt_()
    votes *= inverse
    return inverse


def plain_sums(children: Tensor, weight: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """Compute the sums from all votes at once, which autograd can differentiate twice."""
    return _sums(LazyVotes(children, weight).materialize(), normalize)
