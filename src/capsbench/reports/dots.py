"""Final accuracies: a dot for each seed, their mean, and its 95 % interval."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from capsbench.reports.figures import legend_below, palette, wrapped
from capsbench.reports.statistics import estimate_accuracy
from capsbench.reports.sweeps import ACCURACY, LEARNED, ROUTER, SEED, Sweep, as_numbers

FAILED = "did not learn (within 3 points of chance)"
INK = "0.15"


def draw_runs(ax: Axes, x: float, runs: pd.DataFrame, color: str, width: float) -> None:
    """Draw a dot for each run beside one another around x, a cross for one that did not learn."""
    offsets = np.linspace(-width / 2, width / 2, len(runs)) if len(runs) > 1 else np.zeros(1)
    for learned, marker in ((True, "o"), (False, "x")):
        shown = (runs[LEARNED] == learned).to_numpy()
        ax.plot(x + offsets[shown], runs[ACCURACY][shown], marker, color=color, markersize=4.5, alpha=0.75)


def draw_mean(ax: Axes, x: float, seeds: pd.Series, color: str, *, filled: bool = True) -> None:
    """Draw the mean over seeds, and its 95 % interval where there are two or more."""
    found = estimate_accuracy(seeds)
    if found.n > 1:
        ax.vlines(x, found.low, found.high, color=color, linewidth=1.4)
    face = color if filled else "white"
    ax.plot(x, found.mean, "D", color=face, markeredgecolor=color, markersize=5, zorder=3)


def draw_condition(ax: Axes, x: float, runs: pd.DataFrame, color: str, width: float) -> None:
    """Draw the seeds of one condition, and to their right the mean and its interval."""
    draw_runs(ax, x - 0.2 * width, runs, color, 0.5 * width)
    draw_mean(ax, x + 0.3 * width, runs[ACCURACY], color)


def fit_axes(axes: Sequence[Axes]) -> None:
    """Give axes one range, with all that is drawn in them."""
    drawn = [ax.dataLim for ax in axes if ax.has_data()]
    low, high = min((box.y0 for box in drawn), default=0.0), max((box.y1 for box in drawn), default=100.0)
    margin = 0.06 * (high - low) or 1.0
    for ax in axes:
        ax.set_ylim(low - margin, high + margin)
        ax.grid(axis="y", alpha=0.3)


def against_setting(sweep: Sweep, title: str, measured: str) -> Figure:
    """Draw final accuracy against the one setting that varies, routers in colours.

    Args:
        sweep: of one setting. Levels that are numbers stand on an axis of numbers.
        title: of the figure.
        measured: what accuracy it is: "Test accuracy".
    """
    (setting,) = sweep.settings
    levels, hues = sweep.levels(setting), palette(sweep.routers)
    places, scale = positions(levels)
    gap = min(np.diff(places), default=1.0)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    ax = figure.subplots()
    step = 0.6 * gap / len(sweep.routers)
    for number, router in enumerate(sweep.routers):
        means = {}
        for place, level in zip(places, levels, strict=True):
            runs = sweep.runs[(sweep.runs[ROUTER] == router) & (sweep.runs[setting] == level)]
            x = place + (number - (len(sweep.routers) - 1) / 2) * step
            if len(runs):
                draw_condition(ax, x, runs, hues[router], 0.8 * step)
                means[x + 0.24 * step] = runs[ACCURACY].mean()
        if as_numbers(levels):
            ax.plot(list(means), list(means.values()), color=hues[router], linewidth=0.8, alpha=0.6)
    ax.set_xticks(places, levels)
    ax.set_xlim(places[0] - 0.6 * gap, places[-1] + 0.6 * gap)
    ax.set_xlabel(setting + scale)
    ax.set_title(wrapped(title, figure.get_figwidth()))
    ax.set_ylabel(f"{measured} %")
    fit_axes([ax])
    legend_below(figure, legend_of(sweep, hues))
    return figure


def positions(levels: Sequence[str]) -> tuple[np.ndarray, str]:
    """Place levels on an axis: numbers by size, or by their logarithms if these are more evenly spread; texts in turn.

    Returns:
        The places in ascending order, and what the axis's title adds.

    >>> positions(["1", "2", "3"])[0].tolist(), positions(["margin", "spread"])[0].tolist()
    ([1.0, 2.0, 3.0], [0.0, 1.0])
    >>> positions(["0.001", "0.01", "0.1"])
    (array([-3., -2., -1.]), ' (logarithmic)')
    """
    numbers = as_numbers(levels)
    if numbers is None:
        return np.arange(len(levels), dtype=float), ""
    values = np.array(numbers)
    if values.min() > 0 and _evenness(np.log10(values)) > _evenness(values):
        return np.log10(values), " (logarithmic)"
    return values, ""


def _evenness(places: np.ndarray) -> float:
    return float(min(np.diff(places)) / np.ptp(places))


def legend_of(sweep: Sweep, hues: Mapping[str, str], *, pooled: bool = False) -> dict[str, Line2D]:
    """Make the legend: a colour for each router, the mean and its interval, and a cross if a run did not learn.

    Args:
        sweep: what is drawn.
        hues: a colour for each router that has its own.
        pooled: whether a mean is over combinations of settings that all seeds finished.
    """

    seeds = sweep.runs[SEED].nunique()
    fewest = sweep.runs.groupby([ROUTER, *sweep.settings], dropna=False).size().min()
    n = f"n = {seeds}" if pooled or fewest == seeds else f"n = {fewest} to {seeds}"
    found = {router: Line2D([], [], marker="o", color=color, linestyle="none") for router, color in hues.items()}
    found[f"mean, 95 % interval over seeds ({n})" if seeds > 1 else "mean"] = mean_handle()
    if not sweep.runs[LEARNED].all():
        found[FAILED] = Line2D([], [], marker="x", color=INK, linestyle="none")
    return found


def mean_handle(*, filled: bool = True) -> Line2D:
    """Make the legend's sign of a mean and its interval."""
    return Line2D([], [], marker="D", color=INK, markerfacecolor=INK if filled else "white", markersize=5)
