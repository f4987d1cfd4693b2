"""An experiment's tables: our accuracy beside the paper's, who learned, and how sure the differences are."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from capsbench.reports.captions import caption, tests_told
from capsbench.reports.comparison import Comparison, Condition
from capsbench.reports.formats import NOTHING, estimate_text, narrow, p_text
from capsbench.reports.paper import AUTHORS, Number, router_title
from capsbench.reports.rows import Part, Row, parts
from capsbench.reports.runs import MEASURED, PERCENT, Run, accuracies
from capsbench.reports.statistics import estimate_accuracy
from capsbench.runs.measures import BESIDE

TIMES = {"Training": "wall_time_s", "Images/s": "train/images_per_second", "ms/batch": "inference/ms_per_batch"}
"""Columns of what was measured in training; they are shown where the machine's load was low."""


@dataclass(frozen=True)
class Table:
    """A table for readers, every cell a text, and what its rows have in common."""

    frame: pd.DataFrame
    caption: str


def tables(comparison: Comparison, *, all_rows: bool = True, show_test: bool = False) -> list[Table]:
    """Make the tables for readers.

    Args:
        comparison: of runs.
        all_rows: whether to count the missing seeds of the paper's rows that nobody began, and show those without data.
        show_test: add what `capsbench evaluate` measured of the test set.
    """
    found: list[Table] = []
    for part in parts(comparison):
        rows = list(part.rows) if all_rows else begun_rows(part.rows)
        shared = comparison.shared
        with_test = show_test and part.panels[0].metric.startswith("val/")
        if any(row.expected and not row.conditions for row in rows) or not comparison.target:
            shared = ()
        found += _tables(part, rows, comparison, shared, with_test)
    return found


def begun_rows(rows: Sequence[Row]) -> list[Row]:
    """Leave out the rows of the paper that nobody began; its numbers stay where their data set has a row of ours."""
    data = {row.data for row in rows if row.begun}
    kept = [row for row in rows if row.begun or (row.data in data and (row.paper or not row.expected))]
    return [row if row.begun or not row.expected else row.as_the_papers() for row in kept]


