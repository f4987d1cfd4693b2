"""One matrix for all places: what class capsules read from a map of capsules, and where each of them lies."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from capsbench.capsules.transforms import MatrixTransform, WeightInit


class SharedMatrixTransform(MatrixTransform):
    """Compute votes with one matrix for each pair of child type and parent, whatever the child's place.

    Since the matrices are the same everywhere, a vote would not say where its child lies. So the child's place is added
    to two elements of the vote, the first two of its matrix's last column: (row + ½)/rows and (column + ½)/columns.

    Source: Hinton et al. 2018, "Matrix Capsules with EM Routing" (ICLR 2018), §4, "coordinate addition"; the numbers
    are those of Gritzman 2019 (arXiv:1907.00652).

    Args:
        grid: (rows, columns) of the child map.
        num_types: capsules at each place.
        num_parents: parents J.
        pose_dim: dimensions k of child poses and of votes.
        weight_init: see `glorot_normal_`.
        coordinate_scale: factor of the coordinates; 0 adds none.

    Raises:
        ValueError: pose_dim is not a square number, or weight_init is unknown.

    >>> transform = SharedMatrixTransform(grid=(3, 3), num_types=16, num_parents=10, pose_dim=16)
    >>> transform(torch.randn(2, 3 * 3 * 16, 16)).shape  # (batch, row · column · type, k) to (…, parent, k)
    torch.Size([2, 144, 10, 16])
    >>> transform.weight.shape  # (type, parent, √k, √k)
    torch.Size([16, 10, 4, 4])
    """

    def __init__(
        self,
        grid: tuple[int, int],
        num_types: int,
        num_parents: int,
        pose_dim: int,
        weight_init: WeightInit = "pair",
        coordinate_scale: float = 1.0,
    ) -> None:
        super().__init__(num_types, num_parents, pose_dim, weight_init)
        self.grid = grid
        self.num_children = math.prod(grid) * num_types
        self.coordinate_scale = coordinate_scale

    def coordinates(self) -> Float[Tensor, "child k"]:
        """Return what is added to the votes of each child."""
        (rows, columns), (num_types, _, side, _) = self.grid, self.weight.shape
        added = self.weight.new_zeros(rows, columns, num_types, side, side)
        at_row, at_column = (torch.arange(size).to(added) + 0.5 for size in self.grid)
        added[..., 0, -1] = (self.coordinate_scale * at_row / rows).view(-1, 1, 1)
        if side > 1:
            added[..., 1, -1] = (self.coordinate_scale * at_column / columns).view(1, -1, 1)
        return added.reshape(self.num_children, self.pose_dim)

    def forward(self, poses: Float[Tensor, "batch child k"]) -> Float[Tensor, "batch child parent k"]:
        """Compute the votes of child poses."""
        matrices = self._matrices(poses.to(self.weight.dtype))
        matrices = matrices.reshape(poses.shape[0], math.prod(self.grid), len(self.weight), *matrices.shape[2:])
        votes = torch.einsum("bpixy,ijyz->bpijxz", matrices, self.weight).flatten(-2).flatten(1, 2)
        return votes + self.coordinates().unsqueeze(1)

    def factors(
        self, poses: Float[Tensor, "batch child k"]
    ) -> tuple[Float[Tensor, "batch child side inner"], Float[Tensor, "child parent inner side side"]]:
        """Return what `LazyVotes` computes the same votes from; the coordinates are the weights of a constant 1."""
        side = self.weight.shape[-1]
        matrices = self._matrices(poses)
        ones = matrices.new_ones(*matrices.shape[:-1], 1)
        weight = self.weight.unsqueeze(3).expand(-1, -1, -1, side, -1)
        everywhere = weight.repeat(math.prod(self.grid), 1, 1, 1, 1)
        added = self.coordinates().reshape(self.num_children, 1, 1, side, side)
        return torch.cat([matrices, ones], -1), torch.cat(
            [everywhere, added.expand(-1, self.num_parents, -1, -1, -1)], 2
        )
