"""Sums over children that compute lazy votes a block of children at a time, and again in the backward pass."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from capsbench.routing.kernels.recompute import add_to_part, gradients_again, part_of
from capsbench.routing.votes import LazyVotes

Contribution = Callable[..., tuple[Tensor, ...]]
"""Computes sums over some children from their votes (batch, child, parent, dim) and further tensors."""

BLOCK_BYTES = {"cpu": 11 * 2**17, "cuda": 2**26}
"""Bytes of votes per block: what fits into a CPU core's cache, and what keeps a GPU busy."""


def sum_over_blocks(
    contribution: Contribution, votes: LazyVotes, per_child: tuple[Tensor, ...], shared: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Compute `sum_over_children` of lazy votes with memory for one block of votes."""
    child_axes = (1, 0, *[1] * len(per_child), *[None] * len(shared))
    return _SumOverBlocks.apply(contribution, child_axes, votes.children, votes.weight, *per_child, *shared)


class _SumOverBlocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, contribution: Contribution, child_axes: tuple[int | None, ...], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """`child_axes` says of each tensor which axis counts children; None if it has no such axis."""
        ctx.contribution, ctx.child_axes = contribution, child_axes
        ctx.save_for_backward(*tensors)
        sums: tuple[Tensor, ...] = ()
        for block in blocks_of(*tensors[:2]):
            inputs = [part_of(tensor, axis, block) for tensor, axis in zip(tensors, child_axes, strict=True)]
            added = _contribute(contribution, *inputs)
            sums = tuple(a.add_(b) for a, b in zip(sums, added, strict=True)) if sums else added
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tensors: tuple[Tensor, ...] = ctx.saved_tensors
        axes: tuple[int | None, ...] = ctx.child_axes
        wanted = ctx.needs_input_grad[2:]
        totals = {number: torch.zeros_like(tensor) for number, tensor in enumerate(tensors) if wanted[number]}
        compute = partial(_contribute, ctx.contribution)
        for block in blocks_of(*tensors[:2]):
            inputs = [part_of(tensor, axis, block) for tensor, axis in zip(tensors, axes, strict=True)]
            for number, gradient in enumerate(gradients_again(compute, inputs, wanted, gradients)):
                if gradient is not None:
                    totals[number] = add_to_part(totals[number], axes[number], block, gradient)
        return None, None, *(totals.get(number) for number in range(len(tensors)))


def _contribute(contribution: Contribution, children: Tensor, weight: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    return contribution(LazyVotes(children, weight).materialize(), *others)


def blocks_of(children: Tensor, weight: Tensor) -> Iterator[slice]:
    """Divide the children of lazy votes into blocks."""
    votes = LazyVotes(children, weight)
    num_children = votes.shape[1]
    bytes_per_child = max(1, votes.num_bytes // num_children)
    size = max(1, BLOCK_BYTES.get(votes.device.type, BLOCK_BYTES["cuda"]) // bytes_per_child)
    for start in range(0, num_children, size):
        yield slice(start, min(start + size, num_children))
