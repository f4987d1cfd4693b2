"""Table 1 beside the paper's."""

from pathlib import Path

import pandas as pd

from capsbench.reports.table1 import table1, write_table1


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
    write_table1(MEASURED, tmp_path)
    assert len(pd.read_csv(tmp_path / "table1.csv")) == 3
    assert "274.58" in (tmp_path / "table1.md").read_text()
    assert r"\toprule" in (tmp_path / "table1.tex").read_text()
