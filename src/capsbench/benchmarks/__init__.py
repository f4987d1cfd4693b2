"""Benchmarks: ratios inside one run, interleaved, medians with their spread; never a timed test."""
