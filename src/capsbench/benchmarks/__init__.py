"""Benchmarks: how fast and how large. Ratios inside one run; never a timed test."""
