"""Dynamic routing between maps of capsules, with convolutions for transforms: the skip connection of DeepCaps."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.capsules.initial import Conv2d, LayerInit
from capsbench.routing import squash
from capsbench.routing.base import check_iterations
from capsbench.routing.functional import widen

KERNEL = 3


class ConvRouting3d(nn.Module):
    """Route each type of child capsule, as a whole map, to whole maps of parent capsules.

    A child type votes with a convolution of its own map alone, and all child types have the same weights: a 3-D
    convolution whose third axis steps from type to type. Each child type then divides itself among all places of all
    parents, and a parent's map has one length.

    Source: Rajasegaran et al. 2019, "DeepCaps" (arXiv:1904.09546), §3.2. Types, dimensions and places are kept apart,
    as the paper means. The released code reshapes (row, column, type, dim) to (type · dim, row, column) without moving
    axes, which mixes them.

    Args:
        child_dim: dimensions of a child pose.
        num_parents: parent types J.
        pose_dim: dimensions k of a parent pose.
        iterations: how often coupling coefficients are computed, at least 1. With 1 they are uniform: no agreement.
        conv_init: see `capsbench.capsules.initial.Conv2d`.

    Raises:
        ValueError: iterations is not an integer of at least 1, or conv_init is unknown. In the forward pass: poses have
            other dimensions.

    >>> layer = ConvRouting3d(child_dim=8, num_parents=4, pose_dim=16)
    >>> layer(torch.randn(2, 32, 8, 5, 6)).shape  # (batch, child, d, row, column) to (batch, parent, k, row, column)
    torch.Size([2, 4, 16, 5, 6])
    """

    __call__: Callable[..., Tensor]

    def __init__(
        self, child_dim: int, num_parents: int, pose_dim: int, *, iterations: int = 3, conv_init: LayerInit = "torch"
    ) -> None:
        super().__init__()
        self.num_parents, self.iterations = num_parents, check_iterations(iterations)
        self.conv = Conv2d(child_dim, num_parents * pose_dim, KERNEL, padding=KERNEL // 2, init=conv_init)
        self.bias = nn.Parameter(torch.full((num_parents, pose_dim, 1, 1), 0.1))

    def votes(
        self, children: Float[Tensor, "batch child d row column"]
    ) -> Float[Tensor, "batch child parent k row column"]:
        """Compute the votes û of each child type: a convolution of its map."""
        if children.ndim != 5 or children.shape[2] != self.conv.in_channels:
            raise ValueError(
                f"this layer takes (batch, child, {self.conv.in_channels} dimensions, row, column), "
                f"got {tuple(children.shape)}"
            )
        votes: Tensor = self.conv(children.flatten(0, 1))
        return torch.unflatten(torch.unflatten(votes, 1, (self.num_parents, -1)), 0, children.shape[:2])

    def forward(
        self, children: Float[Tensor, "batch child d row column"]
    ) -> Float[Tensor, "batch parent k row column"]:
        """Map child poses to parent poses; the squares of a parent's whole map sum to less than 1."""
        votes = self.votes(children)
        with torch.autocast(votes.device.type, enabled=False):
            return self._route(widen(votes, torch.promote_types(votes.dtype, torch.float32)))

    def _route(self, votes: Float[Tensor, "batch child parent k row column"]) -> Tensor:
        b = torch.zeros_like(votes[:, :, :, 0])  # logits (batch, child, parent, row, column)
        v = torch.zeros_like(votes[:, 0])
        for _ in range(self.iterations):
            b = b + (votes * v.unsqueeze(1)).sum(dim=3)
            c = b.flatten(2).softmax(dim=2).view_as(b)
            s = (c.unsqueeze(3) * votes).sum(dim=1) + self.bias
            v = squash(s.flatten(2)).view_as(s)
        return v

    def extra_repr(self) -> str:
        return f"iterations={self.iterations}"
