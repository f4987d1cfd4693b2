"""Routing: votes of child capsules to parent capsules. One router per file; needs torch and jaxtyping only."""

from capsbench.routing.base import Capsules, NonFiniteError, Router, RouterFactory, check_choice, make_router
from capsbench.routing.dynamic import DynamicRouting
from capsbench.routing.em import EMRouting
from capsbench.routing.fm import FMAgreement
from capsbench.routing.functional import l2_normalize, squash, squashed_norm
from capsbench.routing.kernels import sum_over_children, vote_sums
from capsbench.routing.votes import LazyVotes

__all__ = [
    "Capsules",
    "DynamicRouting",
    "EMRouting",
    "FMAgreement",
    "LazyVotes",
    "NonFiniteError",
    "Router",
    "RouterFactory",
    "check_choice",
    "l2_normalize",
    "make_router",
    "squash",
    "squashed_norm",
    "sum_over_children",
    "vote_sums",
]
