"""Routing: votes of child capsules to parent capsules. One router per file; needs torch and jaxtyping only."""

from capsbench.routing.attention import AttentionRouting
from capsbench.routing.base import Capsules, NonFiniteError, Router, check_choice, check_effect
from capsbench.routing.dynamic import DynamicRouting
from capsbench.routing.em import EMRouting
from capsbench.routing.fm import FMAgreement
from capsbench.routing.functional import exp_squash, exp_squashed_norm, l2_normalize, squash, squashed_norm
from capsbench.routing.hit_or_miss import HitOrMiss
from capsbench.routing.inverted_attention import InvertedAttention
from capsbench.routing.kernels import sum_over_children, vote_sums
from capsbench.routing.none import no_router
from capsbench.routing.place import RouterFactory, make_router
from capsbench.routing.vb import VBRouting
from capsbench.routing.votes import LazyVotes

__all__ = [
    "AttentionRouting",
    "Capsules",
    "DynamicRouting",
    "EMRouting",
    "FMAgreement",
    "HitOrMiss",
    "InvertedAttention",
    "LazyVotes",
    "NonFiniteError",
    "Router",
    "RouterFactory",
    "VBRouting",
    "check_choice",
    "check_effect",
    "exp_squash",
    "exp_squashed_norm",
    "l2_normalize",
    "make_router",
    "no_router",
    "squash",
    "squashed_norm",
    "sum_over_children",
    "vote_sums",
]
