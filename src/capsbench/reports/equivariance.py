"""Equivariance and invariance of analysed runs, routers side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from capsbench.data.files import written_atomically
from capsbench.reports.comparison import Panel
from capsbench.reports.figures import colors, in_order, legend_below, literal
from capsbench.reports.formats import NOTHING, estimate_text
from capsbench.reports.measured import OF_SINGLE_DIGITS, PREDICTORS, UNITS, of_pairs, predictors
from capsbench.reports.runs import PERCENT
from capsbench.reports.statistics import Estimate, estimate

AGAIN = "measured by an older version: run capsbench analyze equivariance again"
MARKS = {"pose": "D", "moments": "s", "features": "^", "activations": "v"}
"""Of predictors that have no bar."""


def analysed(panel: Panel) -> dict[str, list[Mapping[str, Any]]]:
    """What `capsbench analyze equivariance` measured of a panel's runs, by label."""
    measured = {label: [run.equivariance for run in runs if run.equivariance] for label, runs in in_order(panel)}
    return {label: found for label, found in measured.items() if found}


def of_one_measure(panel: Panel) -> tuple[dict[str, list[Mapping[str, Any]]], dict[str, int]]:
    """Choose what R² can be compared: pairs of one digit, or where no run has them the older measure of single digits.

    Returns:
        What was measured, by label, and how many seeds of a label are left out.
    """
    found = analysed(panel)
    if not has_pairs(panel):
        return found, {}
    chosen = {router: [one for one in seeds if of_pairs(one)] for router, seeds in found.items()}
    left_out = {router: len(found[router]) - len(seeds) for router, seeds in chosen.items()}
    return (
        {router: seeds for router, seeds in chosen.items() if seeds},
        {router: count for router, count in left_out.items() if count},
    )


def has_pairs(panel: Panel) -> bool:
    """Tell whether a run of a panel was measured by pairs of one digit."""
    return any(of_pairs(one) for seeds in analysed(panel).values() for one in seeds)


def equivariance_table(panel: Panel) -> pd.DataFrame:
    """Tabulate R² of each parameter, router and predictor: the mean over seeds and its 95 % interval, see `_judged`."""
    rows = []
    found, left_out = of_one_measure(panel)
    for router, seeds in found.items():
        for predictor, name in predictors(seeds[0]).items():
            measured = [one["equivariance"][predictor] for one in seeds]
            row = {"Router": router, "From": name, "Seeds": str(len(seeds))}
            if of_pairs(seeds[0]):
                row["Digits"] = str(min(r2["digits"] for one in measured for r2 in one.values()))
            for parameter, title in UNITS.items():
                row[title] = _cell([one[parameter] for one in measured if parameter in one])
            rows.append(row)
    rows += [{"Router": router, "From": AGAIN, "Seeds": str(count)} for router, count in left_out.items()]
    return pd.DataFrame(rows).fillna(NOTHING)


def _cell(found: list[dict[str, float]]) -> str:
    if not found:
        return NOTHING
    judged = _judged(found)
    return estimate_text(judged)


def _judged(found: list[dict[str, float]]) -> Estimate:
    """Take the mean over seeds with the wider of two intervals, on either side.

    One is the bootstrap interval over digits: seeds share their digits, so that of several is the mean of theirs. The
    other is the t-interval over seeds, which image moments do not depend on.
    """
    over_digits = pd.DataFrame(found).mean()
    over_seeds = estimate(pd.Series([seed["value"] for seed in found]))
    low, high = np.fmin(over_seeds.low, over_digits["low"]), np.fmax(over_seeds.high, over_digits["high"])
    return Estimate(over_seeds.mean, float(low), float(high), len(found))


