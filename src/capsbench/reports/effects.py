"""The figures of a factorial experiment: main effects of each setting, and what each router makes of combinations."""

import itertools
import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from capsbench.reports.dots import (
    FAILED,
    INK,
    draw_condition,
    draw_mean,
    draw_runs,
    fit_axes,
    legend_of,
    mean_handle,
)
from capsbench.reports.figures import legend_below, palette, wrapped
from capsbench.reports.sweeps import ACCURACY, LEARNED, ROUTER, Sweep

COLUMNS = 2
COMBINATION_INCHES, ROW_INCHES = 0.85, 1.7
MISSING = "–"
"""Stands for a setting that a run does not have."""


def main_effects(sweep: Sweep, title: str, measured: str) -> Figure:
    """Draw final accuracy by the levels of each setting and by router, a part for each.

    A dot is a run, a cross one that did not learn; runs that crashed are counted beside these as failed. The mean of a
    level is that of `Sweep.seeds_by_level`; its interval is over seeds. A second mean, of runs that learned, stands
    beside it where some did not.

    Args:
        sweep: of several settings.
        title: of the figure.
        measured: what accuracy it is: "Test accuracy".
    """
    rows = -(-len(sweep.factors) // COLUMNS)
    figure = Figure(figsize=(6 * COLUMNS, 0.6 + 3.6 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False)
    hues = palette(sweep.routers)
    for ax, factor in itertools.zip_longest(grid.flat, sweep.factors):
        if factor is None:
            ax.set_axis_off()
        else:
            _main_effect(ax, sweep, factor, hues)
    used = list(grid.flat)[: len(sweep.factors)]
    fit_axes(used)
    for ax in grid[:, 0]:
        ax.set_ylabel(f"{measured} %")
    figure.suptitle(wrapped(title, figure.get_figwidth()))
    handles = legend_of(sweep, hues, pooled=True)
    if FAILED in handles:
        handles["the same of runs that learned"] = mean_handle(filled=False)
    legend_below(figure, handles)
    return figure


def _main_effect(ax: Axes, sweep: Sweep, factor: str, hues: dict[str, str]) -> None:
    means = {True: sweep.seeds_by_level(factor), False: sweep.that_learned.seeds_by_level(factor)}
    names = []
    for place, level in enumerate(sweep.levels(factor)):
        at_level = sweep.runs[sweep.runs[factor] == level]
        failed, ended = sweep.failed(factor, level)
        for number, (router, color) in enumerate(hues.items()):
            left, width = (-0.45, 0.65) if factor == ROUTER else (-0.45 + 0.7 * number / len(hues), 0.5 / len(hues))
            draw_runs(ax, place + left + width / 2, at_level[at_level[ROUTER] == router], color, width)
        name = [broken(level, 16)]
        for (everything, table), word in zip(means.items(), ("mean", "learned"), strict=True):
            if level in table and (everything or not at_level[LEARNED].all()):
                seeds = table[level].dropna()
                draw_mean(ax, place + 0.33, seeds, INK, filled=everything)
                name.append(f"{word} {np.mean(seeds):.1f}")
        names.append("\n".join(name + [f"{failed} of {ended} failed"] * (failed > 0)))
    ax.set_xticks(range(len(names)), names, fontsize="small")
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_title(factor, fontsize="medium")


def interactions(sweep: Sweep, title: str, measured: str) -> Figure:
    """Draw final accuracy of each combination of settings, a row for each router, with the mean written beside it.

    Args:
        sweep: of several settings.
        title: of the figure.
        measured: what accuracy it is: "Test accuracy".
    """
    levels = sweep.runs[list(sweep.settings)].fillna(MISSING)
    names = levels.map(broken, letters=12).agg("\n".join, axis=1)
    combinations = list(names.unique())
    width = max(10.0, 1.2 + COMBINATION_INCHES * len(combinations))
    figure = Figure(figsize=(width, 1.2 + ROW_INCHES * len(sweep.routers)), layout="constrained")
    grid = figure.subplots(len(sweep.routers), 1, sharex=True, sharey=True, squeeze=False)
    for ax, (router, color) in zip(grid[:, 0], palette(sweep.routers).items(), strict=True):
        for combination, runs in sweep.runs[sweep.runs[ROUTER] == router].groupby(names):
            place = combinations.index(combination)
            draw_condition(ax, float(place), runs, color, 0.6)
            ax.annotate(_means(runs), (place + 0.26, runs[ACCURACY].mean()), fontsize="x-small", va="center")
        ax.set_title(router, fontsize="medium", loc="left")
    fit_axes(list(grid[:, 0]))
    grid[-1, 0].set_xticks(range(len(combinations)), combinations, fontsize="small")
    grid[-1, 0].set_xlim(-0.6, len(combinations) - 0.4)
    grid[-1, 0].set_xlabel(wrapped(" / ".join(sweep.settings), width))
    figure.supylabel(f"{measured} %")
    figure.suptitle(wrapped(title, width))
    legend_below(figure, legend_of(sweep, {}))
    return figure


def _means(runs: pd.DataFrame) -> str:
    """Write the mean, and in brackets that of the runs that learned where some but not all did."""
    learned = runs[ACCURACY][runs[LEARNED]]
    some = 0 < len(learned) < len(runs)
    return f"{runs[ACCURACY].mean():.1f}" + (f"\n({learned.mean():.1f})" if some else "")


def broken(level: str, letters: int) -> str:
    """Break a long name at its underscores and commas."""
    return textwrap.fill(level.replace("_", "_ "), letters).replace("_ ", "_")
