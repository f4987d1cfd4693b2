"""What all rows of a table have in common, said once."""

from collections.abc import Callable, Sequence

from capsbench.reports.comparison import Comparison, Condition
from capsbench.reports.paper import router_title
from capsbench.reports.protocol import flat
from capsbench.reports.rows import Part, Row
from capsbench.reports.runs import Run
from capsbench.reports.statistics import MIN_PAIRS
from capsbench.runs.identity import VERSION

SMOKE = "Smoke runs: they were cut short to try the code, and their numbers mean nothing."


def caption(part: Part, rows: Sequence[Row], comparison: Comparison, shared: Sequence[str]) -> str:
    """Write the caption of a table.

    Args:
        part: of the comparison.
        rows: those that are shown.
        comparison: of the runs.
        shared: words that the labels leave out because they hold for every run.
    """
    conditions = [condition for row in rows for condition in row.conditions.values()]
    runs = [run for condition in conditions for run in condition.runs]
    told = [SMOKE] if comparison.smoke else []
    if part.panels[0].version < VERSION:
        told.append(f"Older runs: settings meant other numbers (version {part.panels[0].version}, now {VERSION}).")
    told += [_data(rows), *([f"All runs: {', '.join(_common(runs, comparison.target is not None))}."] if runs else [])]
    if shared:
        told.append(f"Every run of ours differs from the paper's in: {', '.join(shared)}.")
    told += _brackets(conditions, comparison, shared)
    if not any(condition.crashed for condition in conditions) and all(run.learned for run in runs) and runs:
        told.append("No run crashed, and each learned.")
    told.append("Mean over n seeds [95 % interval].")
    if part.paired:
        told.append(_tests(part, comparison))
    return " ".join(line for line in told if line)


def _data(rows: Sequence[Row]) -> str:
    found = {row.data if row.stand_in is None else f"{row.stand_in}, in place of {row.data}" for row in rows}
    return f"Data: {found.pop()}." if len(found) == 1 else ""


def _common(runs: Sequence[Run], with_data: bool) -> list[str]:
    """What all runs share of network, length, loss, optimizer, date and machine."""
    settings = [flat(run.result.settings) for run in runs]

    def same(values: Sequence[object], said: Callable[[object], str] = str) -> list[str]:
        found = set(map(str, values))
        return [said(values[0])] if len(found) == 1 and values[0] not in (None, "", 0) else []

    def setting(key: str) -> list[object]:
        return [each.get(key) for each in settings]

    results = [run.result for run in runs]
    days = sorted({result.finished[:10] for result in results if result.finished})
    return [
        *(same([result.arch for result in results], lambda value: f"network {value}") if with_data else []),
        *(
            same([result.train_examples for result in results], lambda value: f"{value:,} training images")
            if with_data
            else []
        ),
        *same([result.epochs for result in results], lambda value: f"{value:,} epoch{'s' * (value != 1)}"),
        *same([result.steps for result in results], lambda value: f"{value:,} steps"),
        *same(setting("data.batch_size"), lambda value: f"batches of {value}"),
        *same([result.choices.get("loss") for result in results], lambda value: f"loss {value}"),
        *same(setting("optim.optimizer.class")),
        *same(setting("optim.optimizer.lr"), lambda value: f"rate {value}"),
        *([f"finished {' to '.join(dict.fromkeys((days[0], days[-1])))}"] if days else []),
        *same([result.device for result in results], lambda value: f"on {value}"),
    ]


def _brackets(conditions: Sequence[Condition], comparison: Comparison, shared: Sequence[str]) -> list[str]:
    """What rows that say nothing of a setting have, for each setting that a row tells."""
    told = {word.partition("=")[0] for condition in conditions for word in condition.differences if word not in shared}
    usual = {f"{name}={value}" for condition in conditions for name, value in condition.usual.items() if name in told}
    if not told:
        return []
    of = "from the paper's protocol" if comparison.target else "from other rows"
    unsaid = f"; where a row does not say: {', '.join(sorted(usual))}" if usual else ""
    return [f"In brackets: what {'else ' if shared else ''}differs {of}{unsaid}."]


def _tests(part: Part, comparison: Comparison) -> str:
    compared = sum(paired.n >= MIN_PAIRS for paired in part.paired.values())
    name = router_title(comparison.baseline)
    told = f"Difference from the row of {name} that differs least, seed by seed"
    if not compared:
        return f"{told}; a test needs {MIN_PAIRS} seeds that both finished."
    return (
        f"{told}; p of the paired t-test, adjusted by Holm for the {compared} of this table, and the interval widened "
        f"alike. P(better): of one run against one of {name}."
    )
