"""Hit-or-miss: the sum of votes, normalised over the batch; an active parent lies at the centre of the unit cube."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from capsbench.routing.base import Capsules, Router
from capsbench.routing.batch_norm import BatchNorm
from capsbench.routing.functional import length
from capsbench.routing.votes import Votes

BATCH_NORM_EPS = 1e-3


class HitOrMiss(Router):
    """Sum votes with uniform coupling, normalise over the batch, and squeeze poses into the cube [0, 1]^k.

    A pose at the cube's centre is a hit: activation 1. It falls with the distance δ from the centre, to 0 at a corner:
    1 - 2δ/√k. Made for the loss `centripetal`. There is no agreement, so no vote is ever computed alone.

    Source: Deliège et al. 2018, "HitNet: a neural network with capsules embedded in a Hit-or-Miss layer"
    (arXiv:1806.06519). There it is a linear layer of all children, which is this sum.

    Args:
        num_parents: the number of parents J.
        pose_dim: dimensions k of a vote.
        batch_norm_momentum: each batch's share in the running statistics that evaluation uses. 0.01 is slow for runs of
            a few hundred steps.
        implementation: see `Router`.

    >>> votes = torch.randn(2, 7, 3, 16)  # (batch, child, parent, dim)
    >>> poses, activations = HitOrMiss(num_parents=3, pose_dim=16)(votes)
    >>> poses.shape, activations.shape  # (batch, parent, dim) and (batch, parent)
    (torch.Size([2, 3, 16]), torch.Size([2, 3]))
    """

    takes_lazy_votes = True
    reads_activations = False

    def __init__(
        self, num_parents: int, pose_dim: int, batch_norm_momentum: float = 0.01, implementation: str = "auto"
    ) -> None:
        super().__init__(implementation)
        self.num_parents, self.pose_dim = num_parents, pose_dim
        self.norm = BatchNorm(num_parents * pose_dim, BATCH_NORM_EPS, batch_norm_momentum)

    def route(self, votes: Votes, activations: Float[Tensor, "batch child"] | None = None) -> Capsules:
        """Sum the votes; child activations are ignored. `normalise` computes the parents' activations, here 0."""
        total = votes.sum(dim=1)
        return Capsules(total, activations=torch.zeros_like(total[..., 0]))

    def normalise(self, parents: Capsules) -> Capsules:
        """Normalise sums over the batch, squeeze them into the cube, and compute activations."""
        total = parents.poses
        poses = self.norm(total.flatten(1)).sigmoid().view_as(total)
        return Capsules(poses, activations=hit_activation(poses))


def hit_activation(poses: Float[Tensor, "*axes dim"]) -> Float[Tensor, "*axes"]:
    """Return how near poses in the unit cube are to its centre: 1 there, 0 at a corner.

    >>> hit_activation(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    tensor([1., 0.])
    """
    offset = poses.to(torch.promote_types(poses.dtype, torch.float32)) - 0.5
    return (1 - 2 * length(offset) / math.sqrt(poses.shape[-1])).to(poses.dtype)
