"""Table 1 from its benchmark: milliseconds per batch, and what machines can be compared by, the ratios."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from capsbench.benchmarks.table1 import NO_ROUTING, ROUTERS, SHAPES
from capsbench.reports.formats import to_latex, to_markdown
from capsbench.reports.paper import inference_ms

CHOICES = {"dynamic(1)": "dynamic1", "dynamic(3)": "dynamic", "FM": "fm"}
"""What the paper's numbers are filed under."""
MISSING = "–"
DEVICES = {"CPU": "cpu", "CUDA": "gpu"}


def table1(measured: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """One row per set, device and router: ours, the paper's (GTX 1080 Ti, i7), and both divided by FM's.

    Args:
        measured: what `benchmark_table1` returns.
    """
    rows = []
    for data in SHAPES:
        for device, kind in DEVICES.items():
            theirs = inference_ms()[data][kind]
            for router in (*ROUTERS, NO_ROUTING):
                ours = measured.get(f"{data}, {device}, {router}: ms")
                if ours is None:
                    continue
                ratio = measured.get(f"{data}, {device}, {router} ÷ FM", {"median": 1.0})["median"]
                paper = theirs[CHOICES[router]] if router in CHOICES else None
                rows.append(
                    {
                        "Data": f"{data}, {device}",
                        "Router": router,
                        "Ours ms": f"{ours['median']:.2f} ({ours['least']:.2f} to {ours['most']:.2f})",
                        "Paper ms": MISSING if paper is None else f"{paper:.2f}",
                        "Ours ÷ FM": f"{ratio:.2f}",
                        "Paper ÷ FM": MISSING if paper is None else f"{paper / theirs['fm']:.2f}",
                    }
                )
    return pd.DataFrame(rows)


def write_table1(measured: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """Write table1.md, table1.tex and table1.csv into a folder."""
    table = table1(measured)
    (folder / "table1.md").write_text(to_markdown(table), encoding="utf-8")
    (folder / "table1.tex").write_text(to_latex(table, "Table 1: milliseconds per batch"), encoding="utf-8")
    table.to_csv(folder / "table1.csv", index=False)
