"""Tables and pictures of benchmarks; table 1 beside the paper's."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from capsbench.benchmarks.measure import Measurement
from capsbench.reports.speed import (
    benchmark_markdown,
    contention_table,
    draw_layer,
    draw_scaling,
    layer_table,
    table1,
    train_table,
    write_benchmark,
)

PUBLISHED = Path(__file__).parents[2] / "outputs" / "published" / "benchmarks"


def measured(median: float, subject: str, quantity: str, unit: str, **details: Any) -> dict[str, Any]:
    return asdict(Measurement.of([median - 1, median, median + 1], subject, quantity, unit, **details))


TABLE1 = [
    measured(30.0, "CIFAR-10", "forward", "ms", router="dynamic1", device="CPU"),
    measured(40.0, "CIFAR-10", "forward", "ms", router="dynamic", device="CPU"),
    measured(20.0, "CIFAR-10", "forward", "ms", router="fm", device="CPU"),
    measured(10.0, "CIFAR-10", "forward", "ms", implementation="no routing", device="CPU"),
    measured(1.5, "CIFAR-10", "forward", "÷ FM", router="dynamic1", device="CPU"),
    measured(2.0, "CIFAR-10", "forward", "÷ FM", router="dynamic", device="CPU"),
    measured(0.5, "CIFAR-10", "forward", "÷ FM", implementation="no routing", device="CPU"),
]
RECORD = {
    "schema": 2,
    "benchmark": "table1",
    "settings": {"repetitions": 7},
    "measurements": TABLE1,
    "devices": ["cpu, 2 threads"],
    "versions": {"torch": "2.14.1"},
}


def test_what_was_measured_stands_beside_the_papers() -> None:
    rows = table1(TABLE1).set_index("Router")
    assert rows.index.tolist() == ["Dynamic (1)", "Dynamic (3)", "FM", "no routing"]
    assert rows.loc["Dynamic (3)", "Ours ms"] == "40.00 (39.00 to 41.00)"
    assert rows.loc["Dynamic (3)", "Paper ms"] == "274.58"
    assert rows.loc["Dynamic (3)", "Ours ÷ FM"] == "2.00"
    assert rows.loc["Dynamic (3)", "Paper ÷ FM"] == "1.35"
    assert rows.loc["FM", "Ours ÷ FM"] == "1.00"
    assert rows.loc["no routing", ["Paper ms", "Ours ÷ FM"]].tolist() == ["–", "0.50"]
    assert set(rows["Data"]) == {"CIFAR-10, CPU"}, "no GPU was measured"


def test_files(tmp_path: Path) -> None:
    write_benchmark(RECORD, tmp_path)
    assert json.loads((tmp_path / "table1.json").read_text()) == RECORD
    assert len(pd.read_csv(tmp_path / "table1.csv")) == 4
    assert "274.58" in (tmp_path / "table1.md").read_text()
    assert r"\toprule" in (tmp_path / "table1.tex").read_text()
    write_benchmark(RECORD | {"benchmark": "data"}, tmp_path)
    assert {path.name for path in tmp_path.glob("data.*")} == {"data.json"}


def layer_measurements(router: str = "fm") -> list[dict[str, Any]]:
    found = [measured(1.25, "CapsNet", "forward", "÷ votes alone", router=router, implementation="auto")]
    for direction in ("forward", "forward and backward"):
        for way, time in (("plain", 100.0), ("auto", 30.0)):
            found.append(measured(time, "CapsNet", direction, "ms", router=router, implementation=way))
        found.append(measured(0.3, "CapsNet", direction, "÷ plain", router=router, implementation="auto"))
    for way, size in (("plain", 6.0), ("auto", 0.1)):
        found.append(measured(size, "CapsNet", "extra memory", "÷ votes", router=router, implementation=way))
    return found


def test_layers_plain_and_as_chosen() -> None:
    assert layer_table(layer_measurements()).to_dict("records") == [
        {
            "Layer": "CapsNet",
            "Router": "FM",
            "Forward ms, plain → ours": "100.0 → 30.0",
            "Forward, ours ÷ plain": "0.30",
            "Forward and backward ms, plain → ours": "100.0 → 30.0",
            "Forward and backward, ours ÷ plain": "0.30",
            "Forward, ours ÷ votes alone": "1.25",
            "Extra memory ÷ votes, plain → ours": "6.00 → 0.10",
        }
    ]


def test_a_router_of_ones_own_has_one_implementation() -> None:
    own = [one for one in layer_measurements("mean") if one["implementation"] == "auto" and one["unit"] != "÷ plain"]
    (row,) = layer_table(own).to_dict("records")
    assert row["Router"] == "mean"
    assert row["Forward ms, plain → ours"] == "– → 30.0"
    assert row["Forward, ours ÷ plain"] == "–"


def test_training_plain_and_ours() -> None:
    plain, ours, lightning = ({"router": "fm", "implementation": way} for way in ("plain", "ours", "ours in Lightning"))
    measurements = [
        measured(100.0, "capsnet", "training", "images/s", **plain),
        measured(150.0, "capsnet", "training", "images/s", **ours),
        measured(1.5, "capsnet", "training", "times as fast as plain", **ours),
        measured(0.97, "capsnet", "training", "times as fast as ours", **lightning),
    ]
    (row,) = train_table(measurements).to_dict("records")
    assert row["Router"] == "FM"
    assert row["Images/s, plain → ours"] == "100 → 150"
    assert row["Compiled, times as fast"] == "–"
    assert row["Lightning ÷ bare loop"] == "0.97"


def test_contention_alone_and_in_company() -> None:
    measurements = [
        measured(time, "small", "training step", "ms", implementation=rule, size=size)
        for rule, size, time in (("no limit", 0, 50.0), ("our limit", 0, 51.0), ("no limit", 2, 1900.0))
    ]
    assert contention_table(measurements).to_dict("records") == [
        {
            "Threads": "no limit",
            "Alone, ms": "50 (49 to 51)",
            "Beside 2 busy processes, ms": "1900 (1899 to 1901)",
        },
        {"Threads": "our limit", "Alone, ms": "51 (50 to 52)", "Beside 2 busy processes, ms": "–"},
    ]


def test_pictures(tmp_path: Path) -> None:
    sizes = [measured(5.0, "children", "forward and backward", "ms", router="fm", size=size) for size in (2, 4)]
    draw_scaling(sizes, tmp_path)
    draw_layer(layer_measurements(), tmp_path)
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("scaling.png", "layer.png"))


def test_a_table_says_where_it_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "table1.json"
    path.write_text(json.dumps(RECORD))
    assert benchmark_markdown(path).endswith("*cpu, 2 threads; medians of 7 repetitions in turn, torch 2.14.1.*\n")
    path.write_text(json.dumps(RECORD | {"benchmark": "data"}))
    with pytest.raises(ValueError, match=r"of the benchmark data; there are tables for contention, layer, table1"):
        benchmark_markdown(path)
    path.write_text(json.dumps({"benchmark": "table1", "measured": {}}))
    with pytest.raises(ValueError, match=r"older version; run capsbench benchmark table1 again"):
        benchmark_markdown(path)


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.md")), ids=lambda path: path.stem)
def test_published_benchmarks_are_what_their_measurements_give(path: Path, tmp_path: Path) -> None:
    write_benchmark(json.loads(path.with_suffix(".json").read_text()), tmp_path)
    for written in set(tmp_path.iterdir()) - set(tmp_path.glob("*.png")):
        assert written.read_text() == (path.parent / written.name).read_text()
