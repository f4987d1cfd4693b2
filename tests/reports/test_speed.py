"""Tables of benchmarks; table 1 beside the paper's."""

import json
from pathlib import Path

import pandas as pd
import pytest
from capsbench.reports.benchmarks import benchmark_markdown, layer_table, table1, train_table, write_benchmark_table


def spread(median: float) -> dict[str, float]:
    return {"median": median, "least": median - 1, "most": median + 1}


MEASURED = {
    "CIFAR-10, CPU, dynamic(1): ms": spread(30.0),
    "CIFAR-10, CPU, dynamic(3): ms": spread(40.0),
    "CIFAR-10, CPU, FM: ms": spread(20.0),
    "CIFAR-10, CPU, dynamic(1) ÷ FM": spread(1.5),
    "CIFAR-10, CPU, dynamic(3) ÷ FM": spread(2.0),
}


def test_what_was_measured_stands_beside_the_papers() -> None:
    rows = table1(MEASURED).set_index("Router")
    assert rows.loc["dynamic(3)", "Ours ms"] == "40.00 (39.00 to 41.00)"
    assert rows.loc["dynamic(3)", "Paper ms"] == "274.58"
    assert rows.loc["dynamic(3)", "Ours ÷ FM"] == "2.00"
    assert rows.loc["dynamic(3)", "Paper ÷ FM"] == "1.35"
    assert rows.loc["FM", "Ours ÷ FM"] == "1.00"
    assert set(rows["Data"]) == {"CIFAR-10, CPU"}  # no GPU was measured


def test_files(tmp_path: Path) -> None:
    write_benchmark_table("table1", MEASURED, tmp_path)
    assert len(pd.read_csv(tmp_path / "table1.csv")) == 3
    assert "274.58" in (tmp_path / "table1.md").read_text()
    assert r"\toprule" in (tmp_path / "table1.tex").read_text()


def test_layers_plain_and_as_chosen() -> None:
    measured = {"CapsNet, FM auto ÷ votes alone, forward": spread(1.25)}
    for direction in ("forward", "forward and backward"):
        measured[f"CapsNet, FM plain, {direction}: ms"] = spread(100.0)
        measured[f"CapsNet, FM auto, {direction}: ms"] = spread(30.0)
        measured[f"CapsNet, FM auto ÷ plain, {direction}"] = spread(0.3)
    for kind, size in (("plain", 6.0), ("auto", 0.1)):
        measured[f"CapsNet, FM {kind}: extra memory ÷ votes, training"] = spread(size)
    assert layer_table(measured).to_dict("records") == [
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


def test_training_plain_and_ours() -> None:
    measured = {
        "capsnet, FM, plain: images/s": spread(100.0),
        "capsnet, FM, ours: images/s": spread(150.0),
        "capsnet, FM, ours: times as fast as plain": spread(1.5),
        "capsnet, FM, Lightning ÷ bare loop, images/s": spread(0.97),
    }
    (row,) = train_table(measured).to_dict("records")
    assert row["Images/s, plain → ours"] == "100 → 150"
    assert row["Compiled, times as fast"] == "–"
    assert row["Lightning ÷ bare loop"] == "0.97"


def test_a_table_says_where_it_was_measured(tmp_path: Path) -> None:
    record = {
        "benchmark": "table1",
        "settings": {"repetitions": 7},
        "measured": MEASURED,
        "devices": ["cpu, 2 threads"],
        "versions": {"torch": "2.14.1"},
    }
    path = tmp_path / "table1.json"
    path.write_text(json.dumps(record))
    assert benchmark_markdown(path).endswith("*cpu, 2 threads; medians of 7 repetitions in turn, torch 2.14.1.*\n")
    path.write_text(json.dumps(record | {"benchmark": "data"}))
    with pytest.raises(ValueError, match=r"is of the benchmark data; there are tables for layer, table1, train"):
        benchmark_markdown(path)
