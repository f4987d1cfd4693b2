"""What a router takes and returns."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from capsbench.routing.votes import LazyVotes

IMPLEMENTATIONS = ("auto", "plain", "fused")


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

    Args:
        implementation: of the capsule layer around the router. "plain" forms all votes, normalises them, routes them;
            "fused" never holds all votes (`LazyVotes`), to the same results; "auto" takes what is faster.

    Raises:
        ValueError: implementation is none of these, or it is "fused" and the router cannot.
    """

    default_vote_gain: ClassVar[float] = 1.0
    """The gain that batch-normalised votes start with when the layer is not told one (`CapsuleLayer.vote_gain`)."""

    takes_lazy_votes: ClassVar[bool] = False
    """Whether `route` looks at votes through `sum_over_children` only, so that they can be factored. A subclass that
    overrides `route` says so anew."""

    def __init__(self, implementation: str = "auto") -> None:
        super().__init__()
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(f"router.implementation must be {' or '.join(IMPLEMENTATIONS)}, got {implementation!r}")
        if implementation == "fused" and not self.takes_lazy_votes:
            raise ValueError(f"{type(self).__name__} has no fused implementation; take router.implementation=plain")
        self.implementation = implementation

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "route" in vars(cls) and "takes_lazy_votes" not in vars(cls):
            cls.takes_lazy_votes = False

    def forward(self, votes: Tensor | LazyVotes, activations: Tensor | None = None) -> Capsules:
        """Route votes to parents.

        Args:
            votes: (batch, child, parent, dim), what each child predicts for each parent's pose; or their factors, if
                the router takes them.
            activations: (batch, child), how active each child is; routers that do not weigh children ignore it.

        Returns:
            Parent poses (batch, parent, dim) and activations (batch, parent).

        Raises:
            ValueError: votes or activations have the wrong shape, or votes are not floating point.
            NonFiniteError: the parents come out NaN or infinite. Checked on the CPU only: elsewhere reading the answer
                would stall the device at every layer, and `capsbench.training.NaNGuard` watches the run instead.
        """
        _check_shapes(votes, activations)
        some = votes if isinstance(votes, Tensor) else votes.weight
        with torch.autocast(some.device.type, enabled=False):
            dtype = torch.promote_types(some.dtype, torch.float32)
            votes = votes.to(dtype)
            parents = self.route(votes, None if activations is None else activations.to(dtype))
        if some.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_finite(parents, votes)
        return parents

    @abstractmethod
    def route(
        self,
        votes: Any,
        activations: Float[Tensor, "batch child"] | None,
    ) -> Capsules:
        """The routing algorithm itself, on checked input: votes (batch, child, parent, dim), or their factors."""


def _check_shapes(votes: Tensor | LazyVotes, activations: Tensor | None) -> None:
    if len(votes.shape) != 4 or 0 in votes.shape[1:]:
        raise ValueError(
            f"votes must have the shape (batch, child, parent, dim) with no empty axis, got {tuple(votes.shape)}"
        )
    if isinstance(votes, Tensor) and not votes.is_floating_point():
        raise ValueError(f"votes must be floating point, got {votes.dtype}")
    if activations is not None and activations.shape != votes.shape[:2]:
        raise ValueError(
            f"activations must have the shape (batch, child) = {tuple(votes.shape[:2])}, got {tuple(activations.shape)}"
        )


def _check_finite(parents: Capsules, votes: Tensor | LazyVotes) -> None:
    # Summing is the cheapest look at every element: NaN and infinity both survive it.
    if torch.isfinite(parents.poses.sum() + parents.activations.sum()):
        return
    if all(torch.isfinite(part).all() for part in parents):
        return
    if not isinstance(votes, Tensor):
        votes = votes.materialize()
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
