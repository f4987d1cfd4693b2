"""A panel's runs by the settings that vary in them, beside router and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from capsbench.reports.conditions import COMPARED_WITH, Panel
from capsbench.reports.labels import differences, short_names
from capsbench.reports.paper import router_title
from capsbench.reports.runs import Run

ROUTER, SEED, ACCURACY, LEARNED = "router", "seed", "accuracy", "learned"
"""Columns beside those of the settings."""
JOINED = 3
"""How many settings that vary together are named."""


@dataclass(frozen=True)
class Sweep:
    """A panel's runs in a table.

    Attributes:
        runs: a row for each run: router (its title), seed, accuracy (in percent), whether it learned, and a column for
            each setting that varies, as text; missing where a run has no such setting.
        crashed: the same of runs that failed, without accuracy.
        settings: the names of these columns.
    """

    runs: pd.DataFrame
    crashed: pd.DataFrame
    settings: tuple[str, ...]

    @classmethod
    def of(cls, panel: Panel) -> "Sweep":
        """Tabulate the runs of a panel, in the order of levels and seeds."""
        runs = [run for condition in panel.conditions for run in condition.runs]
        titles = [condition.title for condition in panel.conditions for _ in condition.runs]
        told = outcomes(runs).assign(**{ROUTER: titles})
        found = pd.DataFrame([each.all for each in differences(runs)], dtype=object)
        varying = found.loc[:, found.nunique() > 1]
        names = short_names(condition.settings for condition in panel.conditions)
        groups = _together(varying)
        settings = _joined(varying, groups, names)
        lost = [(one, seed) for one in (*panel.conditions, *panel.lost) for seed in one.crashed]
        crashed = pd.DataFrame({ROUTER: [one.title for one, _ in lost], SEED: [seed for _, seed in lost]})
        levels = pd.DataFrame([one.settings for one, _ in lost], crashed.index, dtype=object)
        crashed = crashed.join(_joined(levels.reindex(columns=varying.columns), groups, names))
        shown = told.join(settings).sort_values([*settings, SEED], key=_ranks)
        return cls(shown, crashed, tuple(settings.columns))

    @property
    def that_learned(self) -> "Sweep":
        """Only the runs that learned."""
        return replace(self, runs=self.runs[self.runs[LEARNED]])

    def of_router(self, router: str) -> "Sweep":
        """Only the runs of a router, by its title."""
        runs, crashed = (each[each[ROUTER] == router] for each in (self.runs, self.crashed))
        return replace(self, runs=runs, crashed=crashed)

    @property
    def routers(self) -> list[str]:
        """Titles of the routers, FM first."""
        found = {*self.runs[ROUTER], *self.crashed[ROUTER]}
        return sorted(found, key=lambda title: (title != router_title(COMPARED_WITH), title))

    @property
    def factors(self) -> tuple[str, ...]:
        """The settings, and the router where there are several."""
        return (ROUTER,) * (len(self.routers) > 1) + self.settings

    @property
    def is_factorial(self) -> bool:
        """Whether several settings vary, so that each has a mean over the others."""
        return len(self.settings) > 1

    def levels(self, factor: str) -> list[str]:
        """List the values of a setting: numbers by size, texts by name, FM first."""
        return self.routers if factor == ROUTER else _levels(pd.concat([self.runs[factor], self.crashed[factor]]))

    def seeds_by_level(self, factor: str) -> pd.DataFrame:
        """Average over all other settings, a row for each seed and a column for each level.

        The average is over the combinations of other settings that each of these seeds finished at every level, so that
        levels are compared on the same runs. Of a sweep that is not finished, those seeds count that leave the most
        runs. Without such combinations the table is empty. Routers are compared over the settings that all have, each
        averaged over those values of its other settings that all of its seeds finished.
        """
        table = self.combinations(factor)
        return table.mean().unstack(factor).reindex(columns=self.levels(factor)) if len(table) else pd.DataFrame()

    def combinations(self, factor: str) -> pd.DataFrame:
        """List the accuracies that `seeds_by_level` averages: combinations down, (level, seed) across."""
        runs = self.runs[self.runs[factor].notna()]
        others = [name for name in self.factors if name != factor and (factor != ROUTER or runs[name].notna().all())]
        runs = runs.fillna(dict.fromkeys(self.settings, ""))
        alike = runs.groupby([*others, factor])[SEED].transform("nunique")
        runs = runs[runs.groupby([*self.factors])[SEED].transform("nunique") == alike]
        if runs.empty:
            return pd.DataFrame()
        table = runs.pivot_table(ACCURACY, others, [factor, SEED])
        levels = [table.columns.unique(name) for name in (factor, SEED)]
        table = table.reindex(columns=pd.MultiIndex.from_product(levels, names=[factor, SEED]))
        finished = table.notna().T.groupby(SEED).all().T  # by combination and seed: at every level
        return table.loc[:, table.columns.isin(_best_seeds(finished), level=SEED)].dropna()

    def failed(self, factor: str, level: str) -> tuple[int, int]:
        """Count the runs at a level that crashed or did not learn, and all that ended."""
        runs, crashed = (each[each[factor] == level] for each in (self.runs, self.crashed))
        return int((~runs[LEARNED]).sum()) + len(crashed), len(runs) + len(crashed)


def outcomes(runs: list[Run]) -> pd.DataFrame:
    """Tabulate the seed, the accuracy in percent and whether it learned of each run."""
    return pd.DataFrame(
        {
            SEED: [run.result.seed for run in runs],
            ACCURACY: [run.accuracy for run in runs],
            LEARNED: [run.learned for run in runs],
        }
    )


def _best_seeds(finished: pd.DataFrame) -> pd.Index:
    """Choose the seeds (columns) that have the most in rows that all of them finished; of equal choices the larger."""
    ordered = finished[finished.sum().sort_values(ascending=False, kind="stable").index]
    rows = ordered.cummin(axis=1).sum()
    runs = [(number * count, number) for number, count in enumerate(rows, start=1)]
    return ordered.columns[: max(runs)[1]]


def as_numbers(levels: Sequence[str]) -> list[float] | None:
    """Read levels as numbers; None if one is a text."""
    try:
        return [float(level) for level in levels]
    except ValueError:
        return None


def _levels(column: pd.Series) -> list[str]:
    return sorted(column.dropna().unique(), key=_order)


def _ranks(column: pd.Series) -> pd.Series:
    """Number a column's levels; seeds are numbers already."""
    if column.name == SEED:
        return column
    return column.map({level: rank for rank, level in enumerate(_levels(column))})


def _order(level: str) -> tuple[bool, float, str]:
    number = as_numbers([level])
    return (number is None, number[0] if number else 0.0, level)


def _together(settings: pd.DataFrame) -> list[list[str]]:
    """Group settings that always vary together: their effects cannot be told apart."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in map(str, settings):
        groups.setdefault(tuple(pd.factorize(settings[name])[0]), []).append(name)
    return list(groups.values())


def _joined(settings: pd.DataFrame, groups: list[list[str]], names: Mapping[str, str]) -> pd.DataFrame:
    """Make one column of each group, under its short names."""
    columns = {}
    for group in groups:
        first = group[:JOINED]
        more = f" and {len(group) - JOINED} more" if len(group) > JOINED else ""
        values = settings[first].astype(object)
        joined = values[first[0]].str.cat(values[first[1:]], ", ") if len(first) > 1 else values[first[0]]
        columns[", ".join(names[key] for key in first) + more] = joined
    return pd.DataFrame(columns, index=settings.index)
