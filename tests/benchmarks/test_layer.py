"""Layers in miniature: everything is measured, and against what it should be."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from capsbench.benchmarks import layer
from capsbench.benchmarks.bounds import Speeds
from capsbench.benchmarks.routers import IMPLEMENTATIONS
from capsbench.capsules import FullTransform, RouterFactory

CPU = torch.device("cpu")
Routers = dict[str, RouterFactory]
Find = Callable[..., float]


@pytest.fixture(autouse=True)
def _small_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "SHAPES", {"tiny": layer.Shape(lambda: FullTransform(5, 2, 4, 4))})
    monkeypatch.setattr(layer, "measure_speeds", lambda device: Speeds(bandwidth=1e9, rate=1e9))


def test_each_router_and_implementation_is_measured(routers: Routers, find: Find) -> None:
    found = layer.benchmark_layer(routers, repetitions=2, batches=[3], device=CPU)
    for router in routers:
        for implementation in IMPLEMENTATIONS:
            at = {"subject": "tiny", "router": router, "implementation": implementation}
            assert find(found, quantity="forward", unit="ms", **at) > 0
            assert find(found, quantity="forward and backward", unit="ms", **at) > 0
            assert find(found, quantity="extra memory", unit="÷ votes", **at) > 0


def test_times_are_measured_against_what_any_layer_must_do(
    routers: Routers, own: Routers, find: Find, taking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer, "interleaved", taking({("fm", "fused"): 2.0}))
    found = layer.benchmark_layer(routers | own, repetitions=2, batches=[3], device=CPU)
    products, read, parents = 3 * 5 * 2 * 4 * 4, 3 * 5 * 4 + 5 * 2 * 4 * 4, 3 * 2 * (4 + 1)
    fused = {"router": "fm", "implementation": "fused"}
    forward, both = ({"quantity": quantity} for quantity in layer.DIRECTIONS)
    floor = 1000 * 2 * products / 1e9
    assert find(found, unit="÷ arithmetic floor", **fused, **forward) == pytest.approx(2.0 / floor)
    assert find(found, unit="÷ arithmetic floor", **fused, **both) == pytest.approx(2.0 / (3 * floor))
    assert find(found, unit="GB/s", **fused, **forward) == pytest.approx(4 * (read + parents) / 2.0 / 1e6)
    assert find(found, unit="GB/s", **fused, **both) == pytest.approx(4 * (3 * read + 2 * parents) / 2.0 / 1e6)
    assert find(found, unit="MB that must move", router="mine", **forward) == pytest.approx(
        4 * (read + 3 * 5 + parents) / 1e6
    ), "it reads activations"
    on_elements = find(found, quantity="operations on elements", router="fm")
    assert find(found, unit="M operations", router="fm", **forward) == pytest.approx(2 * products / 1e6 + on_elements)


def test_shapes_and_batches_are_those_asked_for(own: Routers) -> None:
    shapes = layer.full_transform(children=6, parents=3, dims=[4, 5])
    found = layer.benchmark_layer(own, 1, [1, 2], CPU, shapes)
    votes = {(one.subject, one.size): one.median for one in found if one.quantity == "votes"}
    assert votes == {("6 to 3, 4 to 5 dimensions", size): size * 6 * 3 * 5 * 4 / 1e6 for size in (1, 2)}


def test_layers_are_compared_with_a_plain_einsum(
    routers: Routers, find: Find, taking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer, "interleaved", taking({("fm", "plain einsum"): 4.0}))
    found = layer.benchmark_layer(routers, repetitions=1, batches=[3], device=CPU)
    at = {"router": "fm", "quantity": "forward"}
    assert find(found, implementation="auto", unit="÷ plain einsum", **at) == 0.25
    assert find(found, implementation="plain einsum", unit="÷ plain", **at) == 4.0
    assert find(found, implementation="plain einsum", unit="ms", **at) == 4.0


def test_layers_are_compared_with_the_plain_one_and_with_votes(
    routers: Routers, find: Find, taking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {("fm", "plain"): 8.0, ("fm", "fused"): 2.0, (None, "votes alone"): 4.0}
    monkeypatch.setattr(layer, "interleaved", taking(known))
    found = layer.benchmark_layer(routers, repetitions=2, batches=[3], device=CPU)
    fused = {"router": "fm", "implementation": "fused"}
    assert find(found, unit="÷ plain", quantity="forward", **fused) == 0.25
    assert find(found, unit="÷ plain", quantity="forward and backward", **fused) == 0.25
    assert find(found, unit="÷ votes alone", quantity="forward", **fused) == 0.5


def test_a_router_of_ones_own_has_one_implementation(own: Routers, find: Find) -> None:
    found = layer.benchmark_layer(own, repetitions=1, batches=[2], device=CPU)
    assert find(found, router="mine", quantity="forward", unit="ms") > 0
    assert find(found, router="mine", quantity="extra memory", unit="÷ votes") > 0
    assert {one.implementation for one in found if one.router} == {"auto"}


def test_votes_alone_are_the_reference_in_both_directions(own: Routers, find: Find) -> None:
    found = layer.benchmark_layer(own, repetitions=1, batches=[2], device=CPU)
    for direction in ("forward", "forward and backward"):
        assert find(found, implementation="votes alone", quantity=direction, unit="ms") > 0
        assert find(found, router="mine", quantity=direction, unit="÷ votes alone") > 0


def test_operations_are_those_of_the_plain_path(routers: Routers, own: Routers, find: Find) -> None:
    found = layer.benchmark_layer(routers | own, repetitions=1, batches=[3], device=CPU)
    products = 3 * 5 * 2 * 4 * 4 / 1e6
    for router in (*routers, *own, None):
        assert find(found, router=router, quantity="multiply-adds of products") == products
    fm, dynamic, mine = (
        find(found, router=name, quantity="operations on elements") for name in ("fm", "dynamic", "mine")
    )
    assert mine < fm < dynamic
