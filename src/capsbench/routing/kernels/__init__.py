"""What makes routing fast. A router calls a function of this package and knows no hardware."""

from capsbench.routing.kernels.coupled import coupled_sum
from capsbench.routing.kernels.moments import assigned_sums
from capsbench.routing.kernels.pairs import vote_sums
from capsbench.routing.kernels.sums import sum_over_children

__all__ = ["assigned_sums", "coupled_sum", "sum_over_children", "vote_sums"]
