"""`capsbench status`: how far a sweep is, as a matrix of its runs."""

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from rich.console import Console
from rich.table import Table
from rich.text import Text

from capsbench.launch.config import CONF
from capsbench.launch.errors import one_line
from capsbench.launch.sweep import Planned, plan
from capsbench.runs import State

COLORS = {"done": "green", "running": "cyan", "interrupted": "yellow", "failed": "red", "missing": "dim"}


def main() -> None:
    """Run the command; an error is one line."""
    parser = argparse.ArgumentParser(
        prog="capsbench status",
        description="Show what became of each run that `capsbench train -m` with the same settings asks for.",
        epilog="capsbench status experiment=table2     capsbench status experiment=table3 router=fm,em seed=1,2 --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="SETTING", help="as given to capsbench train -m")
    parser.add_argument("--json", action="store_true", help="as JSON: one object for each run")
    parser.add_argument("--config-dir", help="more choices, as given to capsbench train")
    arguments = parser.parse_args()
    overrides = arguments.overrides
    if arguments.config_dir:
        overrides = [f"hydra.searchpath=[file://{Path(arguments.config_dir).resolve()}]", *overrides]
    with one_line(), hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        runs = [(run, State.of(run.folder)) for run in plan(GlobalHydra.instance().config_loader(), overrides)]
        if arguments.json:
            print(json.dumps([_record(run, state) for run, state in runs], indent=2))
        else:
            Console(markup=False).print(_matrix(runs))


def _matrix(runs: list[tuple[Planned, State]]) -> Table:
    """Data, architecture and router down, with what else differs; seeds across."""
    counts: Counter[str] = Counter(state.name for _, state in runs)
    summary = ", ".join(f"{counts[name]} {name}" for name in COLORS if counts[name])
    table = Table(title=f"{runs[0][0].identity.experiment}: {len(runs)} runs, {summary}", title_justify="left")
    seeds = sorted({run.identity.seed for run, _ in runs})
    for column in ("Data", "Architecture", "Router", *(f"Seed {seed}" for seed in seeds)):
        table.add_column(column, overflow="fold")
    common = set.intersection(*(set(run.others.split()) for run, _ in runs))
    rows: dict[tuple[str, ...], dict[int, State]] = {}
    for run, state in runs:
        identity = run.identity
        others = " ".join(word for word in run.others.split() if word not in common)
        router = f"{identity.router} ({others})" if others else identity.router
        rows.setdefault((identity.data, identity.arch, router), {})[identity.seed] = state
    for names, by_seed in rows.items():
        table.add_row(*names, *(_cell(by_seed[seed]) if seed in by_seed else "" for seed in seeds))
    return table


def _cell(state: State) -> Text:
    detail = ""
    if state.metrics is not None:
        detail = f" {100 * state.metrics['test/accuracy']:.2f} %"
    elif state.cause is not None:
        detail = f": {state.cause}"
    elif state.progress is not None:
        detail = f", epoch {state.progress.epoch}, {state.progress.step / max(state.progress.steps, 1):.0%}"
        if state.name == "running" and state.progress.eta_s is not None:
            left = max(0, round(state.progress.eta_s - (time.time() - state.progress.updated)))
            detail += f", {timedelta(seconds=left)} left"
    return Text.assemble((state.name, COLORS[state.name]), detail)


def _record(run: Planned, state: State) -> dict[str, Any]:
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
        "cause": state.cause,
        "metrics": state.metrics,
    }
