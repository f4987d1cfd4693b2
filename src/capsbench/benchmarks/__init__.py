"""Benchmarks: alternatives are measured in turn within one run; no test depends on a time."""
