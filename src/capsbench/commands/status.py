"""`capsbench status`: how far a sweep is, as a matrix of its runs."""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from capsbench.commands.arguments import Arguments
from capsbench.launch.config import open_configuration
from capsbench.launch.errors import fail
from capsbench.launch.slurm_queue import states_of, why_never
from capsbench.launch.sweep import PlannedRun, plan
from capsbench.reports.paper import router_title
from capsbench.runs import RunFolder, State
from capsbench.runs.data_changes import DataChanges
from capsbench.runs.measures import EXACT_MATCH, MAIN, main_metric
from capsbench.runs.submission import Job

COLORS = {
    "done": "green",
    "running": "cyan",
    "queued": "blue",
    "interrupted": "yellow",
    "failed": "red",
    "missing": "dim",
}


def main(arguments: Arguments) -> None:
    """Print the states of the runs that the settings ask for.

    Raises:
        CommandError: the result of a run cannot be believed.
    """
    with open_configuration(arguments.config_dir) as loader:
        planned = plan(loader, arguments.settings)
    runs = list(zip(planned, states_of([run.folder for run in planned]), strict=True))
    changes = DataChanges()
    changed = {
        run.folder: how for run, state in runs if state.name == "done" and (how := changes.since(run.folder, run.data))
    }
    if "json" in arguments.switches:
        print(
            json.dumps(
                [_record(run, state) | {"data_changed": changed.get(run.folder)} for run, state in runs], indent=2
            )
        )
    else:
        Console(markup=False).print(_matrix(runs, changed))
    if never := [state.job for _, state in runs if state.job and state.job.never_starts]:
        print(f"{len(never)} jobs can never start, {why_never(never[0])}", file=sys.stderr)
    if damaged := sum(state.is_damaged for _, state in runs):
        fail(f"{damaged} of {len(runs)} runs have a result that cannot be believed; delete it to run them again")


def _matrix(runs: list[tuple[PlannedRun, State]], changed: Mapping[RunFolder, str]) -> Table:
    """Data, architecture and router down, with what else differs; seeds across."""
    counts: Counter[str] = Counter(state.name for _, state in runs)
    failed_to_learn = sum(state.learned is False for _, state in runs)
    told = {"done": f" ({failed_to_learn} did not learn)" if failed_to_learn else ""}
    summary = ", ".join(f"{counts[name]} {name}{told.get(name, '')}" for name in COLORS if counts[name])
    table = Table(title=f"{runs[0][0].identity.experiment}: {len(runs)} runs, {summary}", title_justify="left")
    seeds = sorted({run.identity.seed for run, _ in runs})
    for column in ("Data", "Architecture", "Router", *(f"Seed {seed}" for seed in seeds)):
        table.add_column(column, overflow="fold")
    common = set.intersection(*(set(run.others.split()) for run, _ in runs))
    rows: dict[tuple[str, ...], dict[int, Text]] = {}
    for run, state in runs:
        identity = run.identity
        others = " ".join(word for word in run.others.split() if word not in common)
        router = router_title(identity.router, identity.settings["router"].get("iterations"))
        router += f" [{others}]" if others else ""
        rows.setdefault((identity.data, identity.arch, router), {})[identity.seed] = _cell(
            state, changed.get(run.folder)
        )
    for names, by_seed in rows.items():
        table.add_row(*names, *(by_seed.get(seed, "") for seed in seeds))
    return table


def _cell(state: State, changed: str | None) -> Text:
    detail = _job(state.job, state.requeued)
    if state.metrics is not None:
        metric = main_metric(state.metrics)
        split, _, measure = metric.partition("/")
        said = f" {MAIN[measure]}" if measure == EXACT_MATCH else ""
        detail += f" {'validation' if split == 'val' else split}{said} {100 * state.metrics[metric]:.2f} %"
        detail += "" if state.learned else ", did not learn"
        detail += f", with other data ({changed})" if changed else ""
    elif state.cause is not None:
        detail += f": {state.cause}"
    elif state.progress is not None:
        step, steps = state.progress.step, state.progress.steps
        detail += f", epoch {state.progress.epoch}, " + (
            f"step {step}" if steps is None else f"{step / max(steps, 1):.0%}"
        )
        if state.name == "running" and state.progress.eta_s is not None:
            left = max(0, round(state.progress.eta_s - (time.time() - state.progress.updated)))
            detail += f", {timedelta(seconds=left)} left"
    return Text.assemble((state.name, COLORS[state.name]), detail)


def _job(job: Job | None, requeued: bool) -> str:
    if job is None:
        return ""
    if not job.waits:
        return f" on {job.node} (job {job.number})"
    why = f": {job.reason}" if job.reason else ""
    return f"{' again' if requeued else ''} (job {job.number}{why}{', can never start' if job.never_starts else ''})"


def _record(run: PlannedRun, state: State) -> dict[str, Any]:
    identity = run.identity
    return {
        "experiment": identity.experiment,
        "data": identity.data,
        "arch": identity.arch,
        "router": identity.router,
        "seed": identity.seed,
        "others": run.others,
        "folder": str(run.folder),
        "state": state.name,
        "progress": state.progress and asdict(state.progress),
        "job": state.job and _job_record(state.job, state.requeued),
        "cause": state.cause,
        "learned": state.learned,
        "metrics": state.metrics,
    }


def _job_record(job: Job, requeued: bool) -> dict[str, Any]:
    told = {name: getattr(job, name) for name in ("number", "state", "reason", "node", "never_starts")}
    return told | {"requeued": requeued}
