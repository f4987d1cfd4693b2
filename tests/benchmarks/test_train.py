"""Training in miniature."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from capsbench.benchmarks import train
from capsbench.benchmarks.einsum import EinsumLayer
from capsbench.capsules import RouterFactory

CPU = torch.device("cpu")
Routers = dict[str, RouterFactory]
Find = Callable[..., float]


def test_training_and_inference(routers: Routers, find: Find) -> None:
    small = {"small": train.NETWORKS["resnet_capsnet_small"]}
    found = train.benchmark_train({"fm": routers["fm"]}, 1, 2, None, CPU, small, [4])
    at = {"subject": "small", "router": "fm", "size": 4, "unit": "images/s"}
    for way in ("plain", "ours", "ours in Lightning"):
        assert find(found, quantity="training", implementation=way, **at) > 0
    for way in ("plain", "ours"):
        assert find(found, quantity="inference", implementation=way, **at) > 0
    assert find(found, subject="small", implementation="no routing", unit="ms") > 0


def test_training_is_compared_with_the_plain_way_and_the_bare_loop(
    routers: Routers, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    light = {"capsnet_light": train.NETWORKS["capsnet_light"]}

    def bare(model: Any, data: object, fused: bool = True) -> float:
        layer = model.class_capsules
        known = 3.0 if isinstance(layer, EinsumLayer) else {"NoRouting": 1.0, "FMAgreement": 2.0}[
            type(layer.router).__name__
        ]  # fmt: skip
        return known * (1 if fused else 2)

    monkeypatch.setattr(train, "_bare", bare)
    monkeypatch.setattr(train, "_infer", lambda model, data: bare(model, data) / 8)
    monkeypatch.setattr(train, "_in_lightning", lambda model, data, steps: 2.5)
    found = train.benchmark_train({"fm": routers["fm"]}, 1, 2, None, CPU, light, [128])
    training, inference = ({"quantity": what} for what in ("training", "inference"))
    assert find(found, implementation="ours", unit="images/s", **training) == 2 * 128 / 2.0
    assert find(found, implementation="ours", unit="times as fast as plain", **training) == 2.0
    assert find(found, implementation="ours", unit="times as fast as plain einsum", **training) == 3.0
    assert find(found, implementation="ours", unit="times as fast as plain einsum", **inference) == 1.5
    assert find(found, implementation="ours", unit="images/s", **inference) == 2 * 128 / 0.25
    assert find(found, implementation="ours", unit="ms") == 1000.0
    assert find(found, implementation="ours", unit="÷ no routing") == 2.0
    assert find(found, implementation="ours in Lightning", unit="times as fast as ours") == 0.8
