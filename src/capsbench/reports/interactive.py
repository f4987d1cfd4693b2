"""Interactive training curves, drawn in the page by plotly."""

from collections.abc import Mapping

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from capsbench.reports.comparison import Panel
from capsbench.reports.figures import in_order, measured, seeds_per_epoch
from capsbench.reports.runs import Run

CONFIG = {"responsive": True, "displaylogo": False, "displayModeBar": False, "scrollZoom": False}


def plotly_source() -> str:
    """Return plotly.js, which a page needs once, before its first figure."""
    return get_plotlyjs()


def curves(panel: Panel, palette: Mapping[str, str], name: str) -> list[str]:
    """Draw accuracy per epoch in training and in test, as one <div> each.

    The label of a curve and its band is their legend group, by which the page's buttons show and hide them. The page
    sets the colours of text and grid.

    Args:
        panel: its conditions are drawn.
        palette: a colour for each label.
        name: a prefix of the elements' ids, unique in the page.
    """
    figures = [_figure(panel, metric, title, palette) for metric, title in measured(panel).items()]
    heights = [height for figure in figures for trace in figure.data for height in trace.y]
    low, high = min(heights, default=0.0), max(heights, default=100.0)
    margin = 0.03 * (high - low) or 1.0
    for figure in figures:
        figure.update_yaxes(range=[low - margin, high + margin])
    return [
        figure.to_html(
            full_html=False, include_plotlyjs=False, config=CONFIG, div_id=f"{name}-{number}", default_height="22rem"
        )
        for number, figure in enumerate(figures)
    ]


def _figure(panel: Panel, metric: str, title: str, palette: Mapping[str, str]) -> go.Figure:
    figure = go.Figure()
    for label, runs in in_order(panel):
        figure.add_traces(_traces(label, runs, metric, palette[label]))
    figure.update_layout(
        template="none",
        title={"text": title, "font": {"size": 15}, "x": 0.5, "y": 0.97},
        showlegend=False,
        hovermode="x unified",
        margin={"l": 52, "r": 8, "t": 36, "b": 44},
        dragmode=False,  # a finger on a figure scrolls the page
        hoverlabel={"namelength": -1, "font": {"size": 12}},
        xaxis={"title": "Epoch", "zeroline": False, "spikethickness": 1, "unifiedhovertitle": {"text": "Epoch %{x}"}},
        yaxis={"title": "Accuracy %", "zeroline": False, "showspikes": False},
    )
    return figure


def _traces(label: str, runs: list[Run], metric: str, color: str) -> list[go.Scatter]:
    """The band over seeds, and the mean over it; hovering shows both."""
    seeds = seeds_per_epoch(runs, metric)
    epochs, low, high = seeds.index.tolist(), seeds.min(axis=1), seeds.max(axis=1)
    band = go.Scatter(
        x=epochs + epochs[::-1],
        y=[*high.tolist(), *low.tolist()[::-1]],
        fill="toself",
        fillcolor=_transparent(color),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        legendgroup=label,
    )
    spread = " (%{customdata[0]:.2f} – %{customdata[1]:.2f})" if len(runs) > 1 else ""
    mean = go.Scatter(
        x=epochs,
        y=seeds.mean(axis=1).tolist(),
        customdata=[list(ends) for ends in zip(low, high, strict=True)],
        hovertemplate="%{y:.2f}" + spread,
        line={"color": color, "width": 2},
        mode="lines" if len(epochs) > 1 else "markers",
        name=label,
        legendgroup=label,
    )
    return [band, mean]


def _transparent(color: str) -> str:
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.2)"
