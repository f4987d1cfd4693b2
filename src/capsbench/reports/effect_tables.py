"""The main effects of a factorial experiment as tables: each level of each setting, over all routers and by router."""

from pathlib import Path
from typing import Any

import pandas as pd

from capsbench.data.files import written_atomically
from capsbench.reports.cells import Table
from capsbench.reports.comparison import Panel
from capsbench.reports.formats import NOTHING, emphasized, estimate_text, to_csv, to_latex, to_markdown
from capsbench.reports.runs import MEASURED
from capsbench.reports.statistics import Estimate, estimate_accuracy
from capsbench.reports.sweeps import ROUTER, Sweep

EFFECTS = "effects"
FAILED = "failed: crashed or did not learn"
AVERAGED = "Mean over the combinations of the other settings that these seeds finished at every level"


def effects(panel: Panel) -> pd.DataFrame:
    """Make the table for machines, in percent; empty where fewer than two settings vary.

    Returns:
        A row for each level of a factor over all routers (`router` is missing), then of each setting for each router.
        The mean is over `seeds` and over `combinations` of the other settings, and missing where there is one level;
        `failed` of `runs` crashed or did not learn.
    """
    sweep = Sweep.of(panel)
    if not sweep.is_factorial:
        return pd.DataFrame()
    routers = sweep.routers if ROUTER in sweep.factors else []
    sweeps = [(None, sweep), *((router, sweep.of_router(router)) for router in routers)]
    return pd.DataFrame(
        [
            {"panel": panel.title, "factor": factor, "level": level, "router": router, **_record(each, factor, level)}
            for router, each in sweeps
            for factor in each.factors
            for level in sweep.levels(factor)
        ]
    )


def _record(sweep: Sweep, factor: str, level: str) -> dict[str, float]:
    means = sweep.seeds_by_level(factor) if len(sweep.levels(factor)) > 1 else pd.DataFrame()
    found = estimate_accuracy(means[level].dropna() if level in means else pd.Series(dtype=float))
    failed, runs = sweep.failed(factor, level)
    return {
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "seeds": found.n,
        "combinations": len(sweep.combinations(factor)) if found.n else 0,
        "failed": failed,
        "runs": runs,
    }


def effect_tables(panel: Panel) -> list[Table]:
    """Make the tables for readers: of all routers together, and where there are several of each; or none."""
    found = effects(panel)
    if found.empty:
        return []
    measured = f"{MEASURED[panel.metric]} %"
    pooled, alone = found[found["router"].isna()], found[found["router"].notna()]
    main = [
        {
            "Setting": row.factor,
            "Level": row.level,
            measured: _mean(row),
            "Seeds": str(row.seeds),
            "Combinations": str(row.combinations),
            "Failed": f"{row.failed} of {row.runs}",
        }
        for row in pooled.itertuples()
    ]
    interval = " [95 % interval over seeds]" if (found["seeds"] > 1).any() else ""
    told = f"{panel.title}. {AVERAGED}{interval}"
    tables = [Table(pd.DataFrame(main), f"{told}; {FAILED}.")]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    row: Any
    for row in alone.itertuples():
        failed = f" ({row.failed} of {row.runs} failed)" if row.failed else ""
        rows.setdefault((row.factor, row.level), {})[row.router] = _mean(row) + failed
    frame = pd.DataFrame([{"Setting": name, "Level": level, **cells} for (name, level), cells in rows.items()])
    frame = frame.loc[:, (frame != NOTHING).any()]
    if len(frame.columns) > len(("Setting", "Level")):
        tables.append(Table(frame, f"{measured} of each router, over its own combinations{interval}; {FAILED}."))
    return tables


def _mean(row: Any) -> str:
    return estimate_text(Estimate(row.mean, row.low, row.high, row.seeds))


def write_effects(panels: list[Panel], folder: Path) -> None:
    """Write effects.md, .tex and .csv of all panels into a folder, or remove them where nothing is to be told."""
    tables = [table for panel in panels for table in effect_tables(panel)]
    if not tables:
        for path in folder.glob(f"{EFFECTS}.*"):
            path.unlink()
        return
    texts = {
        "md": "\n".join(f"{to_markdown(table.frame)}\n{emphasized(table.caption)}" for table in tables),
        "tex": "\n".join(to_latex(table.frame, table.caption) for table in tables),
        "csv": to_csv(pd.concat([effects(panel) for panel in panels])),
    }
    for ending, text in texts.items():
        with written_atomically(folder / f"{EFFECTS}.{ending}") as path:
            path.write_text(text, encoding="utf-8")
