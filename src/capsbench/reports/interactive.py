"""Interactive training curves and final accuracies, drawn in the page by plotly."""

import html
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from capsbench.reports.comparison import Panel
from capsbench.reports.curves import FINAL, seeds_per_epoch
from capsbench.reports.figures import in_order
from capsbench.reports.runs import MEASURED, Run, of_training
from capsbench.reports.statistics import Estimate, estimate_accuracy
from capsbench.runs.measures import MAIN

CONFIG = {"responsive": True, "displaylogo": False, "displayModeBar": False, "scrollZoom": False}
EPOCHS_TOLD = 5
"""About how many epochs stand below an axis."""


def plotly_source() -> str:
    """Return plotly.js, which a page needs once, before its first figure."""
    return get_plotlyjs()


def curves(panel: Panel, palette: Mapping[str, str], name: str) -> list[str]:
    """Draw accuracy per epoch in training and in test or validation, and the final one, as one <div> each.

    The label of a curve and its seeds is their legend group, by which the page's buttons show and hide them. The page
    sets the colours of text and grid.

    Args:
        panel: its conditions are drawn.
        palette: a colour for each label.
        name: a prefix of the elements' ids, unique in the page.
    """
    metric = panel.metric
    by_epoch = [_curves(panel, one, palette) for one in (of_training(metric), metric)]
    _fit(by_epoch, [y for figure in by_epoch for trace in figure.data for y in trace.y])
    return [
        figure.to_html(
            full_html=False, include_plotlyjs=False, config=CONFIG, div_id=f"{name}-{number}", default_height="22rem"
        )
        for number, figure in enumerate([*by_epoch, _final(panel, metric, palette)])
    ]


def _curves(panel: Panel, metric: str, palette: Mapping[str, str]) -> go.Figure:
    figure = _figure(metric)
    for label, runs in in_order(panel):
        seeds = seeds_per_epoch(runs, metric)
        style = {"mode": "lines" if len(seeds) > 1 else "markers", "legendgroup": label, "x": seeds.index.tolist()}
        if len(runs) > 1:
            thin = {"line": {"color": palette[label], "width": 0.7}, "opacity": 0.6, "hoverinfo": "skip"}
            figure.add_traces([go.Scatter(y=one.tolist(), **thin, **style) for _, one in seeds.items()])
        told = [_interval(estimate_accuracy(row)) for _, row in seeds.iterrows()]
        mean = {"name": _plain(label), "customdata": told, "hovertemplate": "%{y:.2f}%{customdata}"}
        line = {"color": palette[label], "width": 2.5}
        figure.add_trace(go.Scatter(y=seeds.mean(axis=1).tolist(), line=line, **mean, **style))
    last = max((epoch for trace in figure.data for epoch in trace.x), default=1)
    figure.update_xaxes(
        title="Epoch", dtick=max(1, last // EPOCHS_TOLD), spikethickness=1, unifiedhovertitle={"text": "Epoch %{x}"}
    )
    return figure.update_layout(hovermode="x unified")


def _final(panel: Panel, metric: str, palette: Mapping[str, str]) -> go.Figure:
    figure = _figure(metric, FINAL)
    ends: list[float] = []
    for number, (label, runs) in enumerate(in_order(panel)):
        color, accuracies = palette[label], [run.accuracy for run in runs]
        found = estimate_accuracy(pd.Series(accuracies))
        ends += [*accuracies, *(end for end in (found.low, found.high) if not math.isnan(end))]
        group = {"legendgroup": label, "mode": "markers"}
        seeds = go.Scatter(
            x=[number - 0.35 + 0.4 * place / max(1, len(runs) - 1) for place in range(len(runs))],
            y=accuracies,
            marker={"color": color, "size": 7, "symbol": ["circle" if run.learned else "x" for run in runs]},
            opacity=0.75,
            hovertemplate=[f"{_name(label, run)}: %{{y:.2f}}<extra></extra>" for run in runs],
            **group,
        )
        mean = go.Scatter(
            x=[number + 0.25],
            y=[found.mean],
            error_y=_error(found, color),
            marker={"color": color, "size": 9, "symbol": "diamond"},
            hovertemplate=f"{_plain(label)}, n = {found.n}: %{{y:.2f}}{_interval(found)}<extra></extra>",
            **group,
        )
        figure.add_traces([seeds, mean])
    _fit([figure], ends)
    figure.update_xaxes(showticklabels=False, showgrid=False, title="Mean and 95 % interval beside single seeds")
    return figure


def _fit(figures: list[go.Figure], heights: list[float]) -> None:
    """Give figures one axis that shows all these heights."""
    low, high = min(heights, default=0.0), max(heights, default=100.0)
    margin = 0.06 * (high - low) or 1.0
    for figure in figures:
        figure.update_yaxes(range=[low - margin, high + margin])


def _figure(metric: str, when: str = "") -> go.Figure:
    title = f"{MEASURED[metric]} {when}".strip()
    return go.Figure().update_layout(
        template="none",
        title={"text": title, "font": {"size": 15}, "x": 0.5, "y": 0.97},
        showlegend=False,
        margin={"l": 52, "r": 8, "t": 36, "b": 44},
        dragmode=False,  # a finger on a figure scrolls the page
        hoverlabel={"namelength": -1, "font": {"size": 12}},
        xaxis={"zeroline": False},
        yaxis={"title": f"{MAIN[metric.partition('/')[2]].capitalize()} %", "zeroline": False, "showspikes": False},
    )


def _name(label: str, run: Run) -> str:
    return f"{_plain(label)}, seed {run.result.seed}" + ("" if run.learned else ", did not learn")


def _plain(label: str) -> str:
    """Write a label so that plotly shows it as it is; it knows tags, links among them, and variables."""
    return html.escape(label, quote=False).replace("%{", "%&#123;")


def _error(found: Estimate, color: str) -> dict[str, Any] | None:
    ends = {"array": [found.high - found.mean], "arrayminus": [found.mean - found.low]}
    return {"symmetric": False, **ends, "color": color, "width": 0} if found.n > 1 else None


def _interval(found: Estimate) -> str:
    return f" [{found.low:.2f}, {found.high:.2f}]" if found.n > 1 else ""
