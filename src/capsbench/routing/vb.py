"""Variational Bayes routing: parents as the posterior of a mixture of Gaussians with priors."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.routing.base import Capsules, Router, check_iterations
from capsbench.routing.batch_norm import BatchNorm
from capsbench.routing.functional import digamma, softmax_over_parents
from capsbench.routing.mixtures import Densities, assign, checked, moments
from capsbench.routing.votes import Votes


class Posterior(NamedTuple):
    """What is known of the parents after some children: Dirichlet, Normal and Wishart distributions in one."""

    mean: Float[Tensor, "batch parent dim"]
    """m, of the Normal distribution."""
    psi: Float[Tensor, "batch parent dim"]
    """The diagonal of Ψ⁻¹, of the Wishart distribution."""
    strength: Float[Tensor, "batch parent"]
    """κ, of the Normal distribution."""
    freedom: Float[Tensor, "batch parent"]
    """ν, the degrees of freedom of the Wishart distribution."""
    log_precision: Float[Tensor, "batch parent"]
    """E ln|Λ|."""
    log_share: Float[Tensor, "batch parent"]
    """E ln π, of the Dirichlet distribution."""


class VBRouting(Router):
    """Route by variational Bayes: like EM, but each parent keeps its uncertainty, which a few votes cannot remove.

    A parent is active if its share of the children is large and its entropy small. Poses and activations are normalised
    over the batch, the activations before a sigmoid.

    Source: Ribeiro et al. 2020, "Capsule Routing via Variational Bayes" (AAAI 2020, arXiv:1905.11455), and its code.
    The code divides assignments by no less than 1e-11, which drops part of a child that no parent explains. Here they
    are a softmax of logarithms.

    Args:
        num_parents: the number of parents J.
        iterations: how often the posterior is computed, at least 1.
        implementation: see `Router`.

    Attributes:
        beta_a, beta_u: (num_parents,), as in the code: a parent's activation grows with β_a - β_u. Batch norm takes a
            shift away, so they have no gradient in training and stay 0.

    Raises:
        ValueError: iterations is not an integer of at least 1. In the forward pass: activations are missing, or votes
            are for another number of parents.

    >>> votes, activations = torch.randn(2, 7, 3, 16), torch.rand(2, 7)  # (batch, child, parent, dim), (batch, child)
    >>> parents = VBRouting(num_parents=3)(votes, activations)
    >>> parents.poses.shape, parents.activations.shape  # (batch, parent, dim) and (batch, parent)
    (torch.Size([2, 3, 16]), torch.Size([2, 3]))
    """

    takes_lazy_votes = True
    divides_children = True
    needs_activations = True
    default_competition = "all"

    def __init__(self, num_parents: int, iterations: int = 3, implementation: str = "auto") -> None:
        super().__init__(implementation)
        self.num_parents, self.iterations = num_parents, check_iterations(iterations)
        self.beta_a = nn.Parameter(torch.zeros(num_parents))
        self.beta_u = nn.Parameter(torch.zeros(num_parents))
        self.norm_of_poses = BatchNorm(num_parents, affine=False)
        self.norm_of_activations = BatchNorm(num_parents, affine=False)

    def route(self, votes: Votes, activations: Float[Tensor, "batch child"] | None) -> Capsules:
        """Compute poses (batch, parent, dim) and the logits of activations (batch, parent), not yet normalised."""
        activations = checked("VB", votes, activations, len(self.beta_a))
        parents = self.m_step(votes, activations, None)
        for _ in range(self.iterations - 1):
            parents = self.m_step(votes, activations, parents)
        entropy = 0.5 * (votes.shape[3] * math.log(2 * math.pi * math.e) - parents.log_precision)
        return Capsules(parents.mean, self.beta_a - (parents.log_share.exp() * entropy + self.beta_u))

    def normalise(self, parents: Capsules) -> Capsules:
        """Normalise poses and logits over the batch, and turn logits into activations."""
        return Capsules(self.norm_of_poses(parents.poses), self.norm_of_activations(parents.activations).sigmoid())

    def m_step(self, votes: Votes, activations: Float[Tensor, "batch child"], parents: Posterior | None) -> Posterior:
        """Compute the posterior from the children assigned to each parent.

        The priors are α₀ = 1, m₀ = 0, κ₀ = 1, ν₀ = k + 1 and Ψ₀ = 1.

        Args:
            votes: (batch, child, parent, dim).
            activations: (batch, child).
            parents: those to which `e_step` assigns children; None for a uniform assignment.
        """
        dim = votes.shape[3]
        densities = None if parents is None else self.densities(parents)
        share = softmax_over_parents if densities is None else self.share  # at first among the parents of each place
        mass, mean, scatter = moments(votes, activations, densities, share)
        concentration, strength, freedom = 1 + mass, 1 + mass, dim + 1 + mass
        pulled = (mass / strength).unsqueeze(-1)  # by how much the votes move the prior's mean
        psi = 1 + scatter + pulled * mean.square()
        halves = torch.arange(dim, device=mass.device, dtype=mass.dtype)
        log_precision = digamma((freedom.unsqueeze(-1) - halves) / 2).sum(dim=-1) + dim * math.log(2)
        log_share = digamma(concentration) - digamma(concentration.sum(dim=-1, keepdim=True))
        return Posterior(pulled * mean, psi, strength, freedom, log_precision - psi.log().sum(dim=-1), log_share)

    def e_step(
        self, votes: Float[Tensor, "batch child parent dim"], parents: Posterior
    ) -> Float[Tensor, "batch child parent"]:
        """Assign children to parents in proportion to the expected likelihood."""
        return assign(votes, self.densities(parents), self.share)

    def densities(self, parents: Posterior) -> Densities:
        """Return the logarithm of the expected likelihood as a function of the vote û."""
        mean, psi, strength, freedom, log_precision, log_share = parents
        dim = mean.shape[-1]
        log_peak = log_share + 0.5 * (log_precision - dim * math.log(2 * math.pi) - dim / strength)
        return Densities(log_peak, mean, precision=0.5 * freedom.unsqueeze(-1) / psi)

    def extra_repr(self) -> str:
        return f"num_parents={len(self.beta_a)}, iterations={self.iterations}"
