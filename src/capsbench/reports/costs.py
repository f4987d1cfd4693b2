"""What systems cost, from `capsbench benchmark systems`: a table, and the time of a training step."""

import functools
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from capsbench.data.reading import read_json
from capsbench.reports.formats import NOTHING
from capsbench.reports.paper import router_title

COLUMNS = {
    "Multiply-adds, M": ("multiply-adds", "M", 1),
    "On elements, M": ("operations on elements", "M", 1),
    "Votes": ("votes", "M", 0),
    "Peak memory, MB": ("peak memory", "MB", 0),
    "Step, ms": ("training step", "ms", 1),
    "Step ÷ resnet": ("training step", "÷ resnet", 2),
    "Evaluation, ms": ("evaluation", "ms", 1),
}
"""Quantity, unit and digits of each column of numbers."""


class Theirs(NamedTuple):
    """How many parameters a paper prints for a network with its router, of which input, and where."""

    router: str
    parameters: str
    of: str
    source: str


def their_parameters(arch: str, router: str) -> Theirs | None:
    """Return what a paper says of the number of parameters; None where none does.

    Args:
        arch, router: names in conf/.
    """
    found = _theirs().get(arch)
    return found if found is not None and found.router == router else None


@functools.cache
def _theirs() -> Mapping[str, Theirs]:
    text = files("capsbench.reports").joinpath("systems.yaml").read_text(encoding="utf-8")
    return {arch: Theirs(**told) for arch, told in yaml.safe_load(text).items()}


def costs_table(measurements: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Tabulate what systems cost, a row for each; the benchmark's docstring says what is measured.

    Args:
        measurements: of the benchmark's file.
    """
    rows = []
    for subject, router in dict.fromkeys((one["subject"], one["router"]) for one in measurements):
        found = {
            (one["quantity"], one["unit"]): one
            for one in measurements
            if (one["subject"], one["router"]) == (subject, router)
        }
        arch, _, data = subject.rpartition(", ")
        theirs = their_parameters(arch, router)
        row = {"Network": arch, "Data": data, "Router": router_title(router)}
        row["Parameters"] = f"{found['parameters', 'parameters']['median']:,.0f}"
        row["Theirs"] = f"{theirs.parameters} ({theirs.of})" if theirs else NOTHING
        for title, (quantity, unit, digits) in COLUMNS.items():
            row[title] = _text(found.get((quantity, unit)), digits, with_least=unit == "ms")
        rows.append(row)
    table = pd.DataFrame(rows)
    table = table.loc[:, (table != NOTHING).any()]
    return table if table["Data"].nunique() > 1 else table.drop(columns="Data")


def _text(one: Mapping[str, Any] | None, digits: int, *, with_least: bool) -> str:
    if one is None:
        return NOTHING
    if one["quantity"] == "votes":
        return f"{1e6 * one['median']:,.0f}"
    least = f" ({one['least']:,.{digits}f})" if with_least else ""
    return f"{one['median']:,.{digits}f}{least}"


def sources(systems: Sequence[tuple[str, str]]) -> str:
    """Say where the numbers of parameters that are not ours come from, by network and router; "" if there are none."""
    found = {arch: theirs for arch, router in systems if (theirs := their_parameters(arch, router))}
    return "; ".join(f"{arch} on {theirs.of} ({theirs.source})" for arch, theirs in found.items())


class Costs(NamedTuple):
    """What a benchmark of systems measured.

    Attributes:
        measurements: as its file has them.
        milliseconds: the median time of a training step, by network, data set and router.
        batch_size: of the step.
        how: the device, the repetitions and the machine's load, in words.
    """

    measurements: Sequence[Mapping[str, Any]]
    milliseconds: Mapping[tuple[str, str, str], float]
    batch_size: int
    how: str


def read_costs(outputs: Path) -> Costs | None:
    """Read what `capsbench benchmark systems` measured; None where it was not run.

    Args:
        outputs: that the benchmark wrote to.

    Raises:
        ValueError: the file holds something else.
    """
    path = outputs / "benchmarks" / "systems.json"
    try:
        record = read_json(path)
        load = record["load"]
        milliseconds = {
            (*one["subject"].rsplit(", ", 1), one["router"]): float(one["median"])
            for one in record["measurements"]
            if (one["quantity"], one["unit"]) == ("training step", "ms")
        }
        how = (
            f"{'; '.join(record['devices'])}; medians of {record['settings']['repetitions']}, batch "
            f"{record['settings']['batch']}; load of the machine {load['before']} before and {load['after']} "
            f"after, {load['cores']} cores"
        )
        return Costs(record["measurements"], milliseconds, int(record["settings"]["batch"]), how)
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not what capsbench benchmark systems wrote; run it again") from error
