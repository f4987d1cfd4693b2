"""Pictures of benchmarks."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

POINT = re.compile(r"(?P<varied>\w+) = (?P<size>\d+), (?P<router>.+): ms")
LAYER = re.compile(r"(?P<shape>.+), (?P<router>\S+) (?P<implementation>plain|fused|auto), forward and backward: ms")


def draw_scaling(measured: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """scaling.png: milliseconds of each router against children, parents and batch, on logarithmic axes."""
    curves: dict[str, dict[str, list[tuple[int, Mapping[str, float]]]]] = defaultdict(lambda: defaultdict(list))
    for name, values in measured.items():
        if found := POINT.fullmatch(name):
            curves[found["varied"]][found["router"]].append((int(found["size"]), values))
    figure = Figure(figsize=(4 * len(curves), 3.6), layout="constrained")
    for axes, (varied, routers) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for router, points in routers.items():
            sizes = [size for size, _ in points]
            axes.plot(sizes, [values["median"] for _, values in points], marker="o", label=router)
            axes.fill_between(
                sizes, [values["least"] for _, values in points], [values["most"] for _, values in points], alpha=0.2
            )
        axes.set(xlabel=varied, ylabel="ms, forward and backward", xscale="log", yscale="log")
        axes.legend()
    figure.savefig(folder / "scaling.png", dpi=150)


def draw_layer(measured: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """layer.png: milliseconds of each router and implementation, one panel for each shape."""
    bars: dict[str, dict[tuple[str, str], Mapping[str, float]]] = defaultdict(dict)
    for name, values in measured.items():
        if found := LAYER.fullmatch(name):
            bars[found["shape"]][found["router"], found["implementation"]] = values
    figure = Figure(figsize=(4.5 * len(bars), 3.6), layout="constrained")
    for axes, (shape, ways) in zip(figure.subplots(1, len(bars), squeeze=False)[0], bars.items(), strict=True):
        routers = list(dict.fromkeys(router for router, _ in ways))
        implementations = list(dict.fromkeys(implementation for _, implementation in ways))
        width = 0.8 / len(implementations)
        for number, implementation in enumerate(implementations):
            spreads = [ways[router, implementation] for router in routers]
            medians = [spread["median"] for spread in spreads]
            errors = [
                [spread["median"] - spread["least"] for spread in spreads],
                [spread["most"] - spread["median"] for spread in spreads],
            ]
            places = [place + number * width for place in range(len(routers))]
            axes.bar(places, medians, width, yerr=errors, label=implementation)
        axes.set_xticks([place + width for place in range(len(routers))], routers)
        axes.set(title=shape, ylabel="ms, forward and backward")
        axes.legend()
    figure.savefig(folder / "layer.png", dpi=150)
