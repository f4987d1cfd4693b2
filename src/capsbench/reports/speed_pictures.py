"""Pictures of benchmarks, made from their JSON files."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from capsbench.data.files import written_atomically
from capsbench.reports.figures import legend_below, palette
from capsbench.reports.measurements import DIRECTIONS, VOTES_ALONE, Measurements, find, keys_of
from capsbench.reports.paper import router_title

PICTURED_BATCH = 128
"""Of several sizes of a batch, pictures of layers show this, or else the largest."""
WAYS: dict[str, tuple[Literal["none", "full"], str]] = {
    "plain": ("none", "plain"),
    "auto": ("full", "ours"),
    VOTES_ALONE: ("full", VOTES_ALONE),
}
"""How the marker of an implementation is filled, and what it is called."""
BLACK = "0"
_BELOW: dict[str, Any] = {"textcoords": "offset points", "va": "top", "fontsize": "small"}


def draw_scaling(measurements: Measurements, folder: Path) -> None:
    """Draw scaling.png: milliseconds of each router against children, parents and batch, on logarithmic axes."""
    varied = list(dict.fromkeys(one["subject"] for one in measurements))
    figure = Figure(figsize=(4 * len(varied), 3.6), layout="constrained")
    handles: dict[str, Any] = {}
    for axes, subject in zip(figure.subplots(1, len(varied), squeeze=False)[0], varied, strict=True):
        points = pd.DataFrame([one for one in measurements if one["subject"] == subject])
        for router, curve in points.groupby("router", sort=False):
            (handles[router_title(str(router))],) = axes.plot(curve["size"], curve["median"], marker="o")
            axes.fill_between(curve["size"], curve["least"], curve["most"], alpha=0.2)
        reference = points[points["router"].isna()]
        if len(reference):
            line = axes.plot(reference["size"], reference["median"], color="0.5", linestyle="dashed")
            handles[VOTES_ALONE] = line[0]
        axes.set(xlabel=subject, ylabel="ms, forward and backward", xscale="log", yscale="log")
        sizes = sorted(set(points["size"]))
        axes.set_xticks(sizes, labels=[f"{size:,}" for size in sizes])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter(LogFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))  # where there is room
    legend_below(figure, handles)
    _save(figure, folder / "scaling.png")


def draw_layer(measurements: Measurements, folder: Path) -> None:
    """Draw layer.png: milliseconds of each router and implementation; a row per kind of pages, a column per layer."""
    timed = [one for one in _pictured(measurements) if (one["quantity"], one["unit"]) == (DIRECTIONS[1], "ms")]
    both = pd.DataFrame([one for one in timed if one["router"]])
    both["pages"] = both["pages"].fillna("") if "pages" in both else ""
    panels = both.groupby(["pages", "subject"], sort=False)
    shape = both["pages"].nunique(), both["subject"].nunique()
    figure = Figure(figsize=(4.5 * shape[1], 3.6 * shape[0]), layout="constrained")
    for axes, ((pages, layer), bars) in zip(figure.subplots(*shape, squeeze=False).flat, panels, strict=True):
        routers, ways = bars["router"].unique(), bars["implementation"].unique()
        width = 0.8 / len(ways)
        for number, way in enumerate(ways):
            spread = bars[bars["implementation"] == way].set_index("router").reindex(routers)
            errors = [spread["median"] - spread["least"], spread["most"] - spread["median"]]
            places = [place + number * width for place in range(len(routers))]
            axes.bar(places, spread["median"], width, yerr=errors, label=way)
        axes.set_xticks([place + width for place in range(len(routers))], [router_title(one) for one in routers])
        axes.set(title=_panel({"subject": layer, "pages": pages}), ylabel="ms, forward and backward")
        axes.legend()
    _save(figure, folder / "layer.png")


def draw_roofline(measurements: Measurements, folder: Path) -> None:
    """Draw roofline.png: operations per second of each router, plain and ours, against operations per byte.

    There are two rows per kind of pages, forward and with the backward pass, and a column per layer. The roofs are the
    speeds of a copy and of a matrix product in the same benchmark. Bytes are those that must move, the same for both
    implementations. An older file has none, and gets no picture.

    Source: Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model", CACM 52(4).
    """
    shown = _pictured(measurements)
    works = [one for one in shown if one["unit"] == "M operations"]
    layers, kinds = ([key for (key,) in keys_of(works, field)] for field in ("subject", "pages"))
    if not layers:
        return
    colors = palette(one["router"] for one in works if one["router"])
    lines = list(itertools.product(kinds, DIRECTIONS))
    figure = Figure(figsize=(4.5 * len(layers), 3.4 * len(lines)), layout="constrained")
    grid = figure.subplots(len(lines), len(layers), squeeze=False, sharex="col", sharey=True)
    for row, (pages, direction) in zip(grid, lines, strict=True):
        for axes, subject in zip(row, layers, strict=True):
            at = {"subject": subject, "pages": pages}
            _draw_roof(axes, shown, direction, at, colors)
            axes.set_title(f"{_panel(at)}:\n{direction}", fontsize="medium")
    for axes in grid[-1]:
        axes.set_xlabel("operations per byte that must move")
    for axes in grid[:, 0]:
        axes.set_ylabel("GFLOP/s")
    ways = [(fill, title) for way, (fill, title) in WAYS.items() if way != VOTES_ALONE]
    handles = {
        **{router_title(router): Line2D([], [], color=color, marker="o") for router, color in colors.items()},
        VOTES_ALONE: Line2D([], [], color=BLACK, marker="s", linestyle="none"),
        **{title: Line2D([], [], color="0", marker="o", fillstyle=fill, linestyle="none") for fill, title in ways},
    }
    legend_below(figure, handles)
    _save(figure, folder / "roofline.png")


def _draw_roof(
    axes: Axes, shown: Measurements, direction: str, at: Mapping[str, Any], colors: Mapping[str, str]
) -> None:
    """Draw the roofs and the points of a layer in one direction."""
    bandwidth, rate = (
        found["median"] if (found := find(shown, quantity=quantity, pages=at["pages"])) else np.nan
        for quantity in ("bandwidth", "rate")
    )
    ridge = right = rate / bandwidth
    for router in (None, *colors):
        wanted = {**at, "router": router, "quantity": direction}
        work, moved = (find(shown, unit=unit, **wanted) for unit in ("M operations", "MB that must move"))
        if work is None or moved is None:
            continue
        color, marker = (BLACK, "s") if router is None else (colors[router], "o")
        intensity = work["median"] / moved["median"]
        right = max(right, intensity)
        times = {way: find(shown, unit="ms", implementation=way, **wanted) for way in WAYS}
        speeds = {way: work["median"] / one["median"] for way, one in times.items() if one is not None}
        axes.plot([intensity] * len(speeds), list(speeds.values()), color=color, linewidth=1)
        for way, speed in speeds.items():
            axes.plot(intensity, speed, marker, color=color, fillstyle=WAYS[way][0], zorder=3)
    reach = np.geomspace(ridge / 8, 2 * right, 100)
    axes.plot(reach, np.minimum(bandwidth * reach, rate), color="0", linewidth=1.5)
    axes.annotate(f"matrix product\n{rate:,.0f} GFLOP/s", (reach[-1], rate), (0, -3), **_BELOW, ha="right")
    axes.annotate(f"copy {bandwidth:,.1f} GB/s", (ridge / 3, rate / 3), (6, 0), **_BELOW, ha="left")
    axes.set(xscale="log", yscale="log")
    axes.grid(which="major", linewidth=0.4, alpha=0.5)


def _pictured(measurements: Measurements) -> Measurements:
    """Leave out all sizes of a batch but one."""
    sizes = {size for one in measurements if (size := one.get("size")) is not None}
    if not sizes:
        return measurements
    size = PICTURED_BATCH if PICTURED_BATCH in sizes else max(sizes)
    return [one for one in measurements if one.get("size") in (None, size)]


def _panel(one: Mapping[str, Any]) -> str:
    return f"{one['subject']}, {one['pages']} pages" if one.get("pages") else str(one["subject"])


PICTURES: dict[str, tuple[Callable[[Measurements, Path], None], ...]] = {
    "layer": (draw_layer, draw_roofline),
    "scaling": (draw_scaling,),
}
"""What draws the pictures of each benchmark that has some."""


def _save(figure: Figure, path: Path) -> None:
    with written_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
