"""Sizes of a layer in miniature."""

from collections.abc import Callable

import pytest
import torch

from capsbench.benchmarks import scaling
from capsbench.capsules import RouterFactory


def test_one_size_is_varied_at_a_time(
    routers: dict[str, RouterFactory], find: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "BASE", {"children": 3, "parents": 2, "batch": 2})
    monkeypatch.setattr(scaling, "SIZES", {"children": (2, 4), "parents": (2,), "batch": (1,)})
    found = scaling.benchmark_scaling(routers, repetitions=1, device=torch.device("cpu"))
    assert find(found, subject="children", size=4, router="fm") > 0
    assert [(one.subject, one.size) for one in found if one.router == "dynamic"] == [
        ("children", 2),
        ("children", 4),
        ("parents", 2),
        ("batch", 1),
    ]
    assert find(found, subject="children", size=4, implementation="votes alone") > 0
