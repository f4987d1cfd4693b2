"""Repeated measurements."""

import pytest
import torch

from capsbench.benchmarks.measure import Measurement, interleaved, peak_bytes, ratios


def test_ways_are_taken_in_turn() -> None:
    taken: list[str] = []
    times = interleaved({"a": lambda: taken.append("a"), "b": lambda: taken.append("b")}, repetitions=2)
    assert taken == ["a", "b"] * 3, "one turn to warm up"
    assert len(times["a"]) == 2


def test_series_are_divided_repetition_by_repetition() -> None:
    assert ratios([2.0, 6.0], [1.0, 2.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_repetitions_are_summarised() -> None:
    one = Measurement.of([4.0, 1.0, 2.5], "layer", "forward", "ms", router="fm", size=4)
    assert one == Measurement("layer", "fm", None, "forward", "ms", median=2.5, least=1.0, most=4.0, size=4, mean=2.5)
    half = one.divided_by(2.0, "÷ 2 ms")
    assert (half.unit, half.median, half.least, half.most, half.mean) == ("÷ 2 ms", 1.25, 0.5, 2.0, 1.25)


def test_peak_is_what_is_allocated_beyond_what_is_left() -> None:
    kibibytes = torch.ones(256)

    def way() -> torch.Tensor:
        scratch = kibibytes.repeat(8)  # 8 KiB, gone at the end
        return scratch[:256] + 1

    assert peak_bytes(way, torch.device("cpu")) == pytest.approx(8 * 1024, abs=64)
