"""Routers to measure, and times that are known."""

from collections.abc import Callable, Hashable, Mapping
from functools import partial

import pytest
import torch

from capsbench.benchmarks.measure import Measurement
from capsbench.capsules import RouterFactory
from capsbench.routing import Capsules, DynamicRouting, FMAgreement, Router

Find = Callable[..., float]


class Mean(Router):
    """A router of one's own, which takes votes as a tensor."""

    def route(self, votes: torch.Tensor, activations: torch.Tensor | None = None) -> Capsules:
        poses = votes.mean(dim=1)
        return Capsules(poses, poses.norm(dim=-1))


@pytest.fixture
def own() -> dict[str, RouterFactory]:
    return {"mine": Mean}


@pytest.fixture
def routers() -> dict[str, RouterFactory]:
    """FM and dynamic routing, as conf/router makes them."""
    return {
        "fm": partial(FMAgreement, implementation="auto"),
        "dynamic": partial(DynamicRouting, iterations=3, implementation="auto"),
    }


@pytest.fixture
def find() -> Find:
    """Return the median of the one measurement with these fields: find(measurements, subject="tiny", …)."""

    def median(measurements: list[Measurement], **wanted: object) -> float:
        (found,) = [one for one in measurements if all(getattr(one, name) == value for name, value in wanted.items())]
        return found.median

    return median


@pytest.fixture
def taking() -> Callable[..., Callable[..., dict[Hashable, list[float]]]]:
    """Make an `interleaved` that finds known times: taking({way: milliseconds}); every other way takes 1 ms."""

    def known(milliseconds: Mapping[Hashable, float]) -> Callable[..., dict[Hashable, list[float]]]:
        def interleaved(ways: Mapping[Hashable, object], repetitions: int) -> dict[Hashable, list[float]]:
            return {way: [milliseconds.get(way, 1.0)] * repetitions for way in ways}

        return interleaved

    return known
