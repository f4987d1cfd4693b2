"""EM routing: parents as the Gaussians that best explain the votes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.routing.base import Capsules, Router, check_iterations
from capsbench.routing.functional import softmax_over_parents, weighted_sum
from capsbench.routing.votes import LazyVotes, sum_over_children

EPS = 1e-9
FINAL_INVERSE_TEMPERATURE = 0.01
COST_SCALE = 100.0


class EMRouting(Router):
    """Procedure 1 of Hinton et al. 2018, "Matrix Capsules with EM Routing" (ICLR), with the constants of FMRouting.

    Each parent is a Gaussian with mean μ (its pose) and variance σ² per dimension; the children are assigned to parents
    in proportion to how well each explains their votes.

    Args:
        num_parents: the number of parent capsules J.
        iterations: EM steps, at least 1.
        implementation: see `Router`.

    Attributes:
        beta_a: (num_parents,), learned; what a parent is worth before it pays for its children.
        beta_v: (num_parents,), learned; the part of a child's cost that does not depend on the fit.

    Raises:
        ValueError: iterations below 1, num_parents below 1; in the forward pass: activations missing, or votes for
            another number of parents.
    """

    takes_lazy_votes = True

    def __init__(self, num_parents: int, iterations: int = 3, implementation: str = "auto") -> None:
        super().__init__(implementation)
        if num_parents < 1:
            raise ValueError(f"num_parents must be at least 1, got {num_parents}")
        self.iterations = check_iterations(iterations)
        self.beta_a = nn.Parameter(torch.empty(num_parents))
        self.beta_v = nn.Parameter(torch.empty(num_parents))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """β_a ~ TruncatedNormal(-1000, 500), β_v ~ Glorot, as in the paper's code."""
        nn.init.trunc_normal_(self.beta_a, mean=-1000.0, std=500.0, a=-2000.0, b=0.0)
        nn.init.normal_(self.beta_v, std=math.sqrt(2 / (len(self.beta_v) + 1)))

    def route(
        self,
        votes: Float[Tensor, "batch child parent dim"] | LazyVotes,
        activations: Float[Tensor, "batch child"] | None,
    ) -> Capsules:
        if activations is None:
            raise ValueError("EM routing weighs children by their activations: pass activations (batch, child)")
        num_parents = votes.shape[2]
        if num_parents != len(self.beta_a):
            raise ValueError(f"votes are for {num_parents} parents, this router was built for {len(self.beta_a)}")

        parents: tuple[Tensor, ...] = ()
        for iteration in range(self.iterations):
            parents = self._m_step(votes, activations, parents, iteration)
        mean, _, parent_activations = parents
        return Capsules(mean, parent_activations)

    def _m_step(
        self,
        votes: Float[Tensor, "batch child parent dim"] | LazyVotes,
        activations: Float[Tensor, "batch child"],
        parents: tuple[Tensor, ...],
        iteration: int,
    ) -> tuple[Float[Tensor, "batch parent dim"], Float[Tensor, "batch parent dim"], Float[Tensor, "batch parent"]]:
        """Fit each parent's Gaussian to the votes of its children: mean, variance, and how well that pays."""
        num_children, num_parents = votes.shape[1:3]
        mass, total = sum_over_children(_mass_and_total, votes, activations, *parents)
        mean = total / (mass + EPS).unsqueeze(-1)
        (spread,) = sum_over_children(_spread, votes, activations, mean, *parents)
        variance = spread / (mass + EPS).unsqueeze(-1) + EPS

        cost_per_child = (self.beta_v.unsqueeze(-1) + 0.5 * variance.log()).sum(dim=-1)
        cost = cost_per_child * mass * (COST_SCALE * num_parents / num_children)
        inverse_temperature = FINAL_INVERSE_TEMPERATURE * (1 - 0.95 ** (iteration + 1))
        return mean, variance, torch.sigmoid(inverse_temperature * (self.beta_a - cost))

    def extra_repr(self) -> str:
        return f"num_parents={len(self.beta_a)}, iterations={self.iterations}"


def _mass_and_total(
    votes: Float[Tensor, "batch child parent dim"], activations: Float[Tensor, "batch child"], *parents: Tensor
) -> tuple[Float[Tensor, "batch parent"], Float[Tensor, "batch parent dim"]]:
    """How much of the children each parent gets, and their votes, weighted by that."""
    weights = _assignment(votes, *parents) * activations.unsqueeze(-1)
    return weights.sum(dim=1), weighted_sum(weights, votes)


def _spread(
    votes: Float[Tensor, "batch child parent dim"],
    activations: Float[Tensor, "batch child"],
    mean: Float[Tensor, "batch parent dim"],
    *parents: Tensor,
) -> tuple[Float[Tensor, "batch parent dim"]]:
    """The squared distances of votes from their mean, weighted likewise."""
    weights = _assignment(votes, *parents) * activations.unsqueeze(-1)
    return (weighted_sum(weights, (votes - mean.unsqueeze(1)).square()),)


def _assignment(
    votes: Float[Tensor, "batch child parent dim"],
    mean: Float[Tensor, "batch parent dim"] | None = None,
    variance: Float[Tensor, "batch parent dim"] | None = None,
    parent_activations: Float[Tensor, "batch parent"] | None = None,
) -> Float[Tensor, "batch child parent"]:
    """The E-step: each child's posterior over parents, in log space so that nothing under- or overflows.

    Before there are parents, all are as likely.
    """
    if mean is None or variance is None or parent_activations is None:
        return votes.new_full(votes.shape[:-1], 1 / votes.shape[2])
    distance = ((votes - mean.unsqueeze(1)).square() * (0.5 / variance).unsqueeze(1)).sum(dim=-1)
    log_volume = 0.5 * (2 * math.pi * variance).log().sum(dim=-1)
    log_posterior = (parent_activations + EPS).log() - log_volume
    return softmax_over_parents(log_posterior.unsqueeze(1) - distance)
