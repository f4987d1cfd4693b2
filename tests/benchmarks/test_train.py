"""Training in miniature."""

from collections.abc import Callable

import pytest
import torch

from capsbench.benchmarks import train
from capsbench.capsules import RouterFactory

CPU = torch.device("cpu")
Routers = dict[str, RouterFactory]
Find = Callable[..., float]


def test_training(routers: Routers, find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "NETWORKS", {"small": train.NETWORKS["resnet_capsnet_small"]})
    monkeypatch.setattr(train, "BATCH_SIZE", 4)
    found = train.benchmark_train({"fm": routers["fm"]}, repetitions=1, steps=2, compile_mode=None, device=CPU)
    for way in ("plain", "ours", "ours in Lightning"):
        assert find(found, subject="small", router="fm", implementation=way, unit="images/s") > 0
    assert find(found, subject="small", implementation="no routing", unit="ms") > 0


def test_training_is_compared_with_the_plain_way_and_the_bare_loop(
    routers: Routers, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "NETWORKS", {"capsnet_light": train.NETWORKS["capsnet_light"]})
    known = {"NoRouting": 1.0, "FMAgreement": 2.0}

    def bare(model: train.nn.Module, data: object, fused: bool = True) -> float:
        return known[type(model.class_capsules.router).__name__] * (1 if fused else 2)

    monkeypatch.setattr(train, "_bare", bare)
    monkeypatch.setattr(train, "_in_lightning", lambda model, data, steps: 2.5)
    found = train.benchmark_train({"fm": routers["fm"]}, repetitions=1, steps=2, compile_mode=None, device=CPU)
    assert find(found, implementation="ours", unit="images/s") == 2 * train.BATCH_SIZE / 2.0
    assert find(found, implementation="ours", unit="times as fast as plain") == 2.0
    assert find(found, implementation="ours", unit="ms") == 1000.0
    assert find(found, implementation="ours", unit="÷ no routing") == 2.0
    assert find(found, implementation="ours in Lightning", unit="times as fast as ours") == 0.8
