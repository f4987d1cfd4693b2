"""Votes by their factors, and sums over children that never hold all votes at once."""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK_BYTES = {"cpu": 11 * 2**17, "cuda": 2**26}
"""Of votes that are in memory at once, where they are not formed whole: what a CPU's cache holds, what fills a GPU."""

FEW_BYTES = {"cpu": 2**25, "cuda": 2**26}
"""Of votes that are formed whole, since forming them twice would take longer. 32 MiB on a CPU: larger tensors get new
pages from the system each time, which cost more than the arithmetic."""

ELSEWHERE = "cuda"
"""The kind of device that any other is treated like."""


class LazyVotes:
    """Votes not multiplied out: children and weights, as a transform (and a batch norm folded into it) gives them.

    The vote of child i for parent j, its dimensions seen as rows x of columns z (one row for a full transform, √k for
    a matrix transform), is votes[b, i, j, (x z)] = Σ_y children[b, i, x, y] · weight[i, j, y, x, z].

    1152 children of 8 dimensions and 10 parents of 16 make 94 MB of votes for 128 examples, out of 5 MB of children and
    6 MB of weights. Forming votes where they are used, and again where their gradient is, then costs less than the
    trips to memory.

    Args:
        children: (batch, child, row, inner).
        weight: (child, parent, inner, row, column).
        never_whole: never form all votes, however few.
    """

    def __init__(
        self,
        children: Float[Tensor, "batch child row inner"],
        weight: Float[Tensor, "child parent inner row column"],
        never_whole: bool = False,
    ) -> None:
        self.children = children
        self.weight = weight
        self.never_whole = never_whole

    @property
    def shape(self) -> torch.Size:
        """(batch, child, parent, dim) of the votes."""
        num_children, num_parents, _, rows, columns = self.weight.shape
        return torch.Size((self.children.shape[0], num_children, num_parents, rows * columns))

    def materialize(self) -> Float[Tensor, "batch child parent dim"]:
        """Form all votes, once."""
        return self._materialized

    @cached_property
    def _materialized(self) -> Float[Tensor, "batch child parent dim"]:
        return torch.einsum("bixy,ijyxz->bijxz", self.children, self.weight).flatten(-2)

    @property
    def are_few(self) -> bool:
        """Whether it takes less time to hold all votes than to form them in blocks."""
        few = _of_device(FEW_BYTES, self.weight)
        return not self.never_whole and self.shape.numel() * self.weight.element_size() <= few

    def sum(self, dim: Literal[1]) -> Float[Tensor, "batch parent dim"]:
        """The sum of the votes over children: one matrix product, without any vote."""
        return torch.einsum("bixy,ijyxz->bjxz", self.children, self.weight).flatten(-2)

    def to(self, dtype: torch.dtype) -> "LazyVotes":
        """The same votes in another type."""
        return LazyVotes(self.children.to(dtype), self.weight.to(dtype), self.never_whole)


Contribution = Callable[..., tuple[Tensor, ...]]
"""What some children add to sums over all: from their votes (batch, child, parent, dim), their activations
(batch, child) or None, and tensors that all children share."""


def sum_over_children(
    contribution: Contribution,
    votes: Float[Tensor, "batch child parent dim"] | LazyVotes,
    activations: Float[Tensor, "batch child"] | None = None,
    *shared: Tensor,
) -> tuple[Tensor, ...]:
    """Add up what each child contributes. A router written with this can route votes that are never all formed.

    Args:
        contribution: gives the sums over the children that it is called with. Every tensor through which gradients are
            to flow must be among its arguments.
        votes: of all children. Many factored ones are formed a block of children at a time, and formed again for the
            gradient, which has no derivative of its own.
        activations: of all children.
        *shared: what the contribution of every child depends on.

    Raises:
        RuntimeError: a second derivative through blocks of votes.
    """
    if isinstance(votes, LazyVotes):
        if not votes.are_few:
            return _sum_over_blocks(contribution, votes.children, votes.weight, activations, *shared)
        votes = votes.materialize()
    return contribution(votes, activations, *shared)


class _SumOverBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, contribution: Contribution, *arguments: Any) -> tuple[Tensor, ...]:
        ctx.contribution = contribution
        ctx.save_for_backward(*arguments)
        sums: tuple[Tensor, ...] = ()
        for block in _blocks(*arguments):
            children, weight, *others = (block(*numbered) for numbered in enumerate(arguments))
            added = contribution(LazyVotes(children, weight).materialize(), *others)
            sums = tuple(a.add_(b) for a, b in zip(sums, added, strict=True)) if sums else added
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(NO_SECOND_DERIVATIVE)
        arguments: tuple[Any, ...] = ctx.saved_tensors
        wanted = [number for number, is_wanted in enumerate(ctx.needs_input_grad[1:]) if is_wanted]
        totals = [torch.zeros_like(part) if number in wanted else None for number, part in enumerate(arguments)]
        for block in _blocks(*arguments):
            parts: list[Any] = [
                part if part is None else block(number, part).detach() for number, part in enumerate(arguments)
            ]
            for number in wanted:
                parts[number].requires_grad_()
            with torch.enable_grad():
                children, weight, *others = parts
                sums = ctx.contribution(LazyVotes(children, weight).materialize(), *others)
            reached = [(part, gradient) for part, gradient in zip(sums, gradients, strict=True) if part.requires_grad]
            ends, seeds = zip(*reached, strict=True)
            found = torch.autograd.grad(ends, [parts[number] for number in wanted], seeds, allow_unused=True)
            for number, gradient in zip(wanted, found, strict=True):
                if gradient is not None:
                    block(number, totals[number]).add_(gradient)
        return None, *totals


NO_SECOND_DERIVATIVE = (
    "votes that are not formed whole have no second derivative; take router.implementation=plain, which forms them"
)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _sum_over_blocks(contribution: Contribution, *arguments: Any) -> tuple[Tensor, ...]:
    return _SumOverBlocks.apply(contribution, *arguments)


CHILD_AXIS = (1, 0, 1)
"""Of the first arguments: children, weight, activations. The others are shared."""


def _blocks(children: Tensor, weight: Tensor, *_: Any) -> Iterator[Callable[[int, Any], Any]]:
    """For each block of children a function that takes its part out of the argument of a number."""
    votes = LazyVotes(children, weight)
    num_children = votes.shape[1]
    bytes_per_child = max(1, votes.shape.numel() // num_children * weight.element_size())
    size = max(1, _of_device(BLOCK_BYTES, weight) // bytes_per_child)
    for start in range(0, num_children, size):
        yield partial(_part, start, min(size, num_children - start))


def _part(start: int, length: int, number: int, argument: Any) -> Any:
    if argument is None or number >= len(CHILD_AXIS):
        return argument
    return argument.narrow(CHILD_AXIS[number], start, length)


def _of_device(sizes: dict[str, int], tensor: Tensor) -> int:
    return sizes.get(tensor.device.type, sizes[ELSEWHERE])
