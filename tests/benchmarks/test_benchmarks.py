"""Benchmarks in miniature: everything is measured, and against what it should be."""

from pathlib import Path

import pytest
import torch

from capsbench.benchmarks import layer, scaling, train
from capsbench.benchmarks.measure import interleaved, peak_bytes, ratio
from capsbench.capsules import FullTransform
from capsbench.reports.benchmarks import draw_layer, draw_scaling

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
