"""Layers in miniature: everything is measured, and against what it should be."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from capsbench.benchmarks import layer
from capsbench.benchmarks.routers import IMPLEMENTATIONS
from capsbench.capsules import FullTransform, RouterFactory

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
        for implementation in IMPLEMENTATIONS:
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


def test_a_router_of_ones_own_has_one_implementation(own: Routers, find: Find) -> None:
    found = layer.benchmark_layer(own, repetitions=1, batch_size=2, device=CPU)
    assert find(found, router="mine", quantity="forward", unit="ms") > 0
    assert find(found, router="mine", quantity="extra memory", unit="÷ votes") > 0
    assert {one.implementation for one in found if one.router} == {"auto"}


def test_votes_alone_are_the_reference_in_both_directions(own: Routers, find: Find) -> None:
    found = layer.benchmark_layer(own, repetitions=1, batch_size=2, device=CPU)
    for direction in ("forward", "forward and backward"):
        assert find(found, implementation="votes alone", quantity=direction, unit="ms") > 0
        assert find(found, router="mine", quantity=direction, unit="÷ votes alone") > 0


def test_operations_are_those_of_the_plain_path(routers: Routers, own: Routers, find: Find) -> None:
    found = layer.benchmark_layer(routers | own, repetitions=1, batch_size=3, device=CPU)
    products = 3 * 5 * 2 * 4 * 4 / 1e6
    for router in (*routers, *own, None):
        assert find(found, router=router, quantity="multiply-adds of products") == products
    fm, dynamic, mine = (
        find(found, router=name, quantity="operations on elements") for name in ("fm", "dynamic", "mine")
    )
    assert mine < fm < dynamic
