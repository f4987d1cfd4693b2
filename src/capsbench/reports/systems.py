"""Systems side by side: networks that differ, each with its own router, over the same data, epochs and seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from capsbench.reports.comparison import Comparison, Condition
from capsbench.reports.costs import Costs, read_costs
from capsbench.reports.figures import legend_below, palette, wrapped
from capsbench.reports.protocol import flat
from capsbench.reports.runs import MEASURED, PERCENT, Run

STYLES = ("-", "--", ":", "-.")
"""Of the lines of one network's routers."""


@dataclass(frozen=True)
class Row:
    """A system.

    Attributes:
        arch: the network's name.
        condition: its runs, one per seed; none where all crashed.
        milliseconds: of a training step, as the benchmark measured it; NaN where it did not.
    """

    arch: str
    condition: Condition
    milliseconds: float = math.nan

    @property
    def seconds(self) -> float:
        """How long training took: the steps, each as long as the benchmark measured."""
        runs = self.condition.runs
        return runs[0].result.steps * self.milliseconds / 1000 if runs else math.nan

    def curve(self, run: Run) -> pd.Series:
        """Return a run's accuracy in percent after each epoch that measured it, by seconds of training."""
        rows = [row for row in run.result.history if "step" in row and run.metric in row]
        seconds = [row["step"] * self.milliseconds / 1000 for row in rows]
        return pd.Series([PERCENT * row[run.metric] for row in rows], seconds, dtype=float)

    def after(self, seconds: float) -> pd.Series:
        """Return accuracy in percent at the last epoch that had ended by then, by seed; empty if none had."""
        found = {}
        for run in self.condition.runs:
            curve = self.curve(run)
            ended = curve[curve.index <= seconds * (1 + 1e-9)]
            if len(ended):
                found[run.result.seed] = float(ended.iloc[-1])
        return pd.Series(found, dtype=float)


@dataclass(frozen=True)
class Group:
    """Systems on the same data, measured alike.

    Attributes:
        title: of the data.
        measured: the name of the accuracy.
        rows: the best first.
        costs: what the benchmark measured; None where it was not run.
    """

    title: str
    measured: str
    rows: Sequence[Row]
    costs: Costs | None

    @property
    def seconds(self) -> float:
        """The shortest training of a row; NaN where no time is known."""
        return float(pd.Series([row.seconds for row in self.rows], dtype=float).min())


def groups(comparison: Comparison) -> list[Group]:
    """Collect the networks of each data set; nothing of a table of the paper, or where all runs have one network.

    Raises:
        ValueError: the benchmark's file holds something else.
    """
    if comparison.target is not None or not comparison.runs:
        return []
    costs = read_costs(comparison.runs[0].folder.parents[4])
    found: dict[tuple[str, str, int], list[Row]] = {}
    for panel in comparison.panels:
        for condition in (*panel.conditions, *panel.lost):
            arch = condition.settings["arch"] if "arch" in condition.settings else panel.title.rpartition(" / ")[2]
            key = panel.title.replace(f" / {arch}", "", 1), panel.metric, panel.version
            found.setdefault(key, []).append(Row(arch, condition, _milliseconds(condition, costs)))
    return [
        Group(title, MEASURED[metric], sorted(rows, key=_best_first), costs)
        for (title, metric, _), rows in found.items()
        if len({row.arch for row in rows}) > 1
    ]


def _milliseconds(condition: Condition, costs: Costs | None) -> float:
    if costs is None or not condition.runs:
        return math.nan
    result = condition.runs[0].result
    if flat(result.settings).get("data.batch_size") != costs.batch_size:
        return math.nan
    return costs.milliseconds.get((result.arch, result.data, result.router), math.nan)


def _best_first(row: Row) -> tuple[bool, float, str, str]:
    runs = row.condition.runs
    mean = sum(run.accuracy for run in runs) / len(runs) if runs else 0.0
    return not runs, -mean, row.arch, row.condition.label


def time_figure(group: Group) -> Figure | None:
    """Draw accuracy against the time of training, on a logarithmic axis; None where no time is known.

    A curve is the mean over seeds, with a point for each epoch. Networks have colours.
    """
    timed = [row for row in group.rows if row.seconds > 0]
    if not timed:
        return None
    figure = Figure(figsize=(10, 5), layout="constrained")
    ax = figure.subplots()
    colors = palette(sorted({row.arch for row in timed}))
    handles, drawn = {}, dict.fromkeys(colors, 0)
    for row in sorted(timed, key=lambda row: (row.arch, row.condition.title)):
        curves = pd.concat([row.curve(run) for run in row.condition.runs], axis=1).dropna()
        style = STYLES[drawn[row.arch] % len(STYLES)]
        drawn[row.arch] += 1
        label = f"{row.arch}, {row.condition.title} (n = {len(row.condition.runs)})"
        (handles[label],) = ax.plot(
            curves.index, curves.mean(axis=1), style, color=colors[row.arch], marker="o", markersize=3
        )
    ax.set(xscale="log", xlabel="Seconds of training: steps times the benchmark's time of a step")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(ylabel=f"{group.measured} %", title=wrapped(f"{group.title}: after each epoch", figure.get_figwidth()))
    ax.grid(alpha=0.3)
    legend_below(figure, handles)
    return figure
