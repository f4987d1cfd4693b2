"""Benchmarks in miniature: everything is measured, and against what it should be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from capsbench.reports.benchmarks import draw_layer, draw_scaling

from capsbench.benchmarks import layer, scaling, table1, train
from capsbench.benchmarks.measure import interleaved, peak_bytes, ratio
from capsbench.capsules import FullTransform

CPU = torch.device("cpu")
Measured = dict[str, dict[str, float]]


def test_ways_are_taken_in_turn_and_compared_turn_by_turn() -> None:
    taken: list[str] = []
    times = interleaved({"a": lambda: taken.append("a"), "b": lambda: taken.append("b")}, repetitions=2)
    assert taken == ["a", "b"] * 3  # one turn to warm up
    assert len(times["a"]) == 2
    assert ratio({"a": [2.0, 6.0], "b": [1.0, 2.0]}, "a", "b") == {"median": 2.5, "least": 2.0, "most": 3.0}


def test_peak_is_what_is_allocated_beyond_what_is_left() -> None:
    kibibytes = torch.ones(256)

    def way() -> torch.Tensor:
        scratch = kibibytes.repeat(8)  # 8 KiB, gone at the end
        return scratch[:256] + 1

    assert peak_bytes(way, CPU) == pytest.approx(8 * 1024, abs=64)


def taking(milliseconds: dict[str, float]) -> Callable[..., dict[str, list[float]]]:
    """What `interleaved` would find of ways that take so long; a way is known by how its name ends."""

    def found(ways: dict[str, Any], repetitions: int) -> dict[str, list[float]]:
        known = {way: next((ms for end, ms in milliseconds.items() if way.endswith(end)), 1.0) for way in ways}
        return {way: [ms] * repetitions for way, ms in known.items()}

    return found


@pytest.fixture
def _small_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "SHAPES", {"tiny": layer.Shape(lambda: FullTransform(5, 2, 4, 4))})
    monkeypatch.setattr(layer, "_speeds", lambda device: (1e9, 1e9))


@pytest.mark.usefixtures("_small_layers")
def test_layers(tmp_path: Path) -> None:
    measured = layer.benchmark_layer(repetitions=2, batch_size=3, device=CPU)
    for router in layer.ROUTERS:
        assert measured[f"tiny, {router} fused ÷ plain, forward and backward"]["median"] > 0
        assert measured[f"tiny, {router} plain: extra memory ÷ votes, training"]["median"] > 0
    assert measured["tiny, FM fused ÷ votes alone, forward"]["median"] > 0
    # 3·5·4 + 5·2·4·4 numbers read, 3·5·2·4 elements of votes of 2·4 + 6 operations each
    assert measured["tiny, floor of FM, forward: ms"]["median"] == pytest.approx(1000 * 120 * 14 / 1e9)
    draw_layer(measured, tmp_path)
    assert (tmp_path / "layer.png").stat().st_size > 1000


@pytest.mark.usefixtures("_small_layers")
def test_layers_are_compared_with_the_plain_one_and_with_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "interleaved", taking({"plain": 8.0, "fused": 2.0, "votes alone": 4.0}))
    measured = layer.benchmark_layer(repetitions=2, batch_size=3, device=CPU)
    assert measured["tiny, FM fused ÷ plain, forward"]["median"] == 0.25
    assert measured["tiny, FM fused ÷ votes alone, forward"]["median"] == 0.5


def test_scaling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "BASE", {"children": 3, "parents": 2, "batch": 2})
    monkeypatch.setattr(scaling, "SIZES", {"children": (2, 4), "parents": (2,), "batch": (1,)})
    measured = scaling.benchmark_scaling(repetitions=1, device=CPU)
    assert measured["children = 4, FM: ms"]["median"] > 0
    draw_scaling(measured, tmp_path)
    assert (tmp_path / "scaling.png").stat().st_size > 1000


def test_training(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, small = train.NETWORKS["resnet_capsnet_small"]
    monkeypatch.setattr(train, "NETWORKS", {"small": (shape, small)})
    monkeypatch.setattr(train, "ROUTERS", {"FM": train.ROUTERS["FM"]})
    monkeypatch.setattr(train, "BATCH_SIZE", 4)
    measured = train.benchmark_train(repetitions=1, steps=2, compile_mode=None, device=CPU)
    assert measured["small, FM, ours: images/s"]["median"] > 0
    assert measured["small, FM, Lightning ÷ bare loop, images/s"]["median"] > 0


def test_training_is_compared_with_the_plain_way_and_the_bare_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_bare", lambda model, data, fused=True: 2.0 if fused else 4.0)
    monkeypatch.setattr(train, "_in_lightning", lambda model, data, steps: 2.5)
    measured = train.benchmark_train(repetitions=1, steps=2, compile_mode=None, device=CPU)
    assert measured["capsnet_light, FM, ours: images/s"]["median"] == 2 * train.BATCH_SIZE / 2.0
    assert measured["capsnet_light, FM, ours: times as fast as plain"]["median"] == 2.0
    assert measured["capsnet_light, FM, Lightning ÷ bare loop, images/s"]["median"] == 0.8


def test_table1_compares_with_fm_and_fm_with_no_routing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table1, "interleaved", taking({"dynamic(3)": 6.0, "FM": 4.0, "no routing": 2.0}))
    measured = table1.benchmark_table1(repetitions=2, batch_size=1)
    assert measured["CIFAR-10, CPU, dynamic(3) ÷ FM"]["median"] == 1.5
    assert measured["Fashion-MNIST, CPU, FM ÷ no routing"]["median"] == 2.0
