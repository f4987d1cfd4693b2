"""EM routing: parents as the Gaussians that best explain the votes."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.routing.base import Capsules, Router, check_iterations
from capsbench.routing.mixtures import EPS, Densities, assign, checked, moments
from capsbench.routing.votes import Votes

# Hinton et al. give none of these numbers. They are those of FMRouting (em_routing.py), the code of FM agreement's
# authors.
FINAL_INVERSE_TEMPERATURE = 0.01
"""The inverse temperature λ after many iterations."""
INVERSE_TEMPERATURE_DECAY = 0.95
"""Each iteration multiplies the distance of λ from its final value by this."""
COST_SCALE = 100.0
"""Costs are scaled to this many children for each parent on average, instead of n/J."""


class Gaussians(NamedTuple):
    """Parents as Gaussians: mean μ and variance σ² of each dimension, and activation a."""

    mean: Float[Tensor, "batch parent dim"]
    variance: Float[Tensor, "batch parent dim"]
    activation: Float[Tensor, "batch parent"]


class EMRouting(Router):
    """Route by expectation maximisation: fit a Gaussian for each parent to the votes of the children assigned to it.

    A parent's pose is the mean of its Gaussian. Its activation is high if it has many children whose votes lie close
    together.

    Source: Procedure 1 of Hinton et al. 2018, "Matrix Capsules with EM Routing" (ICLR 2018).

    Args:
        num_parents: the number of parents J.
        iterations: how often the Gaussians are fitted, at least 1.
        implementation: see `Router`.
        beta_a: mean of the initial values of β_a; that of FMRouting by default.
        beta_v: mean of the initial values of β_v; that of FMRouting by default.

    Attributes:
        beta_a: (num_parents,), learned: a parent is active if its cost is below β_a.
        beta_v: (num_parents,), learned: the part of the cost that does not depend on the variance; β_u in the paper.

    Raises:
        ValueError: iterations is not an integer of at least 1, num_parents is below 1, or a mean is not finite. In the
            forward pass: activations are missing, or votes are for another number of parents.

    >>> votes, activations = torch.randn(2, 7, 3, 16), torch.rand(2, 7)  # (batch, child, parent, dim), (batch, child)
    >>> parents = EMRouting(num_parents=3)(votes, activations)
    >>> parents.poses.shape, parents.activations.shape  # (batch, parent, dim) and (batch, parent)
    (torch.Size([2, 3, 16]), torch.Size([2, 3]))
    """

    takes_lazy_votes = True
    divides_children = True
    needs_activations = True
    default_competition = "all"

    def __init__(
        self,
        num_parents: int,
        iterations: int = 3,
        implementation: str = "auto",
        *,
        beta_a: float = -1000.0,
        beta_v: float = 0.0,
    ) -> None:
        super().__init__(implementation)
        if num_parents < 1:
            raise ValueError(f"num_parents must be at least 1, got {num_parents}")
        for name, mean in (("beta_a", beta_a), ("beta_v", beta_v)):
            if not math.isfinite(mean):
                raise ValueError(f"{name} must be a finite number, got {mean}")
        self.mean_beta_a, self.mean_beta_v = beta_a, beta_v
        self.num_parents, self.iterations = num_parents, check_iterations(iterations)
        self.beta_a = nn.Parameter(torch.empty(num_parents))
        self.beta_v = nn.Parameter(torch.empty(num_parents))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw β_a and β_v from FMRouting's distributions, at other means where they are set."""
        mean = self.mean_beta_a
        nn.init.trunc_normal_(self.beta_a, mean=mean, std=500.0, a=mean - 1000.0, b=mean + 1000.0)
        nn.init.normal_(self.beta_v, mean=self.mean_beta_v, std=math.sqrt(2 / (len(self.beta_v) + 1)))

    def route(self, votes: Votes, activations: Float[Tensor, "batch child"] | None) -> Capsules:
        """Compute Procedure 1.

        The assignment R is not stored: each M-step repeats the E-step of the iteration before, block by block.
        """
        activations = checked("EM", votes, activations, len(self.beta_a))
        # Means and variances divide by Σ R·a: their slope in a is about 1/a, so a child that is off gets none.
        activations = torch.where(activations.abs() < EPS, activations.detach(), activations)
        parents = self.m_step(votes, activations, None, iteration=0)
        for iteration in range(1, self.iterations):
            parents = self.m_step(votes, activations, parents, iteration)
        # A variance that overflowed would leave an activation of 0, as if that were sure.
        overflowed = ~torch.isfinite(parents.variance).all(dim=-1)
        return Capsules(parents.mean, parents.activation.masked_fill(overflowed, torch.nan))

    def m_step(
        self, votes: Votes, activations: Float[Tensor, "batch child"], parents: Gaussians | None, iteration: int
    ) -> Gaussians:
        """Fit the parents' Gaussians to the votes.

        Args:
            votes: (batch, child, parent, dim).
            activations: (batch, child).
            parents: those of the iteration before, to which `e_step` assigns children; None for a uniform assignment.
            iteration: counted from 0; sets the inverse temperature.
        """
        num_children, num_parents = votes.shape[1:3]
        densities = None if parents is None else self.densities(parents)
        mass, mean, scatter = moments(votes, activations, densities, self.share)
        variance = scatter / (mass + EPS).unsqueeze(-1) + EPS

        cost_per_child = (self.beta_v.unsqueeze(-1) + 0.5 * variance.log()).sum(dim=-1)
        cost = cost_per_child * mass * (COST_SCALE * num_parents / num_children)
        inverse_temperature = FINAL_INVERSE_TEMPERATURE * (1 - INVERSE_TEMPERATURE_DECAY ** (iteration + 1))
        return Gaussians(mean, variance, torch.sigmoid(inverse_temperature * (self.beta_a - cost)))

    def e_step(
        self, votes: Float[Tensor, "batch child parent dim"], parents: Gaussians
    ) -> Float[Tensor, "batch child parent"]:
        """Assign children to parents in proportion to a·N(û; μ, σ²)."""
        return assign(votes, self.densities(parents), self.share)

    def densities(self, parents: Gaussians) -> Densities:
        """Return the logarithm of a·N(û; μ, σ²) as a function of the vote û."""
        mean, variance, activation = parents
        log_volume = 0.5 * (2 * math.pi * variance).log().sum(dim=-1)
        return Densities((activation + EPS).log() - log_volume, mean, precision=0.5 / variance)

    def extra_repr(self) -> str:
        return f"num_parents={len(self.beta_a)}, iterations={self.iterations}"
