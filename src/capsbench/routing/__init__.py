"""Routing: votes of child capsules to parent capsules. One router per file, nothing but torch."""

from capsbench.routing.base import Capsules, NonFiniteError, Router
from capsbench.routing.dynamic import DynamicRouting
from capsbench.routing.em import EMRouting
from capsbench.routing.fm import FMAgreement
from capsbench.routing.functional import l2_normalize, squash, squashed_norm
from capsbench.routing.votes import LazyVotes, sum_over_children

__all__ = [
    "Capsules",
    "DynamicRouting",
    "EMRouting",
    "FMAgreement",
    "LazyVotes",
    "NonFiniteError",
    "Router",
    "l2_normalize",
    "squash",
    "squashed_norm",
    "sum_over_children",
]
