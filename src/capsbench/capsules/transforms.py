"""Transforms: the pose of a child to its votes, one weight matrix for each (child, parent) pair."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.routing import LazyVotes

WeightInit = Literal["pair", "kernel"]


def glorot_normal_(weight: Float[Tensor, "child parent rows columns"], fan_in: int, fan_out: int, copies: int) -> None:
    """Fill transform weights with N(0, 2/(copies · (fan_in + fan_out))), Glorot and Bengio 2010.

    What `copies` is, Glorot's rule leaves open for a stack of matrices. "pair" counts one matrix at a time (copies 1).
    "kernel" is what the paper's code gets from Keras, which takes the leading axes for a receptive field: weights about
    √(n·J) times smaller, so small that the ε of a following batch norm, not the variance, sets the votes' size.
    """
    nn.init.normal_(weight, std=math.sqrt(2 / (copies * (fan_in + fan_out))))


def check_weight_init(weight_init: str) -> None:
    """Raise ValueError unless `weight_init` is one of the two ways to count fans."""
    if weight_init not in ("pair", "kernel"):
        raise ValueError(f"weight_init must be pair or kernel, got {weight_init!r}")


class FullTransform(nn.Module):
    """Votes û = uW with a whole matrix W (child_dim × pose_dim) per pair.

    Args:
        num_children: n. num_parents: J. child_dim: d, dimensions of a child pose. pose_dim: k, of a vote.
        weight_init: see `glorot_normal_`.

    Raises:
        ValueError: weight_init is unknown.

    Source: Sabour et al. 2017 (arXiv:1710.09829), eq. 2.
    """

    def __init__(
        self, num_children: int, num_parents: int, child_dim: int, pose_dim: int, weight_init: WeightInit = "pair"
    ) -> None:
        super().__init__()
        check_weight_init(weight_init)
        self.pose_dim = pose_dim
        self.weight = nn.Parameter(torch.empty(num_children, num_parents, child_dim, pose_dim))
        if weight_init == "pair":
            glorot_normal_(self.weight, child_dim, pose_dim, copies=1)
        else:  # Keras: kernel (n, d, J·k)
            glorot_normal_(self.weight, child_dim, num_parents * pose_dim, copies=num_children)

    def forward(self, poses: Float[Tensor, "batch child d"]) -> Float[Tensor, "batch child parent k"]:
        """Poses of the children to their votes."""
        return torch.einsum("bid,ijdk->bijk", poses, self.weight)

    def factor(self, poses: Float[Tensor, "batch child d"]) -> LazyVotes:
        """Poses of the children to the factors of their votes."""
        return LazyVotes(poses.unsqueeze(2), self.weight.unsqueeze(3))

    def extra_repr(self) -> str:
        return "children={}, parents={}, child_dim={}, pose_dim={}".format(*self.weight.shape)


class MatrixTransform(nn.Module):
    """Votes from a pose seen as a √k × √k matrix, times a √k × √k weight: k weights per pair instead of k².

    Args:
        num_children: n. num_parents: J. pose_dim: k, of child poses and votes alike.
        weight_init: see `glorot_normal_`.

    Raises:
        ValueError: pose_dim is not a square number, or weight_init is unknown.

    Source: the paper's Algorithm 2, lines 1 to 3; Hinton et al. 2018, "Matrix Capsules with EM Routing".
    """

    def __init__(self, num_children: int, num_parents: int, pose_dim: int, weight_init: WeightInit = "pair") -> None:
        super().__init__()
        check_weight_init(weight_init)
        side = math.isqrt(max(pose_dim, 0))
        if pose_dim < 1 or side * side != pose_dim:
            raise ValueError(
                f"pose_dim must be a square number for the matrix transform (4, 9, 16, 25 …), got {pose_dim}; "
                "choose one, or the full transform"
            )
        self.pose_dim = pose_dim
        self.weight = nn.Parameter(torch.empty(num_children, num_parents, side, side))
        # Keras: kernel (n, J, √k, √k)
        glorot_normal_(self.weight, side, side, copies=1 if weight_init == "pair" else num_children * num_parents)

    def forward(self, poses: Float[Tensor, "batch child k"]) -> Float[Tensor, "batch child parent k"]:
        """Poses of the children to their votes."""
        return torch.einsum("bixy,ijyz->bijxz", self._matrices(poses), self.weight).flatten(-2)

    def factor(self, poses: Float[Tensor, "batch child k"]) -> LazyVotes:
        """Poses of the children to the factors of their votes; the weights are the same for each row."""
        side = self.weight.shape[-1]
        return LazyVotes(self._matrices(poses), self.weight.unsqueeze(3).expand(-1, -1, -1, side, -1))

    def _matrices(self, poses: Float[Tensor, "batch child k"]) -> Float[Tensor, "batch child side side"]:
        side = self.weight.shape[-1]
        return poses.reshape(*poses.shape[:-1], side, side)

    def extra_repr(self) -> str:
        children, parents, *_ = self.weight.shape
        return f"children={children}, parents={parents}, pose_dim={self.pose_dim}"
