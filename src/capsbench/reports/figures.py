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

from capsbench.reports.comparison import ACCURACIES, COMPARED_WITH, PERCENT, Line, Panel, Run

HANDLE_INCHES, LETTER_INCHES, ROW_INCHES = 0.6, 0.085, 0.22
"""Of a legend at matplotlib's usual size of letters."""

CURVES = dict(zip(ACCURACIES, ("Training accuracy", "Test accuracy"), strict=True))


def colors(panels: list[Panel]) -> dict[str, str]:
    """A colour (#rrggbb) for each label, the same in all these panels."""
    palette = matplotlib.color_sequences["tab10"]
    labels = dict.fromkeys(line.label for line in _fm_first([line for panel in panels for line in panel.lines]))
    return {label: to_hex(palette[number % len(palette)]) for number, label in enumerate(labels)}


def in_order(panel: Panel) -> list[tuple[str, list[Run]]]:
    """A panel's labels and runs in the order of legends: FM first, then by name."""
    return [(line.label, line.runs) for line in _fm_first(panel.lines)]


def _fm_first(lines: list[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (line.router != COMPARED_WITH, line.label.lower()))


def seeds_per_epoch(runs: list[Run], metric: str) -> pd.DataFrame:
    """A metric of each run (a column) at each epoch that all of them have measured it in (the index), in percent."""
    return PERCENT * pd.concat([run.curves()[metric] for run in runs], axis=1).dropna()


def training_curves(panels: list[Panel], palette: Mapping[str, str]) -> Figure:
    """Accuracy per epoch, training beside test, a row for each panel.

    The line is the mean over seeds, the band reaches from the lowest seed to the highest; where accuracy was measured
    once, a point and a bar.
    """
    figure = Figure(figsize=(10, 0.3 + 3.4 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 2, sharey="row", squeeze=False)
    for panel, axes in zip(panels, grid, strict=True):
        for ax, (metric, title) in zip(axes, CURVES.items(), strict=True):
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
    """A legend of labels and their handles below the axes, in as many columns as fit; the figure grows by its rows."""
    widest = HANDLE_INCHES + LETTER_INCHES * max(map(len, handles), default=0)
    columns = max(1, min(3, int(figure.get_figwidth() / widest)))
    figure.set_figheight(figure.get_figheight() + ROW_INCHES * -(-len(handles) // columns))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)


def label_of(label: str, runs: list[Run]) -> str:
    """A line's name with its number of seeds."""
    return f"{label} (n={len(runs)})"


def to_svg(figure: Figure) -> str:
    """The figure as an <svg> element, its background left to the page."""
    buffer = io.StringIO()
    _save_svg(figure, buffer, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def write_curves(panels: list[Panel], folder: Path) -> None:
    """Write curves.svg and curves.png into a folder."""
    figure = training_curves(panels, colors(panels))
    _save_svg(figure, folder / "curves.svg")
    figure.savefig(folder / "curves.png", dpi=150)


def _save_svg(figure: Figure, target: Path | io.StringIO, *, transparent: bool = False) -> None:
    """Without date and random ids: the same figure is the same file, and a published one changes with its numbers."""
    with matplotlib.rc_context({"svg.hashsalt": "capsbench"}):
        figure.savefig(target, format="svg", metadata={"Date": None}, transparent=transparent)
