"""What a router takes and returns."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Capsules(NamedTuple):
    """A layer of capsules: what each one saw (its pose) and how sure it is that it is there (its activation)."""

    poses: Float[Tensor, "batch capsules dim"]
    activations: Float[Tensor, "batch capsules"]


class NonFiniteError(ValueError):
    """A tensor holds NaN or infinity where only finite numbers make sense."""


class Router(nn.Module, ABC):
    """Turns the votes of child capsules into parent capsules.

    A subclass implements `route`; this class checks the input and keeps the arithmetic in float32 (float64 input stays
    float64) even under autocast, because sums over thousands of votes lose too much in 16 bits.
    """

    default_vote_gain: ClassVar[float] = 1.0
    """The gain that batch-normalised votes start with when the layer is not told one (`CapsuleLayer.vote_gain`)."""

    def forward(self, votes: Tensor, activations: Tensor | None = None) -> Capsules:
        """Route votes to parents.

        Args:
            votes: (batch, child, parent, dim), what each child predicts for each parent's pose.
            activations: (batch, child), how active each child is; routers that do not weigh children ignore it.

        Returns:
            Parent poses (batch, parent, dim) and activations (batch, parent).

        Raises:
            ValueError: votes or activations have the wrong shape, or votes are not floating point.
            NonFiniteError: the parents come out NaN or infinite. Checked on the CPU only: elsewhere reading the answer
                would stall the device at every layer, and `capsbench.training.FiniteGuard` watches the run instead.
        """
        _check_shapes(votes, activations)
        with torch.autocast(votes.device.type, enabled=False):
            dtype = torch.promote_types(votes.dtype, torch.float32)
            parents = self.route(votes.to(dtype), None if activations is None else activations.to(dtype))
        if votes.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_finite(parents, votes)
        return parents

    @abstractmethod
    def route(
        self,
        votes: Float[Tensor, "batch child parent dim"],
        activations: Float[Tensor, "batch child"] | None,
    ) -> Capsules:
        """The routing algorithm itself, on checked input."""


def _check_shapes(votes: Tensor, activations: Tensor | None) -> None:
    if votes.ndim != 4 or 0 in votes.shape[1:]:
        raise ValueError(
            f"votes must have the shape (batch, child, parent, dim) with no empty axis, got {tuple(votes.shape)}"
        )
    if not votes.is_floating_point():
        raise ValueError(f"votes must be floating point, got {votes.dtype}")
    if activations is not None and activations.shape != votes.shape[:2]:
        raise ValueError(
            f"activations must have the shape (batch, child) = {tuple(votes.shape[:2])}, got {tuple(activations.shape)}"
        )


def _check_finite(parents: Capsules, votes: Tensor) -> None:
    # Summing is the cheapest look at every element: NaN and infinity both survive it.
    if torch.isfinite(parents.poses.sum() + parents.activations.sum()):
        return
    if all(torch.isfinite(part).all() for part in parents):
        return
    bad = int((~torch.isfinite(votes)).sum())
    cause = (
        f"{bad} of {votes.numel()} votes are NaN or infinite"
        if bad
        else f"finite votes (largest magnitude {votes.abs().max():.3g}) overflowed"
    )
    raise NonFiniteError(f"routing gave parents that are not finite: {cause}")


def check_iterations(iterations: int) -> int:
    """Return `iterations` if it is a valid number of routing iterations, else raise ValueError."""
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"router.iterations must be an integer of at least 1, got {iterations!r}")
    return iterations
