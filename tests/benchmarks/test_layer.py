"""Layers in miniature: everything is measured, and against what it should be."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from capsbench.benchmarks import layer
from capsbench.capsules import FullTransform, RouterFactory
from capsbench.routing import FMAgreement

CPU = torch.device("cpu")
Routers = dict[str, RouterFactory]
Find = Callable[..., float]


@pytest.fixture(autouse=True)
def _small_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "SHAPES", {"tiny": layer.Shape(lambda: FullTransform(5, 2, 4, 4))})
    monkeypatch.setattr(layer, "_speeds", lambda device: (1e9, 1e9))


def test_each_router_and_implementation_is_measured(routers: Routers, find: Find) -> None:
    found = layer.benchmark_layer(routers, repetitions=2, batch_size=3, device=CPU)
    for router in routers:
        for implementation in layer.IMPLEMENTATIONS:
            at = {"subject": "tiny", "router": router, "implementation": implementation}
            assert find(found, quantity="forward", unit="ms", **at) > 0
            assert find(found, quantity="forward and backward", unit="ms", **at) > 0
            assert find(found, quantity="extra memory", unit="÷ votes", **at) > 0
    # 3·5·4 + 5·2·4·4 numbers read, 3·5·2·4 elements of votes of 2·4 + 6 operations each
    floor = find(found, implementation="floor", unit="ms")
    assert floor == pytest.approx(1000 * 120 * 14 / 1e9)
    fused = {"router": "fm", "implementation": "fused", "quantity": "forward"}
    assert find(found, unit="÷ floor", **fused) == pytest.approx(find(found, unit="ms", **fused) / floor)


def test_layers_are_compared_with_the_plain_one_and_with_votes(
    routers: Routers, find: Find, taking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {("fm", "plain"): 8.0, ("fm", "fused"): 2.0, (None, "votes alone"): 4.0}
    monkeypatch.setattr(layer, "interleaved", taking(known))
    found = layer.benchmark_layer(routers, repetitions=2, batch_size=3, device=CPU)
    fused = {"router": "fm", "implementation": "fused"}
    assert find(found, unit="÷ plain", quantity="forward", **fused) == 0.25
    assert find(found, unit="÷ plain", quantity="forward and backward", **fused) == 0.25
    assert find(found, unit="÷ votes alone", quantity="forward", **fused) == 0.5


def test_a_router_of_ones_own_has_one_implementation(find: Find) -> None:
    found = layer.benchmark_layer({"mine": FMAgreement}, repetitions=1, batch_size=2, device=CPU)
    assert find(found, router="mine", quantity="forward", unit="ms") > 0
    assert {one.implementation for one in found if one.router} == {"auto"}
