"""The main effects of a factorial experiment as tables: each level of each setting, over all routers and by router.

A table of single combinations makes many tests of few seeds. Levels averaged over the combinations need few: each level
is tested, seed by seed, against the first of its setting; of routers against the baseline.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from capsbench.data.files import written_atomically
from capsbench.reports.cells import Table
from capsbench.reports.comparison import COMPARED_WITH, Panel
from capsbench.reports.formats import NOTHING, emphasized, estimate_text, p_text, to_csv, to_latex, to_markdown
from capsbench.reports.paper import router_title
from capsbench.reports.runs import MEASURED
from capsbench.reports.statistics import MIN_PAIRS, Estimate, compare, estimate_accuracy
from capsbench.reports.sweeps import ROUTER, Sweep

EFFECTS = "effects"
FAILED = "failed: crashed or did not learn"
DIFFERENCE = ["compared_with", "difference", "difference_low", "difference_high", "p", "verdict"]
AVERAGED = "Mean over the combinations of the other settings that these seeds finished at every level"


def effects(panel: Panel, baseline: str = COMPARED_WITH) -> pd.DataFrame:
    """Make the table for machines, in percent; empty where fewer than two settings vary.

    Args:
        panel: of one data set and network.
        baseline: the router that others are compared with, by its name.

    Returns:
        A row for each level of a factor over all routers (`router` is missing), then of each setting for each router.
        The mean is over `seeds` and over `combinations` of the other settings, and missing where there is one level;
        `failed` of `runs` crashed or did not learn. Over all routers, `difference` is from the level `compared_with`,
        and `p` is adjusted by Holm over the panel's levels.
    """
    sweep = Sweep.of(panel)
    if not sweep.is_factorial:
        return pd.DataFrame()
    routers = sweep.routers if ROUTER in sweep.factors else []
    sweeps = [(None, sweep), *((router, sweep.of_router(router)) for router in routers)]
    found = pd.DataFrame(
        [
            {"panel": panel.title, "factor": factor, "level": level, "router": router, **_record(each, factor, level)}
            for router, each in sweeps
            for factor in each.factors
            for level in sweep.levels(factor)
        ]
    )
    return found.merge(_differences(sweep, router_title(baseline)), "left", ["factor", "level", "router"])


def _differences(sweep: Sweep, baseline: str) -> pd.DataFrame:
    """Compare each level with the first of its setting, of routers with the baseline if it was run."""
    compared = []
    for factor in sweep.factors:
        means, levels = sweep.seeds_by_level(factor), sweep.levels(factor)
        first = baseline if factor == ROUTER and baseline in levels else levels[0]
        if len(levels) > 1 and len(means):
            compared += [(factor, level, first, means[level], means[first]) for level in levels if level != first]
    judged = compare([(ours.dropna(), theirs.dropna()) for *_, ours, theirs in compared])
    return pd.DataFrame(
        [
            {
                "factor": factor,
                "level": level,
                "router": None,
                "compared_with": first,
                "difference": paired.difference.mean,
                "difference_low": paired.difference.low,
                "difference_high": paired.difference.high,
                "p": paired.p,
                "verdict": paired.verdict,
            }
            for (factor, level, first, *_), paired in zip(compared, judged, strict=True)
        ],
        columns=["factor", "level", "router", *DIFFERENCE],
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


def effect_tables(panel: Panel, baseline: str = COMPARED_WITH) -> list[Table]:
    """Make the tables for readers: of all routers together, and where there are several of each; or none."""
    found = effects(panel, baseline)
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
            **_judged(row),
        }
        for row in pooled.itertuples()
    ]
    interval = " [95 % interval over seeds]" if (found["seeds"] > 1).any() else ""
    told = f"{panel.title}. {AVERAGED}{interval}; {FAILED}."
    if pooled["difference"].notna().any():
        told += f" Differences are between these means, seed by seed; a test needs {MIN_PAIRS} seeds."
        if (tests := int(pooled["p"].notna().sum())) > 1:
            told += f" p is adjusted by Holm for {tests} tests, and intervals with it."
    tables = [Table(_without_empty(pd.DataFrame(main)), told)]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    row: Any
    for row in alone.itertuples():
        failed = f" ({row.failed} of {row.runs} failed)" if row.failed else ""
        rows.setdefault((row.factor, row.level), {})[row.router] = _mean(row) + failed
    frame = pd.DataFrame([{"Setting": name, "Level": level, **cells} for (name, level), cells in rows.items()])
    frame = _without_empty(frame)
    if len(frame.columns) > len(("Setting", "Level")):
        tables.append(Table(frame, f"{measured} of each router, over its own combinations{interval}; {FAILED}."))
    return tables


def _judged(row: Any) -> dict[str, str]:
    """Write how a level compares with another; the others of its setting say with which."""
    if not isinstance(row.verdict, str):
        return dict.fromkeys(("Compared with", "Difference", "p (Holm)", "Verdict"), NOTHING)
    difference = Estimate(row.difference, row.difference_low, row.difference_high, row.seeds)
    return {
        "Compared with": row.compared_with,
        "Difference": estimate_text(difference, "+"),
        "p (Holm)": p_text(row.p),
        "Verdict": row.verdict,
    }


def _without_empty(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.loc[:, (frame != NOTHING).any()]


def _mean(row: Any) -> str:
    return estimate_text(Estimate(row.mean, row.low, row.high, row.seeds))


def write_effects(panels: list[Panel], folder: Path, baseline: str = COMPARED_WITH) -> None:
    """Write effects.md, .tex and .csv of all panels into a folder, or remove them where nothing is to be told."""
    tables = [table for panel in panels for table in effect_tables(panel, baseline)]
    if not tables:
        for path in folder.glob(f"{EFFECTS}.*"):
            path.unlink()
        return
    texts = {
        "md": "\n".join(f"{to_markdown(table.frame)}\n{emphasized(table.caption)}" for table in tables),
        "tex": "\n".join(to_latex(table.frame, table.caption) for table in tables),
        "csv": to_csv(pd.concat([effects(panel, baseline) for panel in panels])),
    }
    for ending, text in texts.items():
        with written_atomically(folder / f"{EFFECTS}.{ending}") as path:
            path.write_text(text, encoding="utf-8")
