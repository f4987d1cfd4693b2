"""Tables of benchmarks, made from their JSON files."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from capsbench.data.files import written_atomically
from capsbench.data.reading import read_json
from capsbench.reports.costs import costs_table
from capsbench.reports.formats import NOTHING, emphasized, to_csv, to_latex, to_markdown
from capsbench.reports.measurements import DIRECTIONS, VOTES_ALONE, Measurements, find, keys_of
from capsbench.reports.paper import inference_ms, router_title
from capsbench.reports.speed_pictures import PICTURES

DEVICES = {"CPU": "cpu", "CUDA": "gpu"}
"""Keys of the paper's table 1."""
TIMED_BY_THE_AUTHORS = "capsnet_light"
NO_ROUTING = "no routing"
USUAL = {"size": 128, "pages": "dear"}
"""What a page shows of the layers in full."""


def _text(measurements: Measurements, digits: int, **wanted: Any) -> str:
    found = find(measurements, **wanted)
    return NOTHING if found is None else f"{found['median']:.{digits}f}"


def _varied(measurements: Measurements, at: Mapping[str, Any]) -> dict[str, str]:
    """The columns of what a benchmark was measured with several of: sizes of a batch, kinds of pages."""
    columns = {"Batch": "size", "Pages": "pages"}
    several = {title: field for title, field in columns.items() if len(keys_of(measurements, field)) > 1}
    return {title: NOTHING if at[field] is None else str(at[field]) for title, field in several.items()}


def _filled(rows: list[dict[str, str]]) -> pd.DataFrame:
    """Make a table without the columns that have nothing in any row: what an older benchmark did not measure."""
    table = pd.DataFrame(rows)
    return table.loc[:, (table != NOTHING).any()]


def layer_table(measurements: Measurements) -> pd.DataFrame:
    """Compare the plain implementation with the one that is chosen; a row per layer, batch, pages and router."""
    rows = []
    chosen = [one for one in measurements if one["implementation"] in ("auto", VOTES_ALONE)]
    for key in keys_of(chosen, *(fields := ("subject", "size", "pages", "router"))):
        wanted = dict(zip(fields, key, strict=True))
        router = wanted["router"]
        ways = ("plain", "auto") if router else (VOTES_ALONE,)

        def shown(digits: int, quantity: str, unit: str, way: str = ways[-1], at: Mapping[str, Any] = wanted) -> str:
            return _text(measurements, digits, implementation=way, quantity=quantity, unit=unit, **at)

        def both(digits: int, unit: str, shown: Callable[..., str] = shown) -> str:
            found = [shown(digits, direction, unit) for direction in DIRECTIONS]
            return NOTHING if set(found) == {NOTHING} else ", ".join(found)

        row = {"Layer": wanted["subject"], **_varied(chosen, wanted)}
        row["Router"] = router_title(router) if router else VOTES_ALONE
        for direction in DIRECTIONS:
            times = [
                _with_least(find(measurements, implementation=way, quantity=direction, unit="ms", **wanted))
                for way in ways
            ]
            row[f"{direction.capitalize()} ms: median (least), plain → ours"] = " → ".join(times)
            row[f"{direction.capitalize()}, ours ÷ plain"] = shown(2, direction, "÷ plain")
        row["Forward, ours ÷ votes alone"] = shown(2, "forward", "÷ votes alone")
        row["Ours ÷ einsum: forward, with backward"] = both(2, "÷ plain einsum")
        row["Ours ÷ floor: forward, with backward"] = both(1, "÷ arithmetic floor")
        row["Ours, GB/s: forward, with backward"] = both(2, "GB/s")
        memory = [shown(2, "extra memory", "÷ votes", way) for way in ways]
        row["Peak of extra memory ÷ votes, plain → ours"] = NOTHING if set(memory) == {NOTHING} else " → ".join(memory)
        row["Multiply-adds, M"] = shown(0, "multiply-adds of products", "M")
        row["On elements, M"] = shown(0, "operations on elements", "M")
        rows.append(row)
    return _filled(rows)


def ratios_table(measurements: Measurements) -> pd.DataFrame:
    """Time of the chosen implementation ÷ plain, forward and with backward; a column per size of a batch."""
    chosen = [one for one in measurements if one["implementation"] == "auto" and one["unit"] == "÷ plain"]
    rows = []
    for key in keys_of(chosen, *(fields := ("subject", "pages", "router"))):
        wanted = dict(zip(fields, key, strict=True))
        row = {
            "Layer": wanted["subject"],
            "Pages": wanted["pages"] or NOTHING,
            "Router": router_title(wanted["router"]),
        }
        for (size,) in keys_of(chosen, "size"):
            row[f"Batch {size}"] = ", ".join(
                _text(chosen, 2, quantity=direction, size=size, **wanted) for direction in DIRECTIONS
            )
        rows.append(row)
    return _filled(rows)


