"""Repeated measurements: ways of doing the same thing taken in turn, so that a noisy machine is noisy for all."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

Measured = dict[str, dict[str, float]]
"""For each name the median, least and most of what was measured."""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def interleaved(ways: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Milliseconds of each way, `repetitions` times in turn, after one turn to warm up.

    On a GPU the queue is empty before and after each.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions + 1):
        for name, way in ways.items():
            wait()
            start = time.perf_counter()
            way()
            wait()
            if repetition:
                times[name].append(1000 * (time.perf_counter() - start))
    return times


def wait() -> None:
    """Until the GPU, if there is one, has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(times: Mapping[str, Sequence[float]], ours: str, theirs: str) -> dict[str, float]:
    """How many times as long one way takes as another, turn by turn."""
    return spread([our / their for our, their in zip(times[ours], times[theirs], strict=True)])


def peak_bytes(way: Callable[[], object], device: torch.device) -> int:
    """The most memory that is allocated at a time while a way runs, beyond what it finds and what it leaves behind."""
    way()  # makes what is made lazily
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        left = way()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - max(before, torch.cuda.memory_allocated(device))
    else:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            left = way()
        results = profiler.profiler
        assert results is not None
        changes = [event.nbytes() for event in results.kineto_results.events() if event.name() == "[memory]"]
        totals = list(accumulate(changes, initial=0))
        peak = max(totals) - totals[-1]
    del left  # alive until here
    return peak
