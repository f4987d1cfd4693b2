"""What routers need that explain votes by a mixture: which children a parent gets, and their moments."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from capsbench.routing.functional import softmax_over_parents, weighted_sum
from capsbench.routing.kernels import assigned_sums, sum_over_children
from capsbench.routing.votes import Votes

EPS = 1e-9
"""Added to a parent's mass before dividing by it."""


class Densities(NamedTuple):
    """How well each parent explains a vote û: log_peak - Σ precision (û-mean)², a logarithm."""

    log_peak: Float[Tensor, "batch parent"]
    mean: Float[Tensor, "batch parent dim"]
    precision: Float[Tensor, "batch parent dim"]


class Moments(NamedTuple):
    """What children assigned to a parent add up to."""

    mass: Float[Tensor, "batch parent"]
    """Σ R·a."""
    mean: Float[Tensor, "batch parent dim"]
    """Σ R·a û / Σ R·a."""
    scatter: Float[Tensor, "batch parent dim"]
    """Σ R·a (û-mean)²."""


Share = Callable[[Tensor], Tensor]
"""Divides children among parents, see `Router.share`."""


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


def assign(
    votes: Float[Tensor, "batch child parent dim"], densities: Densities, share: Share = softmax_over_parents
) -> Float[Tensor, "batch child parent"]:
    """Assign children to parents in proportion to their densities, in logarithms so that nothing overflows."""
    log_peak, mean, precision = densities
    distance = ((votes - mean.unsqueeze(1)).square() * precision.unsqueeze(1)).sum(dim=-1)
    return share(log_peak.unsqueeze(1) - distance)


def moments(
    votes: Votes, activations: Float[Tensor, "batch child"], densities: Densities | None, share: Share
) -> Moments:
    """Assign children to parents, and add up what each parent gets.

    The assignment R is not stored: each sum computes it again, where votes are lazy block by block.

    Args:
        votes: (batch, child, parent, dim).
        activations: (batch, child).
        densities: of the parents; None for equal shares.
        share: see `Router.share`.
    """
    known = densities or ()
    add = partial(_mass_and_total, share=share)
    kernel = partial(assigned_sums, is_centred=False, plain=add)
    mass, total = sum_over_children(add, votes, per_child=(activations,), shared=known, kernel=kernel)
    mean = total / (mass + EPS).unsqueeze(-1)
    add_squares = partial(_scatter, share=share)
    kernel = partial(assigned_sums, is_centred=True, plain=add_squares)
    (scatter,) = sum_over_children(add_squares, votes, per_child=(activations,), shared=(mean, *known), kernel=kernel)
    return Moments(mass, mean, scatter)


def _mass_and_total(votes: Tensor, activations: Tensor, *densities: Tensor, share: Share) -> tuple[Tensor, Tensor]:
    weights = _weights(votes, activations, densities, share)
    return weights.sum(dim=1), weighted_sum(weights, votes)


def _scatter(votes: Tensor, activations: Tensor, mean: Tensor, *densities: Tensor, share: Share) -> tuple[Tensor]:
    weights = _weights(votes, activations, densities, share)
    return (weighted_sum(weights, (votes - mean.unsqueeze(1)).square()),)


def _weights(votes: Tensor, activations: Tensor, densities: tuple[Tensor, ...], share: Share) -> Tensor:
    """Compute R·a (batch, child, parent)."""
    if densities:
        shares = assign(votes, Densities(*densities), share)
    elif share is softmax_over_parents:
        shares = votes.new_full(votes.shape[:-1], 1 / votes.shape[2])
    else:
        shares = share(torch.zeros_like(votes[..., 0]))
    return shares * activations.unsqueeze(-1)
