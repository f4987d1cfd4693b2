"""What all rows of a table have in common, said once."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from capsbench.reports.comparison import Comparison, Condition
from capsbench.reports.paper import router_title
from capsbench.reports.protocol import flat
from capsbench.reports.rows import Part, Row
from capsbench.reports.runs import Run
from capsbench.reports.statistics import MIN_PAIRS
from capsbench.runs.identity import VERSION
from capsbench.runs.measures import EXACT_MATCH

SMOKE = "Smoke runs: they were cut short to try the code, and their numbers mean nothing."

SESSIONS = {
    "git_commit": "commit",
    "device": "processor or number of threads",
    "devices": "number of devices",
    "platform": "system",
    "torch": "version of PyTorch",
}
"""What may change between the sessions of a run."""

OF_LABELS = (
    "Images have any number of labels; one is predicted where its activation is above 0.5. Exact match: all of an "
    "image are right. F1 and mAP: means over labels."
)

SINGLE = "One seed a row: there are no intervals."


def caption(part: Part, rows: Sequence[Row], comparison: Comparison, shared: Sequence[str]) -> str:
    """Write the caption of a table, without `tests_told`.

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
    told += [_data(rows), *([f"All runs: {'; '.join(_common(runs, comparison.target is not None))}."] if runs else [])]
    if any(run.metric.endswith(EXACT_MATCH) for run in runs):
        told.append(OF_LABELS)
    if shared:
        told.append(f"Every run of ours differs from the paper's in: {', '.join(shared)}.")
    told += _brackets(rows, shared) if comparison.target else []
    told += [_chosen(runs), _changed(runs), _files(conditions)]
    if comparison.unlike:
        told.append(f"{comparison.unlike} more crashed, on data of which no run finished; they are in no row.")
    elif not any(condition.crashed for condition in conditions) and all(run.learned for run in runs) and runs:
        told.append("No run crashed, and each learned.")
    if runs:
        told.append("Mean over n seeds [95 % interval]." if any(len(one.runs) > 1 for one in conditions) else SINGLE)
    return " ".join(line for line in told if line)


def _chosen(runs: Sequence[Run]) -> str:
    """Say how many runs chose by a metric when to stop or which weights to end with."""
    chosen = sum(bool(run.result.chosen) for run in runs)
    return (
        f"{chosen} of {len(runs)} runs chose by a metric when to stop, or which weights to end with." if chosen else ""
    )


def _changed(runs: Sequence[Run]) -> str:
    """Say how many runs were interrupted and went on in another place."""
    changed = [found for run in runs if (found := run.result.changed_between_sessions)]
    names = [word for name, word in SESSIONS.items() if any(name in found for found in changed)]
    return f"{len(changed)} of {len(runs)} runs went on with another {', '.join(names)}." if changed else ""


def _files(conditions: Sequence[Condition]) -> str:
    """Say how many rows average runs on different images."""
    images = [
        {(run.result.data_files.get("digest"), run.result.train_examples, run.result.test_examples) for run in one.runs}
        for one in conditions
    ]
    mixed = sum(len(found) > 1 for found in images)
    return f"{mixed} of {len(conditions)} rows average runs whose data files differ." if mixed else ""


def _data(rows: Sequence[Row]) -> str:
    found = {row.data if row.stand_in is None else f"{row.stand_in}, in place of {row.data}" for row in rows}
    return f"Data: {found.pop()}." if len(found) == 1 else ""


def _common(runs: Sequence[Run], with_data: bool) -> list[str]:
    """What all runs share of network, length, loss and optimizer; when they finished, and on which machines."""
    results = [run.result for run in runs]
    settings = [flat(result.settings) for result in results]
    shared: dict[str, list[Any]] = {
        "network": [result.arch for result in results] if with_data else [],
        "training images": [f"{result.train_examples:,}" for result in results] if with_data else [],
        "test images": [
            f"{run.result.test_examples:,}" if each.get("data.test_subset") and run.metric.startswith("test/") else None
            for run, each in zip(runs, settings, strict=True)
        ],
        "epochs": [f"{result.epochs:,}" for result in results],
        "steps": [f"{result.steps:,}" for result in results],
        "batch": [each.get("data.batch_size") for each in settings],
        "loss": [result.choices.get("loss") for result in results],
        "optimizer": [each.get("optim.optimizer.class") for each in settings],
        "rate": [each.get("optim.optimizer.lr") for each in settings],
    }
    told = [f"{name} {values[0]}" for name, values in shared.items() if len(set(values)) == 1 and None not in values]
    days = sorted({result.date for result in results if result.date})
    told += [f"finished {' to '.join(dict.fromkeys((days[0], days[-1])))}"] if days else []
    return [*told, f"on {' / '.join(sorted({result.device for result in results}))}"]


def _brackets(rows: Sequence[Row], shared: Sequence[str]) -> list[str]:
    """What brackets tell, and what a row has in a setting that only others of its protocol tell."""
    by_protocol: dict[str, list[Condition]] = defaultdict(list)
    for row in rows:
        for protocol, condition in row.conditions.items():
            by_protocol[protocol].append(condition)
    any_told, usual = False, set()
    for conditions in by_protocol.values():
        said = [{word.partition("=")[0] for word in condition.differences} for condition in conditions]
        told = {word.partition("=")[0] for one in conditions for word in one.differences if word not in shared}
        any_told = any_told or bool(told)
        usual |= {
            f"{name}={value}"
            for condition in conditions
            for name, value in condition.usual.items()
            if name in told and any(name not in names for names in said)
        }
    if not any_told:
        return []
    unsaid = f"; where a row does not say: {', '.join(sorted(usual))}" if usual else ""
    return [f"In brackets: what {'else ' if shared else ''}differs from the paper's protocol{unsaid}."]


def tests_told(part: Part, comparison: Comparison) -> str:
    """Say after a caption how differences and their tests were made; nothing where a table has none."""
    if not part.paired:
        return ""
    compared = sum(paired.n >= MIN_PAIRS for paired in part.paired.values())
    name = router_title(comparison.baseline)
    row = "that differs least" if comparison.target else "with the same settings"
    told = f" Difference from the row of {name} {row}, seed by seed"
    if compared < len(part.paired):
        told += f"; a test needs {MIN_PAIRS} seeds that both finished"
    if not compared:
        return f"{told}."
    tests = "1 test" if compared == 1 else f"{compared} tests"
    return (
        f"{told}; p of the paired t-test, adjusted by Holm for the {tests} of this table, and the interval widened "
        f"alike. P(better): of one run against one of {name}, ties by half."
    )
