"""Table 1 in miniature."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra.utils import instantiate

from capsbench.benchmarks import table1
from capsbench.capsules import RouterFactory
from capsbench.launch.config import Composer, open_configuration
from capsbench.routing import FMAgreement

Routers = dict[str, RouterFactory]
Find = Callable[..., float]
LIGHT = {"capsnet_light": table1.NETWORKS["capsnet_light"]}


def test_each_network_router_and_implementation_is_measured(routers: Routers, own: Routers) -> None:
    found = table1.benchmark_table1(routers | own, batches=2, batch_size=1)
    times = {(one.subject, one.router, one.implementation): one for one in found if one.unit == "ms"}
    assert set(times) == {
        (f"{network}, {data}", *way)
        for network in ("capsnet", "capsnet_light")
        for data in ("CIFAR-10", "Fashion-MNIST")
        for way in (
            (None, "no routing"),
            *((router, way) for router in routers for way in ("plain", "fused")),
            ("mine", "plain"),
        )
    }
    assert all(one.mean is not None and one.least <= one.mean <= one.most for one in times.values())


def test_routers_are_compared_with_fm_and_fm_with_no_routing(
    routers: Routers, own: Routers, find: Find, taking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {
        ("dynamic", "plain"): 6.0,
        ("dynamic", "fused"): 5.0,
        ("fm", "plain"): 4.0,
        ("fm", "fused"): 2.5,
        ("mine", "plain"): 2.0,
        (None, "no routing"): 2.0,
    }
    monkeypatch.setattr(table1, "interleaved", taking(known))
    found = table1.benchmark_table1(routers | own, LIGHT, batches=2, batch_size=1)
    at = {"subject": "capsnet_light, CIFAR-10", "device": "CPU"}
    assert find(found, router="dynamic", implementation="plain", unit="÷ FM", **at) == 1.5
    assert find(found, router="dynamic", implementation="fused", unit="÷ FM", **at) == 2.0
    assert find(found, router="mine", unit="÷ FM", **at) == 0.5
    assert find(found, implementation="no routing", unit="÷ FM", **at) == 0.5
    assert find(found, router="fm", implementation="plain", unit="÷ no routing", **at) == 2.0


@pytest.mark.parametrize("name", table1.NETWORKS)
def test_its_networks_are_those_of_the_configuration(name: str) -> None:
    with open_configuration() as loader:
        arch = instantiate(Composer(loader).compose_unchecked([f"arch={name}"]).arch)
    ours, configured = (
        [tuple(one.shape) for one in make((1, 28, 28), 10, FMAgreement).parameters()]
        for make in (table1.NETWORKS[name], arch)
    )
    assert ours == configured


def test_the_mean_is_over_the_whole_batches_of_the_test_sets() -> None:
    assert len(torch.arange(10_000).split(128)) - 1 == table1.BATCHES
