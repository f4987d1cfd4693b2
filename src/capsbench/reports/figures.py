"""Figures of a comparison: accuracy per epoch, as figures 4 and 5 of the paper show it."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from capsbench.data.files import written_atomically
from capsbench.reports.comparison import COMPARED_WITH, Condition, Panel
from capsbench.reports.runs import MEASURED, PERCENT, TRAIN, Run

HANDLE_INCHES, LETTER_INCHES, ROW_INCHES = 0.6, 0.085, 0.22
"""Of a legend at matplotlib's usual size of letters."""


def measured(panel: Panel) -> dict[str, str]:
    """Return the metrics whose curves are drawn, in training and held out, and what they are called."""
    return {name: MEASURED[name] for name in (TRAIN, panel.metric)}


def colors(panels: list[Panel]) -> dict[str, str]:
    """Give each label a colour (#rrggbb), the same in all these panels."""
    palette = matplotlib.color_sequences["tab10"]
    conditions = _fm_first([condition for panel in panels for condition in panel.conditions])
    labels = dict.fromkeys(condition.label for condition in conditions)
    return {label: to_hex(palette[number % len(palette)]) for number, label in enumerate(labels)}


def in_order(panel: Panel) -> list[tuple[str, list[Run]]]:
    """List a panel's labels and runs in the order of legends: FM first, then by name."""
    return [(condition.label, condition.runs) for condition in _fm_first(panel.conditions)]


def _fm_first(conditions: list[Condition]) -> list[Condition]:
    return sorted(conditions, key=lambda condition: (condition.router != COMPARED_WITH, condition.label.lower()))


def seeds_per_epoch(runs: list[Run], metric: str) -> pd.DataFrame:
    """Tabulate a metric in percent, a column per run, for the epochs in which all runs measured it."""
    return PERCENT * pd.concat([run.curves()[metric] for run in runs], axis=1).dropna()


def training_curves(panels: list[Panel], palette: Mapping[str, str]) -> Figure:
    """Draw accuracy per epoch, training beside test, a row for each panel.

    The curve is the mean over seeds, its band reaches from the lowest seed to the highest. An accuracy that was
    measured once is a point with a bar.
    """
    figure = Figure(figsize=(10, 0.3 + 3.4 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 2, sharey="row", squeeze=False)
    for panel, axes in zip(panels, grid, strict=True):
        for ax, (metric, title) in zip(axes, measured(panel).items(), strict=True):
            for label, runs in in_order(panel):
                seeds = seeds_per_epoch(runs, metric)
                low, mean, high = seeds.min(axis=1), seeds.mean(axis=1), seeds.max(axis=1)
                style = {"color": palette[label], "label": label_of(label, runs)}
                if len(seeds) == 1:
                    ax.errorbar(seeds.index, mean, yerr=[mean - low, high - mean], marker="o", capsize=4, **style)
                else:
                    ax.fill_between(seeds.index, low, high, color=palette[label], alpha=0.2, linewidth=0)
                    ax.plot(seeds.index, mean, **style)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.set(title=f"{panel.title}: {title.lower()}" if len(panels) > 1 else title, xlabel="Epoch")
            ax.grid(alpha=0.3)
        axes[0].set_ylabel("Accuracy %")
    found = [ax.get_legend_handles_labels() for ax in grid[:, 0]]
    by_label = {label: handle for handles, labels in found for handle, label in zip(handles, labels, strict=True)}
    legend_below(figure, by_label)
    return figure


def legend_below(figure: Figure, handles: Mapping[str, Any]) -> None:
    """Put a legend below the axes, in as many columns as fit; the figure grows by its rows."""
    widest = HANDLE_INCHES + LETTER_INCHES * max(map(len, handles), default=0)
    columns = max(1, min(3, int(figure.get_figwidth() / widest)))
    figure.set_figheight(figure.get_figheight() + ROW_INCHES * -(-len(handles) // columns))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)


def label_of(label: str, runs: list[Run]) -> str:
    """Add the number of seeds to a label."""
    return f"{label} (n={len(runs)})"


def to_svg(figure: Figure) -> str:
    """Write a figure as an <svg> element with a transparent background."""
    buffer = io.StringIO()
    _save_svg(figure, buffer, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def write_curves(panels: list[Panel], folder: Path) -> None:
    """Write curves.svg and curves.png into a folder."""
    figure = training_curves(panels, colors(panels))
    with written_atomically(folder / "curves.svg") as path:
        _save_svg(figure, path)
    with written_atomically(folder / "curves.png") as path:
        figure.savefig(path, format="png", dpi=150)


def _save_svg(figure: Figure, target: Path | io.StringIO, *, transparent: bool = False) -> None:
    """Save without date and random ids, so that a published file changes only with its numbers."""
    with matplotlib.rc_context({"svg.hashsalt": "capsbench"}):
        figure.savefig(target, format="svg", metadata={"Date": None}, transparent=transparent)
