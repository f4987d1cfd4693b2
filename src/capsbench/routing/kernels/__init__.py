"""What makes routing fast. A router calls a function of this package and knows no hardware."""

from capsbench.routing.kernels.sums import sum_over_children, vote_sums

__all__ = ["sum_over_children", "vote_sums"]