def layer_tables_of_a_page(measurements: Measurements) -> list[pd.DataFrame]:
    """The ratios at every size of a batch, and the whole table at one size with usual pages: see `USUAL`."""
    if len(keys_of([one for one in measurements if one["unit"] == "÷ plain"], "size")) < 2:
        return [layer_table(measurements)]
    at_one = [one for one in measurements if all(one.get(name) in (None, value) for name, value in USUAL.items())]
    return [ratios_table(measurements), layer_table(at_one)]


def _with_least(one: Mapping[str, Any] | None) -> str:
    return NOTHING if one is None else f"{one['median']:.1f} ({one['least']:.1f})"


def table1(measurements: Measurements) -> pd.DataFrame:
    """Compare our times with the paper's (GTX 1080 Ti, i7), and both with FM's; a row per network, data set and router.

    The paper's stand beside `capsnet_light` only, the network that its authors' code times.
    """
    rows = []
    times = [one for one in measurements if one["unit"] == "ms"]
    older = any(one["implementation"] is None for one in times)
    ways = {"Ours": (None, NO_ROUTING)} if older else {"Plain": ("plain", NO_ROUTING), "Fused": ("fused",)}
    words = "median (least to most)" if older else "mean (least, median)"
    for one in times:
        if one["implementation"] == "fused":
            continue  # beside the plain one
        network, _, data = one["subject"].rpartition(", ")
        at = {name: one[name] for name in ("subject", "device", "router")}
        row = {
            "Network": network or "capsnet",  # which older files do not name
            "Data": f"{data}, {one['device']}",
            "Router": router_title(one["router"]) if one["router"] else NO_ROUTING,
        }
        for title, kinds in ways.items():
            found = next((other for kind in kinds if (other := find(times, implementation=kind, **at))), None)
            way = found and found["implementation"]
            row[f"{title} ms: {words}"] = NOTHING if found is None else _spread(found)
            to_fm = _text(measurements, 2, **at, implementation=way, unit="÷ FM")
            row[f"{title} ÷ FM"] = "1.00" if found is not None and one["router"] == "fm" else to_fm
        paper = inference_ms()[data][DEVICES[one["device"]]] if network == TIMED_BY_THE_AUTHORS else {}
        theirs = paper.get(one["router"])
        row["Paper ms"] = NOTHING if theirs is None else f"{theirs:.2f}"
        row["Paper ÷ FM"] = NOTHING if theirs is None else f"{theirs / paper['fm']:.2f}"
        rows.append(row)
    return _filled(rows)


def _spread(one: Mapping[str, Any]) -> str:
    """Milliseconds and their spread; files without a mean are older."""
    if one.get("mean") is None:
        return f"{one['median']:.2f} ({one['least']:.2f} to {one['most']:.2f})"
    return f"{one['mean']:.2f} ({one['least']:.2f}, {one['median']:.2f})"


def train_table(measurements: Measurements) -> pd.DataFrame:
    """Compare implementations in images per second; a row per network, batch, pages and router."""
    rows = []
    routed = [one for one in measurements if one["router"]]
    for key in keys_of(routed, *(fields := ("subject", "size", "pages", "router"))):
        wanted = dict(zip(fields, key, strict=True))

        def shown(way: str, digits: int, unit: str, what: str = "training", at: Mapping[str, Any] = wanted) -> str:
            return _text(measurements, digits, implementation=way, unit=unit, quantity=what, **at)

        def rates(what: str, shown: Callable[..., str] = shown) -> str:
            found = [shown(way, 0, "images/s", what) for way in ("plain", "ours")]
            return NOTHING if set(found) == {NOTHING} else " → ".join(found)

        rows.append(
            {
                "Network": wanted["subject"],
                **_varied(routed, wanted),
                "Router": router_title(wanted["router"]),
                "Images/s, plain → ours": rates("training"),
                "Step, ours ÷ no routing": shown("ours", 2, f"÷ {NO_ROUTING}", "training step"),
                "Ours, times as fast": shown("ours", 2, "times as fast as plain"),
                "Ours, times as fast as einsum": shown("ours", 2, "times as fast as plain einsum"),
                "Compiled, times as fast": shown("ours compiled", 2, "times as fast as plain"),
                "Lightning ÷ bare loop": shown("ours in Lightning", 2, "times as fast as ours"),
                "Inference: images/s, plain → ours": rates("inference"),
                "Inference: ours, times as fast": shown("ours", 2, "times as fast as plain", "inference"),
                "Inference: ours, times as fast as einsum": shown(
                    "ours", 2, "times as fast as plain einsum", "inference"
                ),
            }
        )
    return _filled(rows)


