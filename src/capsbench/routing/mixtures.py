"""Sums that routers need which explain votes by a mixture: how much of the children a parent has, and their moments."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from capsbench.routing.functional import weighted_sum
from capsbench.routing.votes import Votes

EStep = Callable[..., Tensor]
"""Assigns children to parents: `e_step(votes, *parents)` gives R (batch, child, parent); without parents, at first."""


def checked(
    name: str, votes: Votes, activations: Float[Tensor, "batch child"] | None, num_parents: int
) -> Float[Tensor, "batch child"]:
    """Return the children's activations, which weigh them, if they and the votes are a router's.

    Raises:
        ValueError: activations are missing, or votes are for another number of parents.
    """
    if activations is None:
        raise ValueError(f"{name} routing weighs children by their activations: pass activations (batch, child)")
    if votes.shape[2] != num_parents:
        raise ValueError(f"votes are for {votes.shape[2]} parents, this router was built for {num_parents}")
    return activations


def mass_and_total(
    votes: Float[Tensor, "batch child parent dim"],
    activations: Float[Tensor, "batch child"],
    *parents: Tensor,
    e_step: EStep,
) -> tuple[Float[Tensor, "batch parent"], Float[Tensor, "batch parent dim"]]:
    """Compute Σ R·a and Σ R·a û."""
    weights = _weights(votes, activations, parents, e_step)
    return weights.sum(dim=1), weighted_sum(weights, votes)


def spread(
    votes: Float[Tensor, "batch child parent dim"],
    activations: Float[Tensor, "batch child"],
    mean: Float[Tensor, "batch parent dim"],
    *parents: Tensor,
    e_step: EStep,
) -> tuple[Float[Tensor, "batch parent dim"]]:
    """Compute Σ R·a (û-μ)²."""
    weights = _weights(votes, activations, parents, e_step)
    return (weighted_sum(weights, (votes - mean.unsqueeze(1)).square()),)


def _weights(
    votes: Float[Tensor, "batch child parent dim"],
    activations: Float[Tensor, "batch child"],
    parents: tuple[Tensor, ...],
    e_step: EStep,
) -> Float[Tensor, "batch child parent"]:
    """Compute R·a."""
    return e_step(votes, *parents) * activations.unsqueeze(-1)


def uniform(votes: Float[Tensor, "batch child parent dim"]) -> Float[Tensor, "batch child parent"]:
    """Return equal shares of all parents of a place."""
    return votes.new_full(votes.shape[:-1], 1 / votes.shape[2])