def invariance_table(panel: Panel) -> pd.DataFrame:
    """Tabulate the areas under each router's curves: mean accuracy in percent / mean change of activation."""
    rows = []
    for router, seeds in analysed(panel).items():
        row = {"Router": router, "Seeds": str(len(seeds))}
        for parameter, title in UNITS.items():
            accuracy = np.mean([s["invariance"][parameter]["accuracy_area"] for s in seeds])
            change = np.mean([s["invariance"][parameter]["change_area"] for s in seeds])
            row[title] = f"{PERCENT * accuracy:.1f} / {change:.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def equivariance_figure(panel: Panel, palette: Mapping[str, str]) -> Figure:
    """Draw R² from the pose, one map per class, as bars for each parameter; other predictors as marks.

    Lines are the intervals of `equivariance_table`, dots single seeds. `palette` has a colour for each label.
    """
    routers, _ = of_one_measure(panel)
    figure = Figure(figsize=(11, 4), layout="constrained")
    ax = figure.subplots()
    width = 0.8 / len(routers)
    handles: dict[str, Any] = {}
    for number, (router, seeds) in enumerate(routers.items()):
        for place, parameter in enumerate(UNITS):
            x = place + (number - (len(routers) - 1) / 2) * width
            for predictor, name in predictors(seeds[0]).items():
                measured = [seed["equivariance"][predictor].get(parameter) for seed in seeds]
                found = [one for one in measured if one is not None]
                if not found:
                    continue
                judged = _judged(found)
                if predictor in MARKS:
                    (handles[name],) = ax.plot(x, judged.mean, MARKS[predictor], color="0.25", markersize=4)
                else:
                    label = f"{router} (n = {len(seeds)})"
                    handles[label] = ax.bar(x, judged.mean, 0.9 * width, color=palette[router], alpha=0.8)
                    ax.vlines(x, judged.low, judged.high, color="black", linewidth=1)
                    if len(found) > 1:
                        dots = [x + 0.25 * width] * len(found)
                        ax.plot(dots, [one["value"] for one in found], ".", color="black", markersize=4)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(range(len(UNITS)), list(UNITS.values()))
    ax.set(ylabel="R² on digits not fitted", title="What the pose tells of a transformation")
    ax.grid(axis="y", alpha=0.3)
    legend_below(
        figure,
        dict(sorted(handles.items(), key=lambda one: one[0] in {*PREDICTORS.values(), *OF_SINGLE_DIGITS.values()})),
    )
    return figure


def invariance_figure(panel: Panel, palette: Mapping[str, str]) -> Figure:
    """Draw accuracy and the change of the winning activation along each parameter alone.

    Thick curves are means over seeds, thin ones single seeds. `palette` has a colour for each label.
    """
    figure = Figure(figsize=(15, 5), layout="constrained")
    grid = figure.subplots(2, len(UNITS), sharey="row", sharex="col", squeeze=False)
    for router, seeds in analysed(panel).items():
        for (above, below), (parameter, title) in zip(grid.T, UNITS.items(), strict=True):
            curves = [s["invariance"][parameter] for s in seeds]
            _curve(above, curves, "accuracy", router, palette[router])
            _curve(below, curves, "activation_change", router, palette[router])
            below.set_xlabel(title)
    grid[0, 0].set_ylabel("Accuracy %")
    grid[1, 0].set_ylabel("Winning activation, change %")
    found = grid[0, 0].get_legend_handles_labels()
    legend_below(figure, {label: handle for handle, label in zip(*found, strict=True)})
    return figure


def write_equivariance(panels: list[Panel], folder: Path) -> list[Path]:
    """Write both figures of each panel that has analysed runs into a folder: equivariance.png, equivariance-2.png, …"""
    paths = []
    for number, panel in enumerate([panel for panel in panels if analysed(panel)]):
        for kind, draw in (("equivariance", equivariance_figure), ("invariance", invariance_figure)):
            path = folder / (f"{kind}-{number + 1}.png" if number else f"{kind}.png")
            with written_atomically(path) as temporary:
                literal(draw(panel, colors([panel]))).savefig(temporary, format="png", dpi=120)
            paths.append(path)
    return paths


def _curve(ax: Axes, curves: list[Mapping[str, Any]], name: str, router: str, color: str) -> None:
    seeds = PERCENT * np.array([curve[name] for curve in curves]).T
    if len(curves) > 1:
        ax.plot(curves[0]["values"], seeds, color=color, linewidth=0.6, alpha=0.6)
    ax.plot(curves[0]["values"], seeds.mean(axis=1), color=color, label=f"{router} (n = {len(curves)})")
    ax.grid(alpha=0.3)
