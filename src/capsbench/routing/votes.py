"""Votes that are computed only where they are needed."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


class LazyVotes:
    """Votes kept as child poses and weights, and multiplied out only where they are used.

    Votes are computed per block, summed, discarded, and recomputed in the backward pass. 1152 children of 8 dimensions
    and 10 parents of 16 make 94 MB of votes for 128 examples, but only 5 MB of poses and 6 MB of weights: computing
    votes twice costs less time than writing them to memory and reading them back.

    A vote's dimensions are rows x of columns z: one row for a full transform, √k for a matrix transform. Then
    votes[b, i, j, (x z)] = Σ_y children[b, i, x, y] · weight[i, j, y, x, z].

    Args:
        children: child poses (batch, child, row, inner).
        weight: (child, parent, inner, row, column).
        keep_lazy: never compute all votes at once, however few they are.

    Raises:
        ValueError: children and weight differ in children, rows or inner dimensions; one of them would be broadcast.

    >>> votes = LazyVotes(torch.ones(2, 5, 1, 8), torch.ones(5, 3, 8, 1, 16))
    >>> votes.shape  # (batch, child, parent, dim)
    torch.Size([2, 5, 3, 16])
    >>> votes.materialize()[0, 0, 0, 0]
    tensor(8.)
    """

    def __init__(
        self,
        children: Float[Tensor, "batch child row inner"],
        weight: Float[Tensor, "child parent inner row column"],
        keep_lazy: bool = False,
    ) -> None:
        if children.shape[1] != weight.shape[0] or children.shape[2:] != (weight.shape[3], weight.shape[2]):
            raise ValueError(
                f"children {tuple(children.shape)} must be (batch, child, row, inner) of weight (child, parent, inner, "
                f"row, column) {tuple(weight.shape)}"
            )
        self.children = children
        self.weight = weight
        self.keep_lazy = keep_lazy
        self._all: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """(batch, child, parent, dim) of the votes."""
        num_children, num_parents, _, rows, columns = self.weight.shape
        return torch.Size((self.children.shape[0], num_children, num_parents, rows * columns))

    @property
    def device(self) -> torch.device:
        """The device that the votes are computed on."""
        return self.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type that the votes are computed in."""
        return self.weight.dtype

    @property
    def num_bytes(self) -> int:
        """How much memory all votes would take."""
        return self.shape.numel() * self.dtype.itemsize

    def to(self, dtype: torch.dtype) -> "LazyVotes":
        """Return the same votes in another type."""
        return LazyVotes(self.children.to(dtype), self.weight.to(dtype), self.keep_lazy)

    def materialize(self) -> Float[Tensor, "batch child parent dim"]:
        """Compute all votes; later calls return the same tensor, if it has the gradient that is wanted then."""
        needs_gradient = torch.is_grad_enabled() and (self.children.requires_grad or self.weight.requires_grad)
        if self._all is None or (needs_gradient and not self._all.requires_grad):
            self._all = torch.einsum("bixy,ijyxz->bijxz", self.children, self.weight).flatten(-2)
        return self._all

    def sum(self, dim: Literal[1]) -> Float[Tensor, "batch parent dim"]:
        """Sum the votes over children: one matrix product, which computes no single vote."""
        return torch.einsum("bixy,ijyxz->bjxz", self.children, self.weight).flatten(-2)


Votes = Float[Tensor, "batch child parent dim"] | LazyVotes
"""Votes as a tensor or lazy. Both have `shape`, `device`, `dtype`, `to` and `sum`."""