def contention_table(measurements: Measurements) -> pd.DataFrame:
    """Compare a training step alone and beside busy processes; a row per rule of how idle threads wait."""
    companies = dict.fromkeys(one["size"] for one in measurements)
    titles = {size: f"Beside {size} busy processes, ms" if size else "Alone, ms" for size in companies}
    rows = []
    for rule in dict.fromkeys(one["implementation"] for one in measurements):
        row = {"Threads": rule}
        for size, title in titles.items():
            one = find(measurements, implementation=rule, size=size)
            row[title] = NOTHING if one is None else f"{one['median']:,.0f} ({one['least']:,.0f} to {one['most']:,.0f})"
        rows.append(row)
    return pd.DataFrame(rows)


def hours_table(measurements: Measurements) -> pd.DataFrame:
    """Tabulate the hours of each experiment's runs, one after the other, and of all."""
    hours = [one for one in measurements if one["unit"] == "h"]
    rows = []
    for whole in (one for one in hours if one["router"] is None):
        name = whole["subject"]
        parts = [one for one in hours if one["router"] and one["subject"].startswith(f"{name}, ")]
        runs = sum(one["size"] for one in parts or hours if one["router"])
        rows.append({"Experiment": name, "Runs": f"{runs:,}", "Hours": f"{whole['median']:,.0f}"})
    return pd.DataFrame(rows)


TABLES: dict[str, tuple[str, Callable[[Measurements], pd.DataFrame]]] = {
    "contention": ("Milliseconds of a training step, alone and beside other work", contention_table),
    "layer": ("Capsule layers: all votes stored, and as the layer chooses", layer_table),
    "paper": ("Hours of each experiment of the paper", hours_table),
    "systems": ("What systems cost, per image of a forward pass and per batch", costs_table),
    "table1": ("Table 1: milliseconds per batch", table1),
    "train": ("Images per second of training", train_table),
}
"""Title and table of each benchmark that has one."""

PAGES: dict[str, Callable[[Measurements], list[pd.DataFrame]]] = {"layer": layer_tables_of_a_page}
"""Shorter tables of those whose own is too long for a page."""


def write_benchmark(record: Mapping[str, Any], folder: Path) -> None:
    """Write NAME.json of a benchmark into a folder, and its table and picture where it has them.

    Args:
        record: "schema", "benchmark" (its name), "settings", "measurements", "devices" and "versions".
        folder: that exists.
    """
    name, measurements = record["benchmark"], record["measurements"]
    with written_atomically(folder / f"{name}.json") as path:
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if name in TABLES:
        title, make = TABLES[name]
        table = make(measurements)
        texts = {"md": to_markdown(table), "tex": to_latex(table, title), "csv": to_csv(table)}
        for ending, text in texts.items():
            with written_atomically(folder / f"{name}.{ending}") as path:
                path.write_text(text, encoding="utf-8")
    for draw in PICTURES.get(name, ()):
        draw(measurements, folder)


def benchmark_markdown(path: Path) -> str:
    """Return what a page shows of a benchmark's JSON file; below it the machine, its load, versions and repetitions.

    Raises:
        ValueError: the benchmark has no table, or the file is of an older schema.
    """
    record = read_json(path)
    name = record["benchmark"]
    if name not in TABLES:
        raise ValueError(f"{path} is of the benchmark {name}; there are tables for {', '.join(TABLES)}")
    if "measurements" not in record:
        raise ValueError(f"{path} was written by an older version; run capsbench benchmark {name} again")
    measurements = record["measurements"]
    shown = PAGES[name](measurements) if name in PAGES else [TABLES[name][1](measurements)]
    load = record.get("load")
    averages = "means" if name == "table1" and measurements[0].get("mean") is not None else "medians"
    how = [
        f"{averages} of {record['settings']['repetitions']} repetitions in turn, torch {record['versions']['torch']}"
    ]
    if load is not None:
        how.append(f"load of the machine {load['before']} before and {load['after']} after, {load['cores']} cores")
    tables = "\n".join(map(to_markdown, shown))
    return f"{tables}\n{emphasized('; '.join([*record['devices'], *how]) + '.')}"
