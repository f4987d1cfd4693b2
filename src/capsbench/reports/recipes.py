"""A table of the paper as published: each system trained with its own recipe, the paper's number beside ours."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from capsbench.data.files import written_atomically
from capsbench.reports.captions import SMOKE
from capsbench.reports.cells import Table, number_text, our_number, outcomes_of, tidy, title_of_data
from capsbench.reports.comparison import Comparison
from capsbench.reports.formats import NOTHING, emphasized, to_csv, to_latex, to_markdown
from capsbench.reports.paper import AUTHORS, Target, recipes, router_title, targets
from capsbench.reports.rows import Row, parts
from capsbench.reports.runs import TEST

CAPTION = (
    "Each system has its own recipe. Data, network, loss and length differ between rows, so that these do not compare "
    "routers. Ours is of the last epoch, the mean over n seeds [95 % interval]."
)
DEPARTURES = "How each recipe departs from what was published."


def systems_of(table: str) -> tuple[Target, ...]:
    """Return a table of the paper and the methods of others in it, as experiments of ours.

    Raises:
        ValueError: the table has no methods of others with recipes.
    """
    if table not in targets() or not recipes(table):
        known = ", ".join(name for name in targets() if recipes(name))
        raise ValueError(f"as_published=true is for a table with recipes of other systems: {known}; got {table}")
    return (targets()[table], *recipes(table).values())


def as_published(table: str, found: Mapping[str, Comparison], departures: Callable[[str], str]) -> list[Table]:
    """Make a table of every system, also of those that nobody ran, and one of how their recipes depart.

    Args:
        table: its name: "table2".
        found: the comparisons of those experiments that have finished runs, by name.
        departures: says of an experiment how it departs from what was published.
    """
    systems = systems_of(table)
    titles = list(systems[0].data)
    rows = [(target, row) for target in systems for row in _rows(target, found.get(target.name))]
    rows.sort(key=lambda pair: next((n for n, title in enumerate(titles) if title in pair[1].data), len(titles)))
    cells = [line for target, row in rows for line in _lines(target, row)]
    smoke = f"{SMOKE} " if any(comparison.smoke for comparison in found.values()) else ""
    told = [
        {"System": _system(target), "Data": ", ".join(target.data), "Departs in": text}
        for target in systems
        if (text := departures(target.name))
    ]
    return [Table(tidy(pd.DataFrame(cells)), smoke + CAPTION), Table(pd.DataFrame(told), DEPARTURES)]


def write_as_published(title: str, shown: list[Table], folder: Path) -> None:
    """Write table.md, table.tex and table.csv into a folder, which is made if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "md": "\n".join(f"{to_markdown(table.frame)}\n{emphasized(table.caption)}" for table in shown),
        "tex": "\n".join(to_latex(table.frame, f"{title}. {table.caption}") for table in shown),
        "csv": to_csv(shown[0].frame),
    }
    for ending, text in texts.items():
        with written_atomically(folder / f"table.{ending}") as path:
            path.write_text(text, encoding="utf-8")


def _rows(target: Target, comparison: Comparison | None) -> list[Row]:
    """The rows of a system: those of its tests, and the paper's numbers that no run of ours is set against."""
    if comparison is None:
        return [
            Row(router_title(router), data, expected=target.expected_seeds, paper=number)
            for (router, data), number in target.numbers.items()
        ]
    tests = [part for part in parts(comparison) if part.panels[0].metric == TEST]
    return [row for part in tests for row in part.rows if row.conditions or row.expected]


def _lines(target: Target, row: Row) -> Iterator[dict[str, str]]:
    for protocol in row.conditions or [""]:
        condition = row.conditions.get(protocol)
        counted = outcomes_of(condition) if condition else {}
        every = len(condition.runs) + len(condition.crashed) if condition else 0
        yield {
            "System": _system(target) + (", authors' protocol" if protocol.endswith(f"_{AUTHORS}") else ""),
            "Router": condition.title if condition else row.router,
            "Data": title_of_data(row),
            "Paper %": number_text(row.paper) if row.paper else NOTHING,
            "Ours %": our_number(row, protocol),
            "n": str(len(condition.runs)) if condition else NOTHING,
            **{name: f"{counted[name]} of {every}" if counted else NOTHING for name in ("Crashed", "Did not learn")},
            "Runs differ from the recipe in": (", ".join(condition.differences) if condition else "") or NOTHING,
            "Parameters": f"{condition.runs[0].result.parameters:,}" if condition and condition.runs else NOTHING,
            "Theirs": (target.method and target.method.parameters) or NOTHING,
        }


def _system(target: Target) -> str:
    return target.method.title if target.method else router_title(target.routers[0])