def _tables(
    part: Part, rows: list[Row], comparison: Comparison, shared: tuple[str, ...], show_test: bool
) -> Iterator[Table]:
    """One table if there is one protocol; else the accuracies of both in one, and what is told of each in another."""
    names = list(dict.fromkeys(name for row in rows for name in row.settings))
    protocols = list(dict.fromkeys(protocol for row in rows for protocol in row.conditions)) or [""]
    accuracy, details = [], []
    for row in rows:
        named = {"Router": _label(row, shared), "Data": title_of_data(row)}
        named |= {name: row.settings.get(name, NOTHING) for name in names}
        named["Paper %"] = number_text(row.paper) if row.paper else NOTHING
        for protocol in protocols:
            named[_column(part, protocol, comparison)] = our_number(row, protocol)
        one = row.conditions.get(protocols[0]) if len(protocols) == 1 else None
        if len(protocols) == 1:
            details.append(_details(one, part, comparison.baseline, show_test))
        named["Parameters"] = _parameters(row)
        accuracy.append(named)
    told, of_tests = caption(part, rows, comparison, shared), tests_told(part, comparison)
    if len(protocols) == 1:
        frame = pd.DataFrame(accuracy).join(pd.DataFrame(details).fillna(NOTHING))
        order = [name for name in frame if name != "Parameters" and name not in TIMES]
        yield Table(tidy(frame[[*order, "Parameters", *(name for name in TIMES if name in frame)]]), told + of_tests)
        return
    yield Table(tidy(pd.DataFrame(accuracy)), told)
    for row in rows:
        for protocol, condition in row.conditions.items():
            named = {"Router": _label(row, shared), "Data": title_of_data(row), "Protocol": _protocol(protocol)}
            details.append(named | _details(condition, part, comparison.baseline, show_test))
    yield Table(tidy(pd.DataFrame(details).fillna(NOTHING)), f"The same runs, each protocol by itself.{of_tests}")


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out columns that say nothing, and outcomes that no run had."""
    said = (frame != NOTHING).any()
    for name in ("Crashed", "Did not learn"):
        if name in frame and not any(cell != NOTHING and not cell.startswith("0 ") for cell in frame[name]):
            said[name] = False
    return narrow(frame.loc[:, said])


def _details(condition: Condition | None, part: Part, baseline: str, show_test: bool) -> dict[str, str]:
    """What is told of the runs of one condition."""
    difference = f"Difference from {router_title(baseline)}"
    of_parts = accuracies_of_parts(condition.runs) if condition else {}
    columns = ["n", "Crashed", "Did not learn", "Learned", "Learned %", *of_parts, difference, "p (Holm)"]
    of_test = f"{MEASURED[part.panels[0].metric.replace('val/', 'test/')]} %"
    columns += ["P(better)", "Verdict", *([of_test] if show_test else []), *TIMES]
    cells = dict.fromkeys(columns, NOTHING)
    if condition is None:
        return cells
    outcomes = outcomes_of(condition)
    all_ = len(condition.runs) + len(condition.crashed)
    cells |= {"n": str(len(condition.runs)), **{name: f"{k} of {all_}" for name, k in outcomes.items()}}
    cells |= {name: estimate_text(estimate_accuracy(percent)) for name, percent in of_parts.items()}
    learned = [run for run in condition.runs if run.learned]
    if 0 < len(learned) < len(condition.runs):
        cells["Learned %"] = estimate_text(estimate_accuracy(accuracies(learned)))
    paired = part.paired.get(id(condition))
    if paired is not None:
        cells[difference] = estimate_text(paired.difference, "+") + _some(paired.n, condition)
        cells["p (Holm)"] = p_text(paired.p)
        cells["P(better)"] = NOTHING if math.isnan(paired.improvement) else f"{paired.improvement:.2f}"
        cells["Verdict"] = paired.verdict
    if show_test:
        tested = [run.tested for run in condition.runs if run.tested is not None]
        if tested:
            measured = estimate_text(estimate_accuracy(pd.Series(tested)))
            cells[of_test] = measured + _some(len(tested), condition)
    if condition.runs and all(run.is_timed for run in condition.runs):
        seconds, speed, latency = (mean_of(condition.runs, name) for name in TIMES.values())
        cells |= {"Training": _duration(seconds), "Images/s": _rounded(speed, 0), "ms/batch": _rounded(latency, 1)}
    return cells


def accuracies_of_parts(runs: Sequence[Run]) -> dict[str, pd.Series]:
    """Accuracies in percent, by column, on parts of the test set and on further sets, where every run has them.

    Beside an exact match, F1 and mAP.
    """
    metrics = [{**run.result.metrics} for run in runs]
    shared = [name for name in metrics[0] if all(name in other for other in metrics)] if metrics else []
    found = {name: name.removeprefix(f"{runs[0].metric}_") for name in shared}
    split = runs[0].metric.partition("/")[0] if runs else ""
    beside = {f"{words} %": f"{split}/{name}" for name, words in BESIDE.items() if f"{split}/{name}" in shared}
    return {column: pd.Series([PERCENT * one[name] for one in metrics]) for column, name in beside.items()} | {
        f"{part.replace('_', ' ').capitalize()} %": pd.Series([PERCENT * one[name] for one in metrics])
        for name, part in found.items()
        if part != name
    }


def _some(seeds: int, condition: Condition) -> str:
    """Say on how many seeds a cell rests where these are not all that finished."""
    return f" ({seeds} of {len(condition.runs)} seeds)" if seeds < len(condition.runs) else ""


def outcomes_of(condition: Condition) -> dict[str, int]:
    """Count the seeds that crashed, that stayed within 3 points of chance, and that learned."""
    learned = sum(run.learned for run in condition.runs)
    return {
        "Crashed": len(condition.crashed),
        "Did not learn": len(condition.runs) - learned,
        "Learned": learned,
    }


def mean_of(runs: Sequence[Run], metric: str) -> float:
    """The mean over runs of a time; NaN where one lacks it."""
    values = [{"wall_time_s": run.result.wall_time_s, **run.result.metrics}.get(metric) for run in runs]
    return float(pd.Series(values, dtype=float).mean(skipna=False))


def _label(row: Row, shared: Sequence[str]) -> str:
    """The row's label without what columns tell, or a caption says of all."""
    for condition in row.conditions.values():
        return row.router if row.settings else condition.without(shared).label
    return row.router


def title_of_data(row: Row) -> str:
    """The data set, and what stands in for it."""
    return f"{row.stand_in} for {row.data}" if row.stand_in else row.data


def _protocol(protocol: str) -> str:
    return "authors'" if protocol.endswith(f"_{AUTHORS}") else "paper's"


def _column(part: Part, protocol: str, comparison: Comparison) -> str:
    if not protocol:
        return f"{MEASURED[part.panels[0].metric]} %"
    only = comparison.is_former or (comparison.target is not None and not comparison.target.authors)
    return "Ours %" if only else f"Ours, {_protocol(protocol)} protocol %"


def our_number(row: Row, protocol: str) -> str:
    """Our accuracy in a protocol, and how many seeds are missing."""
    condition = row.conditions.get(protocol)
    runs = condition.runs if condition else []
    text = estimate_text(estimate_accuracy(accuracies(runs))) if runs else NOTHING
    if missing := row.missing(protocol):
        of = f"{missing} of {row.expected}" if runs else f"{missing}"
        text += f" ({of} seed{'s' if row.expected > 1 else ''} missing)"
    return text


def _parameters(row: Row) -> str:
    found = {run.result.parameters for condition in row.conditions.values() for run in condition.runs[:1]}
    return " / ".join(f"{count:,}" for count in sorted(found)) or row.paper_parameters or NOTHING


def number_text(number: Number) -> str:
    """Write a number as the paper prints it: "94.70 ± 0.17"."""
    return f"{number.mean:.2f}" + (f" ± {number.std:.2f}" if number.std is not None else "")


def _rounded(value: float, digits: int) -> str:
    return NOTHING if pd.isna(value) else f"{value:,.{digits}f}"


def _duration(seconds: float) -> str:
    """Write a time as "45 s", "12 min" or "3:07 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"
