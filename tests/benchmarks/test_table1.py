"""Table 1 in miniature."""

from collections.abc import Callable
from typing import Any

import pytest

from capsbench.benchmarks import table1
from capsbench.capsules import RouterFactory

Routers = dict[str, RouterFactory]
Find = Callable[..., float]


def test_each_router_and_data_set_is_measured_and_compared(routers: Routers, find: Find) -> None:
    found = table1.benchmark_table1(routers, repetitions=2, batch_size=1)
    for data in ("CIFAR-10", "Fashion-MNIST"):
        for router in routers:
            (one,) = [m for m in found if (m.subject, m.router, m.device, m.unit) == (data, router, "CPU", "ms")]
            assert 0 < one.least <= one.median <= one.most
        assert find(found, subject=data, router="dynamic", device="CPU", unit="÷ FM") > 0


def test_routers_are_compared_with_fm_and_fm_with_no_routing(
    routers: Routers, find: Find, taking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table1, "interleaved", taking({"dynamic": 6.0, "fm": 4.0, "no routing": 2.0}))
    found = table1.benchmark_table1(routers, repetitions=2, batch_size=1)
    at = {"subject": "CIFAR-10", "device": "CPU"}
    assert find(found, router="dynamic", unit="÷ FM", **at) == 1.5
    assert find(found, implementation="no routing", unit="÷ FM", **at) == 0.5
    assert find(found, router="fm", unit="÷ no routing", **at) == 2.0
