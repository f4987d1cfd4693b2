"""Tables of systems: accuracy after equal epochs and after equal time, beside what a system costs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from capsbench.data.files import written_atomically
from capsbench.reports.cells import Table, outcomes_of
from capsbench.reports.comparison import Comparison
from capsbench.reports.costs import costs_table, sources, their_parameters
from capsbench.reports.figures import write_figure
from capsbench.reports.formats import NOTHING, emphasized, estimate_text, to_csv, to_latex, to_markdown
from capsbench.reports.paper import router_title
from capsbench.reports.protocol import flat
from capsbench.reports.rates import ENDING, RATE, System, best, by_rate, rates_table
from capsbench.reports.runs import NoRunsError, accuracies, load_runs
from capsbench.reports.statistics import MIN_PAIRS, Paired, compare, estimate_accuracy
from capsbench.reports.systems import Group, Row, groups, time_figure

SYSTEMS = "systems"
"""Name of files, and of a table in a page."""
CONTROL = "dynamic1"
"""The router without agreement: others in the same network are compared with it."""
NONE = ("Crashed", "Did not learn")
"""Columns that are left out where no run did."""


def system_tables(comparison: Comparison) -> list[Table]:
    """Make the tables of systems: of each data set, and of what the systems cost; of tried learning rates their own."""
    if rates := rates_table(comparison):
        return [rates]
    found = groups(comparison)
    return [*(_table(group, comparison) for group in found), *_of_costs(found)]


def _of_costs(found: Sequence[Group]) -> list[Table]:
    """Tabulate what the benchmark measured of these systems."""
    if not found or found[0].costs is None:
        return []
    systems = {System.of(run) for group in found for row in group.rows for run in row.condition.runs[:1]}
    subjects = {(f"{one.arch}, {one.data}", one.router) for one in systems}
    measured = [one for one in found[0].costs.measurements if (one["subject"], one["router"]) in subjects]
    told = (
        "Multiply-adds are those of convolutions and transforms, votes formed, of one image; operations on elements "
        "are of the whole forward pass. Memory is what a training step needs beyond weights, gradients and the "
        f"optimizer's state. Benchmark: {found[0].costs.how}."
    )
    return [Table(costs_table(measured), told)] if measured else []


def _table(group: Group, comparison: Comparison) -> Table:
    paired = _paired(group)
    frame = pd.DataFrame([_cells(group, row, paired.get(id(row))) for row in group.rows])
    said = (frame != NOTHING).any()
    for name in NONE:
        said[name] = not frame[name].str.startswith("0 ").all()
    return Table(frame.loc[:, said], _caption(group, comparison, paired))


def _cells(group: Group, row: Row, paired: Paired | None) -> dict[str, str]:
    condition = row.condition
    runs, settings = condition.runs, condition.settings
    at, theirs = row.after(group.seconds), their_parameters(row.arch, condition.router)
    outcomes, ended = outcomes_of(condition), len(runs) + len(condition.crashed)
    return {
        "Network": row.arch,
        "Router": condition.title,
        "Loss": settings.get("loss", NOTHING),
        "Rate": settings.get(RATE, NOTHING),
        "n": str(len(runs)),
        **{name: f"{outcomes[name]} of {ended}" for name in NONE},
        f"{group.measured} %": estimate_text(estimate_accuracy(accuracies(runs))) if runs else NOTHING,
        f"After {group.seconds:.0f} s %": estimate_text(estimate_accuracy(at)) if len(at) else NOTHING,
        f"Difference from {router_title(CONTROL)}": estimate_text(paired.difference, "+") if paired else NOTHING,
        "Verdict": paired.verdict if paired else NOTHING,
        "Parameters": f"{runs[0].result.parameters:,}" if runs else NOTHING,
        "Theirs": theirs.parameters if theirs else NOTHING,
        "Training, s": NOTHING if math.isnan(row.seconds) else f"{row.seconds:,.0f}",
    }


def _paired(group: Group) -> dict[int, Paired]:
    """Compare each system with the same network without agreement, as long trained, by the row's identity in memory."""
    finished = [row for row in group.rows if row.condition.runs]
    found = [(row, _control(row, finished)) for row in finished if row.condition.router != CONTROL]
    pairs = [(row, control) for row, control in found if control is not None]
    compared = compare([(accuracies(row.condition.runs), accuracies(other.condition.runs)) for row, other in pairs])
    return {id(row): paired for (row, _), paired in zip(pairs, compared, strict=True)}


