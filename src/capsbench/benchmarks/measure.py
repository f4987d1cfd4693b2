"""Repeated measurements of alternatives, taken in turn, so that a noisy machine is noisy for all of them."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Measurement:
    """One quantity of one subject, measured several times.

    Attributes:
        subject: what was measured: a layer, a network, a data set, an experiment, or the size that was varied.
        router: its name in conf/router; None where none is used.
        implementation: which of several alternatives, such as "plain" and "fused".
        quantity: such as "forward", "training step" or "extra memory".
        unit: such as "ms"; of a ratio what it is relative to ("÷ plain"), taken repetition by repetition.
        median, least, most, mean: of the repetitions. Load only adds time, so that the least is the steadiest.
        device: "CPU" or "CUDA", where a benchmark measures both.
        size: of what was varied, where something was; of layers and training the examples in a batch.
        pages: "cheap" or "dear", where a benchmark measures with either kind of memory pages.
    """

    subject: str
    router: str | None
    implementation: str | None
    quantity: str
    unit: str
    median: float
    least: float
    most: float
    device: str | None = None
    size: int | None = None
    mean: float | None = None
    pages: str | None = None

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        subject: str,
        quantity: str,
        unit: str,
        *,
        router: str | None = None,
        implementation: str | None = None,
        device: str | None = None,
        size: int | None = None,
    ) -> "Measurement":
        """Summarise repetitions by their median, least, most and mean."""
        spread = statistics.median(values), min(values), max(values)
        mean = statistics.fmean(values)
        return cls(subject, router, implementation, quantity, unit, *spread, device=device, size=size, mean=mean)

    def divided_by(self, number: float, unit: str) -> "Measurement":
        """Divide the summary by a number."""
        summary = {name: getattr(self, name) / number for name in ("median", "least", "most", "mean")}
        return replace(self, unit=unit, **summary)


def interleaved(ways: Mapping[Key, Callable[[], object]], repetitions: int) -> dict[Key, list[float]]:
    """Measure each way `repetitions` times in turn, in milliseconds, after one turn to warm up.

    On a GPU the queue is empty before and after each.
    """
    times: dict[Key, list[float]] = {key: [] for key in ways}
    for repetition in range(repetitions + 1):
        for key, way in ways.items():
            wait()
            start = time.perf_counter()
            way()
            wait()
            if repetition:
                times[key].append(1000 * (time.perf_counter() - start))
    return times


def wait() -> None:
    """Wait until the GPU, if there is one, is idle."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divide two series repetition by repetition."""
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def peak_bytes(way: Callable[[], object], device: torch.device) -> int:
    """Measure the peak of memory while a way runs, less what was allocated before it or is left after it."""
    way()  # what is allocated once, on first use, does not count
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
