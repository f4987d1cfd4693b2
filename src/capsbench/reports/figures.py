"""Figures of a comparison."""

import io

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from capsbench.reports.comparison import PERCENT, Panel

CURVES = {"train/accuracy": "Training accuracy", "test/accuracy": "Test accuracy"}


def training_curves(panel: Panel) -> Figure:
    """Accuracy per epoch: for each router the mean over seeds, and a band from the lowest seed to the highest."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    colors = matplotlib.color_sequences["tab10"]
    for number, (router, runs) in enumerate(sorted(panel.routers.items())):
        color = colors[number % len(colors)]
        curves = [run.curves() * PERCENT for run in runs]
        for ax, (metric, title) in zip(axes, CURVES.items(), strict=True):
            seeds = pd.concat([curve[metric] for curve in curves], axis=1).dropna()
            ax.fill_between(seeds.index, seeds.min(axis=1), seeds.max(axis=1), color=color, alpha=0.2, linewidth=0)
            ax.plot(seeds.index, seeds.mean(axis=1), color=color, label=f"{router} (n={len(runs)})")
            ax.set(title=title, xlabel="Epoch")
            ax.grid(alpha=0.3)
    axes[0].set_ylabel("Accuracy %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def to_svg(figure: Figure) -> str:
    """The figure as an <svg> element."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    return text[text.index("<svg") :]
