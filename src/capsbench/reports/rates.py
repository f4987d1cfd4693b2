"""The learning rate of each system, chosen by validation accuracy: never by the test set."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from capsbench.reports.cells import Table
from capsbench.reports.comparison import Comparison
from capsbench.reports.formats import NOTHING, estimate_text
from capsbench.reports.labels import described
from capsbench.reports.paper import router_title
from capsbench.reports.protocol import flat
from capsbench.reports.runs import VALIDATION, Run, accuracies
from capsbench.reports.statistics import estimate_accuracy

RATE = "optim.optimizer.lr"
ENDING = "_rates"
"""Of the name of an experiment that chooses the rates of another."""


class System(NamedTuple):
    """A network with its router, on one data set."""

    data: str
    arch: str
    router: str

    @classmethod
    def of(cls, run: Run) -> "System":
        """The system of a run, by names."""
        return cls(run.result.data, run.result.arch, run.result.router)


def rate_of(run: Run) -> float:
    """The learning rate of a run."""
    rate: float = flat(run.result.settings)[RATE]
    return rate


def by_rate(runs: Sequence[Run]) -> dict[System, dict[float, list[Run]]]:
    """Sort runs with a validation split by system and rate, rates by size."""
    found: dict[System, dict[float, list[Run]]] = {}
    for run in sorted(
        (run for run in runs if run.metric == VALIDATION and RATE in flat(run.result.settings)), key=rate_of
    ):
        found.setdefault(System.of(run), {}).setdefault(rate_of(run), []).append(run)
    return found


def best(rates: dict[float, list[Run]]) -> float:
    """Choose the rate of the largest mean validation accuracy; of equal ones the smaller.

    A rate counts that finished as many seeds as any.
    """
    most = max(map(len, rates.values()))
    return max(
        (rate for rate, runs in rates.items() if len(runs) == most),
        key=lambda rate: (accuracies(rates[rate]).mean(), -rate),
    )


def rates_table(comparison: Comparison) -> Table | None:
    """Tabulate validation accuracy by rate, a row for each system, and which is best.

    None if no rate varies, or more than the rate does in a system.
    """
    runs = [run for run in comparison.runs if run.metric == VALIDATION]
    found = {system: rates for system, rates in by_rate(runs).items() if len(rates) > 1}
    if not found or comparison.target is not None or any(map(_vary, found.values())):
        return None
    rows = []
    for system, rates in found.items():
        row = {"Network": system.arch, "Data": system.data, "Router": router_title(system.router)}
        for rate in sorted({rate for each in found.values() for rate in each}):
            tried = rates.get(rate, [])
            row[f"Rate {rate:g}"] = estimate_text(estimate_accuracy(accuracies(tried))) if tried else NOTHING
        seeds = sorted({len(runs) for runs in rates.values()})
        rows.append(row | {"n": " to ".join(map(str, seeds)), "Best rate": f"{best(rates):g}"})
    frame = pd.DataFrame(rows)
    frame = frame if frame["Data"].nunique() > 1 else frame.drop(columns="Data")
    held = {run.result.settings["data"].get("val_fraction") for run in runs}
    share = held.pop() if len(held) == 1 else None
    part = f"{share:.0%} of the training images" if share else "the validation split"
    return Table(
        frame,
        f"Validation accuracy % after the last epoch, on {part}, by learning rate; mean over n seeds. Best: the "
        "largest mean; of equal ones the smaller rate. The test set was not read.",
    )


def _vary(rates: dict[float, list[Run]]) -> bool:
    """Whether runs of one system differ in more than rate and seed."""
    settings = [described(run.result) for runs in rates.values() for run in runs]
    return len({tuple(sorted((key, value) for key, value in each.items() if key != RATE)) for each in settings}) > 1
