"""Accuracy per epoch, as figures 4 and 5 of the paper show it, and after the last epoch."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from capsbench.reports.comparison import Panel
from capsbench.reports.dots import draw_condition, fit_axes
from capsbench.reports.figures import in_order, label_of, legend_below
from capsbench.reports.runs import MEASURED, PERCENT, Run, of_training
from capsbench.reports.sweeps import outcomes
from capsbench.runs.measures import MAIN

FINAL = "after the last epoch"


def seeds_per_epoch(runs: list[Run], metric: str) -> pd.DataFrame:
    """Tabulate a metric in percent, a column per run, for the epochs in which all runs measured it."""
    return PERCENT * pd.concat([run.curves()[metric] for run in runs], axis=1).dropna()


def training_curves(panels: list[Panel], palette: Mapping[str, str]) -> Figure:
    """Draw accuracy per epoch in training and in test or validation, and the final one; a row for each panel.

    A thick curve is the mean over seeds, thin ones are single seeds. Final accuracies are a dot for each seed, and
    their mean with its 95 % interval.
    """
    figure = Figure(figsize=(13, 0.3 + 3.4 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 3, squeeze=False)
    handles: dict[str, Any] = {}
    for panel, (left, middle, right) in zip(panels, grid, strict=True):
        metric = panel.metric
        middle.sharex(left)
        for ax, measured in ((left, of_training(metric)), (middle, metric)):
            handles |= _curves(ax, panel, measured, palette)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.set(title=MEASURED[measured], xlabel="Epoch")
        for number, (label, runs) in enumerate(in_order(panel)):
            draw_condition(right, float(number), outcomes(runs), palette[label], 0.8)
        right.set(title=f"{MEASURED[metric]} {FINAL}", xticks=[], xlabel="Mean and 95 % interval beside single seeds")
        fit_axes([left, middle])
        fit_axes([right])
        measure = f"{MAIN[metric.partition('/')[2]].capitalize()} %"
        left.set_ylabel(f"{panel.title}\n{measure}" if len(panels) > 1 else measure)
    legend_below(figure, handles)
    return figure


def _curves(ax: Axes, panel: Panel, metric: str, palette: Mapping[str, str]) -> dict[str, Any]:
    handles = {}
    for label, runs in in_order(panel):
        seeds = seeds_per_epoch(runs, metric)
        style: dict[str, Any] = {"color": palette[label], "marker": "o" if len(seeds) == 1 else ""}
        if len(runs) > 1:
            ax.plot(seeds.index, seeds, linewidth=0.6, markersize=3, alpha=0.6, **style)
        (handles[label_of(label, runs)],) = ax.plot(seeds.index, seeds.mean(axis=1), **style)
    return handles
