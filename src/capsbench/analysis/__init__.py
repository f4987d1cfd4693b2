"""Analyses of trained networks: reconstructions, equivariance and invariance."""

from capsbench.analysis.equivariance import measure_equivariance
from capsbench.analysis.invariance import measure_invariance
from capsbench.analysis.pictures import write_pictures

__all__ = ["measure_equivariance", "measure_invariance", "write_pictures"]