def _control(row: Row, rows: Sequence[Row]) -> Row | None:
    """Find the control of a system: of several the one with the most of its settings."""
    own = row.condition
    alike = [
        other
        for other in rows
        if other.arch == row.arch and other.condition.router == CONTROL and other.condition.budget == own.budget
    ]
    return max(alike, key=lambda other: len(own.settings.items() & other.condition.settings.items()), default=None)


def _caption(group: Group, comparison: Comparison, paired: Mapping[int, Paired]) -> str:
    runs = [run for row in group.rows for run in row.condition.runs]
    epochs, seeds = {run.result.epochs for run in runs}, {len(row.condition.runs) for row in group.rows}
    told = [f"{group.title}."]
    told += [f"Epochs: {epochs.pop()}."] if len(epochs) == 1 else []
    told.append("Mean over n seeds [95 % interval]." if max(seeds) > 1 else "One seed a row: there are no intervals.")
    if group.costs is None:
        told.append("There are no times; capsbench benchmark systems measures them.")
    elif not math.isnan(group.seconds):
        told.append(
            f"After {group.seconds:.0f} s: after the last epoch that ends within the shortest training of a row, where "
            "training takes its steps times the benchmark's time of a step; –: no epoch ends by then."
        )
    if paired:
        told.append(f"Difference from {router_title(CONTROL)} in the same network, as long trained, seed by seed.")
    if tests := sum(found.n >= MIN_PAIRS for found in paired.values()):
        told.append(f"Verdicts are of paired t-tests, adjusted by Holm for {tests}, and intervals are widened alike.")
    told.append(_of_rates(group, comparison))
    if theirs := sources([(row.arch, row.condition.router) for row in group.rows]):
        told.append(f"Theirs, as papers print it: {theirs}.")
    return " ".join(line for line in told if line)


def _of_rates(group: Group, comparison: Comparison) -> str:
    """Say which rows have the best rate of the experiment that tried rates out; "" where there is none."""
    root = comparison.runs[0].folder.parents[4] / f"{comparison.name}{ENDING}"
    try:
        tried = by_rate(load_runs(root).finished)
    except NoRunsError:
        return ""
    others = []
    for row in group.rows:
        if row.condition.runs:
            run = row.condition.runs[0]
            rates = tried.get(System.of(run), {})
            if len(rates) < 2 or flat(run.result.settings)[RATE] != best(rates):
                others.append(f"{row.arch} with {row.condition.title}")
    but = f", but for {', '.join(others)}, which it did not try or found worse" if others else ""
    return f"Each rate is the best of those that {root.name} tried on a validation split{but}."


def numbers(group: Group) -> pd.DataFrame:
    """Make the table for machines: accuracies in percent, times as the columns say."""
    paired = _paired(group)
    records = []
    for row in group.rows:
        runs, settings, found = row.condition.runs, row.condition.settings, paired.get(id(row))
        record: dict[str, object] = {"data": group.title, "network": row.arch, "router": row.condition.title}
        record |= {"loss": settings.get("loss"), "rate": settings.get(RATE), "n": len(runs)}
        record |= {"crashed": len(row.condition.crashed), "parameters": runs[0].result.parameters if runs else None}
        record |= {"step_ms": row.milliseconds, "training_s": row.seconds, "after_s": group.seconds}
        for name, values in (("mean", accuracies(runs)), ("after", row.after(group.seconds))):
            estimate = estimate_accuracy(values)
            record |= {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        if found:
            difference = found.difference
            record |= {"difference": difference.mean, "difference_low": difference.low}
            record |= {"difference_high": difference.high, "p_holm": found.p}
        records.append(record)
    return pd.DataFrame(records).convert_dtypes()


def write_systems(comparison: Comparison, folder: Path) -> None:
    """Write systems.md, .tex, .csv and figures into a folder, or remove them where there is nothing to tell."""
    tables, found = system_tables(comparison), groups(comparison)
    for path in folder.glob(f"{SYSTEMS}*.*"):
        path.unlink()
    if not tables:
        return
    texts = {
        "md": "\n".join(f"{to_markdown(table.frame)}\n{emphasized(table.caption)}" for table in tables),
        "tex": "\n".join(to_latex(table.frame, table.caption) for table in tables),
        "csv": to_csv(pd.concat([numbers(group) for group in found]) if found else tables[0].frame),
    }
    for ending, text in texts.items():
        with written_atomically(folder / f"{SYSTEMS}.{ending}") as path:
            path.write_text(text, encoding="utf-8")
    for number, group in enumerate(found):
        if (figure := time_figure(group)) is not None:
            write_figure(figure, folder, f"{SYSTEMS}-{number + 1}" if number else SYSTEMS)
