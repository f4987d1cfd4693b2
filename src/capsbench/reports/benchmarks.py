"""Pictures and tables of benchmarks."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from capsbench.benchmarks.table1 import NO_ROUTING, ROUTERS, SHAPES
from capsbench.reports.formats import to_latex, to_markdown
from capsbench.reports.paper import inference_ms

CHOICES = {"dynamic(1)": "dynamic1", "dynamic(3)": "dynamic", "FM": "fm"}
"""What the paper's numbers are filed under."""
MISSING = "–"
DEVICES = {"CPU": "cpu", "CUDA": "gpu"}

POINT = re.compile(r"(?P<varied>\w+) = (?P<size>\d+), (?P<router>.+): ms")
TRAINING = re.compile(r"(?P<network>.+), (?P<router>.+), plain: images/s")
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


def table1(measured: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """One row per set, device and router: ours, the paper's (GTX 1080 Ti, i7), and both divided by FM's.

    Args:
        measured: what `benchmark_table1` returns.
    """
    rows = []
    for data in SHAPES:
        for device, kind in DEVICES.items():
            theirs = inference_ms()[data][kind]
            for router in (*ROUTERS, NO_ROUTING):
                ours = measured.get(f"{data}, {device}, {router}: ms")
                if ours is None:
                    continue
                ratio = measured.get(f"{data}, {device}, {router} ÷ FM", {"median": 1.0})["median"]
                paper = theirs[CHOICES[router]] if router in CHOICES else None
                rows.append(
                    {
                        "Data": f"{data}, {device}",
                        "Router": router,
                        "Ours ms": f"{ours['median']:.2f} ({ours['least']:.2f} to {ours['most']:.2f})",
                        "Paper ms": MISSING if paper is None else f"{paper:.2f}",
                        "Ours ÷ FM": f"{ratio:.2f}",
                        "Paper ÷ FM": MISSING if paper is None else f"{paper / theirs['fm']:.2f}",
                    }
                )
    return pd.DataFrame(rows)


def layer_table(measured: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """One row per layer and router: the plain implementation and the one that is chosen, in time and memory."""

    def ratio(name: str) -> str:
        return f"{measured[name]['median']:.2f}"

    rows = []
    for found in filter(None, map(LAYER.fullmatch, measured)):
        if found["implementation"] == "auto":
            way = f"{found['shape']}, {found['router']}"
            row = {"Layer": found["shape"], "Router": found["router"]}
            for direction in ("forward", "forward and backward"):
                plain, ours = (measured[f"{way} {kind}, {direction}: ms"]["median"] for kind in ("plain", "auto"))
                row[f"{direction.capitalize()} ms, plain → ours"] = f"{plain:.1f} → {ours:.1f}"
                row[f"{direction.capitalize()}, ours ÷ plain"] = ratio(f"{way} auto ÷ plain, {direction}")
            row["Forward, ours ÷ votes alone"] = ratio(f"{way} auto ÷ votes alone, forward")
            memory = [ratio(f"{way} {kind}: extra memory ÷ votes, training") for kind in ("plain", "auto")]
            row["Extra memory ÷ votes, plain → ours"] = " → ".join(memory)
            rows.append(row)
    return pd.DataFrame(rows)


def train_table(measured: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """One row per network and router: images per second of training, and how the ways of training compare."""
    rows = []
    for found in filter(None, map(TRAINING.fullmatch, measured)):
        way = f"{found['network']}, {found['router']}"
        compiled = measured.get(f"{way}, ours compiled: times as fast as plain")
        rows.append(
            {
                "Network": found["network"],
                "Router": found["router"],
                "Images/s, plain → ours": " → ".join(
                    f"{measured[f'{way}, {kind}: images/s']['median']:.0f}" for kind in ("plain", "ours")
                ),
                "Ours, times as fast": f"{measured[f'{way}, ours: times as fast as plain']['median']:.2f}",
                "Compiled, times as fast": "–" if compiled is None else f"{compiled['median']:.2f}",
                "Lightning ÷ bare loop": f"{measured[f'{way}, Lightning ÷ bare loop, images/s']['median']:.2f}",
            }
        )
    return pd.DataFrame(rows)


TABLES: dict[str, tuple[str, Callable[[Mapping[str, Mapping[str, float]]], pd.DataFrame]]] = {
    "layer": ("Capsule layers in training", layer_table),
    "table1": ("Table 1: milliseconds per batch", table1),
    "train": ("Images per second of training", train_table),
}
"""Title and table of the benchmarks that have one."""


def write_benchmark_table(name: str, measured: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """Write NAME.md, NAME.tex and NAME.csv of a benchmark that has a table into a folder."""
    title, make = TABLES[name]
    table = make(measured)
    (folder / f"{name}.md").write_text(to_markdown(table), encoding="utf-8")
    (folder / f"{name}.tex").write_text(to_latex(table, title), encoding="utf-8")
    table.to_csv(folder / f"{name}.csv", index=False)


def benchmark_markdown(path: Path) -> str:
    """The table of a benchmark's JSON file and under it the machine, the versions and how often it was measured.

    Raises:
        ValueError: there is no table for the benchmark.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["benchmark"] not in TABLES:
        raise ValueError(f"{path} is of the benchmark {record['benchmark']}; there are tables for {', '.join(TABLES)}")
    _, make = TABLES[record["benchmark"]]
    how = f"medians of {record['settings']['repetitions']} repetitions in turn, torch {record['versions']['torch']}"
    return f"{to_markdown(make(record['measured']))}\n*{'; '.join(record['devices'])}; {how}.*\n"
