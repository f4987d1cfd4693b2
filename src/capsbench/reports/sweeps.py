"""A panel's runs by the settings that vary in them, beside router and seed."""

from collections.abc import Sequence
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
        settings: the names of these columns.
    """

    runs: pd.DataFrame
    settings: tuple[str, ...]

    @classmethod
    def of(cls, panel: Panel) -> "Sweep":
        """Tabulate the runs of a panel, in the order of levels and seeds."""
        runs = [run for condition in panel.conditions for run in condition.runs]
        titles = [condition.title for condition in panel.conditions for _ in condition.runs]
        told = outcomes(runs).assign(**{ROUTER: titles})
        found = pd.DataFrame([each.all for each in differences(runs)], dtype=object)
        varying = found.loc[:, found.nunique() > 1].rename(columns=short_names(runs))
        settings = _merged(varying)
        return cls(told.join(settings).sort_values([*settings, SEED], key=_ranks), tuple(settings.columns))

    @property
    def that_learned(self) -> "Sweep":
        """Only the runs that learned."""
        return replace(self, runs=self.runs[self.runs[LEARNED]])

    @property
    def routers(self) -> list[str]:
        """Titles of the routers, FM first."""
        return sorted(self.runs[ROUTER].unique(), key=lambda title: (title != router_title(COMPARED_WITH), title))

    @property
    def factors(self) -> tuple[str, ...]:
        """The settings, and the router where there are several."""
        return (ROUTER,) * (len(self.routers) > 1) + self.settings

    def levels(self, factor: str) -> list[str]:
        """List the values of a setting: numbers by size, texts by name, FM first."""
        return self.routers if factor == ROUTER else _levels(self.runs[factor])

    def seeds_by_level(self, factor: str) -> pd.DataFrame:
        """Average over all other settings, a row for each seed and a column for each level.

        The average is over the combinations of other settings that every seed finished at every level, so that levels
        are compared on the same combinations. Without such combinations the table is empty. Routers are compared over
        the settings that all of them have.
        """
        runs = self.runs[self.runs[factor].notna()]
        others = [name for name in self.factors if name != factor and (factor != ROUTER or runs[name].notna().all())]
        runs = runs.fillna(dict.fromkeys(others, ""))
        table = runs.pivot_table(ACCURACY, others, [factor, SEED]).dropna()
        return table.mean().unstack(factor).reindex(columns=self.levels(factor)) if len(table) else pd.DataFrame()


def outcomes(runs: list[Run]) -> pd.DataFrame:
    """Tabulate the seed, the accuracy in percent and whether it learned of each run."""
    return pd.DataFrame(
        {
            SEED: [run.result.seed for run in runs],
            ACCURACY: [run.accuracy for run in runs],
            LEARNED: [run.learned for run in runs],
        }
    )


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


def _merged(settings: pd.DataFrame) -> pd.DataFrame:
    """Join settings that always vary together: their effects cannot be told apart."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in map(str, settings):
        groups.setdefault(tuple(pd.factorize(settings[name])[0]), []).append(name)
    columns = {}
    for names in groups.values():
        more = f" and {len(names) - JOINED} more" if len(names) > JOINED else ""
        joined = settings[names[:JOINED]].agg(", ".join, axis=1) if len(names) > 1 else settings[names[0]]
        columns[", ".join(names[:JOINED]) + more] = joined
    return pd.DataFrame(columns, index=settings.index)
