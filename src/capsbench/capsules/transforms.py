"""Transforms: child poses to votes, with one weight matrix for each pair of child and parent."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.routing import check_choice

WeightInit = Literal["pair", "kernel"]


def glorot_normal_(weight: Float[Tensor, "child parent rows columns"], fan_in: int, fan_out: int, copies: int) -> None:
    """Fill transform weights with N(0, 2/(copies · (fan_in + fan_out))).

    Glorot's rule is for one matrix and leaves open what `copies` is for many. "pair" takes 1. "kernel" is what Keras
    does in the paper's code: it takes the leading axes for a receptive field, so weights are about √(n·J) times
    smaller. They are so small that the ε of a following batch norm decides the size of votes, not their variance.

    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks".
    """
    nn.init.normal_(weight, std=math.sqrt(2 / (copies * (fan_in + fan_out))))


def check_poses(poses: Tensor, num_children: int, child_dim: int, where: str = "") -> None:
    """Raise ValueError unless poses are (batch, num_children, child_dim): a product would broadcast one child to all.

    Args:
        poses: of the children.
        num_children, child_dim: what a layer takes.
        where: words on the place of the children.
    """
    if poses.ndim != 3 or poses.shape[1] != num_children or poses.shape[2] != child_dim:
        got = f"{poses.shape[1]} of {poses.shape[2]}" if poses.ndim == 3 else f"poses of shape {tuple(poses.shape)}"
        raise ValueError(f"this layer takes {num_children} children of {child_dim} dimensions{where}, got {got}")
    if not poses.dtype.is_floating_point:
        raise ValueError(f"poses must be floating point, got {poses.dtype}")


class FullTransform(nn.Module):
    """Compute votes û = uW with a matrix W (child_dim × pose_dim) for each pair of child and parent.

    Source: Sabour et al. 2017 (arXiv:1710.09829), eq. 2.

    Args:
        num_children: children n.
        num_parents: parents J.
        child_dim: dimensions d of a child pose.
        pose_dim: dimensions k of a vote.
        weight_init: "pair" or "kernel", see `glorot_normal_`.

    Raises:
        ValueError: weight_init is unknown. In the forward pass: poses are of other numbers of children or dimensions.

    >>> transform = FullTransform(num_children=7, num_parents=3, child_dim=8, pose_dim=16)
    >>> transform(torch.randn(2, 7, 8)).shape  # (batch, child, d) to (batch, child, parent, k)
    torch.Size([2, 7, 3, 16])
    """

    __call__: Callable[..., Tensor]

    def __init__(
        self, num_children: int, num_parents: int, child_dim: int, pose_dim: int, weight_init: WeightInit = "pair"
    ) -> None:
        super().__init__()
        check_choice("weight_init", weight_init, "pair", "kernel")
        self.num_children, self.num_parents = num_children, num_parents
        self.child_dim, self.pose_dim = child_dim, pose_dim
        self.weight_init = weight_init
        self.weight = nn.Parameter(torch.empty(num_children, num_parents, child_dim, pose_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial weights."""
        num_children, num_parents, child_dim, pose_dim = self.weight.shape
        if self.weight_init == "pair":
            glorot_normal_(self.weight, child_dim, pose_dim, copies=1)
        else:  # Keras: kernel (n, d, J·k)
            glorot_normal_(self.weight, child_dim, num_parents * pose_dim, copies=num_children)

    def forward(self, poses: Float[Tensor, "batch child d"]) -> Float[Tensor, "batch child parent k"]:
        """Compute the votes of child poses."""
        check_poses(poses, self.num_children, self.child_dim)
        return torch.einsum("bid,ijdk->bijk", poses.to(self.weight.dtype), self.weight)

    def factors(
        self, poses: Float[Tensor, "batch child d"]
    ) -> tuple[Float[Tensor, "batch child 1 d"], Float[Tensor, "child parent d 1 k"]]:
        """Return what `LazyVotes` computes the same votes from."""
        check_poses(poses, self.num_children, self.child_dim)
        return poses.unsqueeze(2), self.weight.unsqueeze(3)

    def extra_repr(self) -> str:
        return "children={}, parents={}, child_dim={}, pose_dim={}".format(*self.weight.shape)


class MatrixTransform(nn.Module):
    """Compute votes from poses seen as √k × √k matrices, times a √k × √k weight: k weights for each pair, not k².

    Source: the paper's Algorithm 2, lines 1 to 3; Hinton et al. 2018, "Matrix Capsules with EM Routing" (ICLR 2018).

    Args:
        num_children: children n.
        num_parents: parents J.
        pose_dim: dimensions k of child poses and of votes.
        weight_init: "pair" or "kernel", see `glorot_normal_`.

    Raises:
        ValueError: pose_dim is not a square number, or weight_init is unknown. In the forward pass: as `FullTransform`.

    >>> transform = MatrixTransform(num_children=7, num_parents=3, pose_dim=16)
    >>> transform(torch.randn(2, 7, 16)).shape  # (batch, child, k) to (batch, child, parent, k)
    torch.Size([2, 7, 3, 16])
    """

    __call__: Callable[..., Tensor]

    def __init__(self, num_children: int, num_parents: int, pose_dim: int, weight_init: WeightInit = "pair") -> None:
        super().__init__()
        check_choice("weight_init", weight_init, "pair", "kernel")
        side = math.isqrt(max(pose_dim, 0))
        if pose_dim < 1 or side * side != pose_dim:
            raise ValueError(
                f"pose_dim must be a square number for the matrix transform (4, 9, 16, 25 …), got {pose_dim}; "
                "choose one, or the full transform"
            )
        self.num_children, self.num_parents = num_children, num_parents
        self.child_dim = self.pose_dim = pose_dim
        self.weight_init = weight_init
        self.weight = nn.Parameter(torch.empty(num_children, num_parents, side, side))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial weights."""
        num_children, num_parents, side, _ = self.weight.shape
        copies = 1 if self.weight_init == "pair" else num_children * num_parents  # Keras: kernel (n, J, √k, √k)
        glorot_normal_(self.weight, side, side, copies)

    def forward(self, poses: Float[Tensor, "batch child k"]) -> Float[Tensor, "batch child parent k"]:
        """Compute the votes of child poses."""
        matrices = self._matrices(poses.to(self.weight.dtype))  # a router's are of 32 bits also where weights have 16
        return torch.einsum("bixy,ijyz->bijxz", matrices, self.weight).flatten(-2)

    def factors(
        self, poses: Float[Tensor, "batch child k"]
    ) -> tuple[Float[Tensor, "batch child side side"], Float[Tensor, "child parent side side side"]]:
        """Return what `LazyVotes` computes the same votes from; the weights are the same for each row."""
        side = self.weight.shape[-1]
        return self._matrices(poses), self.weight.unsqueeze(3).expand(-1, -1, -1, side, -1)

    def _matrices(self, poses: Float[Tensor, "batch child k"]) -> Float[Tensor, "batch child side side"]:
        check_poses(poses, self.num_children, self.child_dim)
        side = self.weight.shape[-1]
        return poses.reshape(*poses.shape[:-1], side, side)

    def extra_repr(self) -> str:
        return f"children={self.num_children}, parents={self.num_parents}, pose_dim={self.pose_dim}"
