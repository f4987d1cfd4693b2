"""Blocks of lazy votes as arrays with the batch last in memory, for gradients that are written out.

The examples of a batch fill the lanes of a CPU's vector units, whatever the number of parents or dimensions, and a
block's votes are one batched matrix product. Every array that a block needs is made once and used for all blocks.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from capsbench.routing.kernels.blocks import blocks_of
from capsbench.routing.votes import LazyVotes


class Block(NamedTuple):
    """Some children of all examples. A vote has rows x of columns z, as in `LazyVotes`."""

    part: slice
    """Which children."""
    children: Float[Tensor, "pairs inner batch"]
    """Their poses; a pair is a child and a row."""
    weight: Float[Tensor, "pairs column_parent inner"]
    """Their weights."""
    votes: Float[Tensor, "child row column parent batch"]
    """Their votes; may be overwritten."""
    spare: tuple[Float[Tensor, "child row column parent batch"], ...]
    """Arrays like the votes, to be filled."""


class Gradients:
    """Gradients of child poses and weights, filled block by block.

    Args:
        children, weight: as in `LazyVotes`.
        wanted: whether the gradient of each is wanted.
    """

    def __init__(self, children: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> None:
        self.children = torch.empty_like(children) if wanted[0] else None
        self.weight = weight.new_empty(weight.shape) if wanted[1] else None

    def fill(self, block: Block, by_votes: Float[Tensor, "child row column parent batch"]) -> None:
        """Compute a block's gradients from those of its votes."""
        num_children, rows, columns, num_parents, batch = by_votes.shape
        flat = by_votes.view(num_children * rows, columns * num_parents, batch)
        if self.children is not None:
            found = torch.bmm(block.weight.transpose(1, 2), flat)
            self.children[:, block.part] = found.view(num_children, rows, *found.shape[1:]).permute(3, 0, 1, 2)
        if self.weight is not None:
            found = torch.bmm(block.children, flat.transpose(1, 2))
            found = found.view(num_children, rows, found.shape[1], columns, num_parents)
            self.weight[block.part] = found.permute(0, 4, 2, 1, 3)


def batch_last_blocks(children: Tensor, weight: Tensor, num_spare: int) -> Iterator[Block]:
    """Compute votes a block of children at a time.

    Args:
        children, weight: as in `LazyVotes`.
        num_spare: how many further arrays like a block's votes are needed.
    """
    batch, _, num_parents, _ = LazyVotes(children, weight).shape
    inner, rows, columns = weight.shape[2:]
    arrays = None
    for part in blocks_of(children, weight):
        size = part.stop - part.start
        some = children[:, part].permute(1, 2, 3, 0).reshape(size * rows, inner, batch)
        their_weight = weight[part].permute(0, 3, 4, 1, 2).reshape(size * rows, columns * num_parents, inner)
        if arrays is None:
            arrays = children.new_empty(1 + num_spare, size, rows, columns, num_parents, batch)
        votes, *spare = arrays[:, :size]
        torch.bmm(their_weight, some, out=votes.view(size * rows, columns * num_parents, batch))
        yield Block(part, some, their_weight, votes, tuple(spare))


def sum_over_dims(values: Float[Tensor, "child row column parent batch"]) -> Float[Tensor, "child 1 1 parent batch"]:
    """Sum over the dimensions of votes."""
    return values.flatten(1, 2).sum(dim=1)[:, None, None]


def batch_last(values: Float[Tensor, "batch parent dim"], rows: int) -> Float[Tensor, "row column parent batch"]:
    """Bring a router's tensor into the order of votes here."""
    return values.reshape(*values.shape[:2], rows, values.shape[2] // rows).permute(2, 3, 1, 0).contiguous()


def batch_first(values: Float[Tensor, "row column parent batch"]) -> Float[Tensor, "batch parent dim"]:
    """Bring what was summed over children back into the order of routers."""
    return values.permute(3, 2, 0, 1).flatten(-2)
