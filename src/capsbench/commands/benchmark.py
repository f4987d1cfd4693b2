"""`capsbench benchmark`: measure, print a table, write JSON."""

import json
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from capsbench.benchmarks.data import benchmark_data
from capsbench.benchmarks.layer import benchmark_layer
from capsbench.benchmarks.measure import Measured
from capsbench.benchmarks.paper import Work, benchmark_paper
from capsbench.benchmarks.scaling import benchmark_scaling
from capsbench.benchmarks.table1 import benchmark_table1
from capsbench.benchmarks.train import benchmark_train
from capsbench.commands.arguments import Arguments, parse_settings
from capsbench.commands.settings import TARGETS, Benchmark
from capsbench.data import ImageDataModule
from capsbench.launch.build import build_data, build_module
from capsbench.launch.config import open_configuration
from capsbench.launch.single_run import HARMLESS
from capsbench.launch.sweep import plan
from capsbench.reports.benchmarks import TABLES, draw_layer, draw_scaling, write_benchmark_table
from capsbench.reports.formats import to_rich
from capsbench.runs.environment import describe_device, git_commit, versions
from capsbench.training import ClassificationModule, keep_freed_memory

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

BENCHMARKS: dict[str, Callable[[Benchmark], Measured]] = {
    "data": lambda config: benchmark_data(config.repetitions),
    "layer": lambda config: benchmark_layer(config.repetitions, config.batch_size, DEVICE),
    "scaling": lambda config: benchmark_scaling(config.repetitions, DEVICE),
    "table1": lambda config: benchmark_table1(config.repetitions, config.batch_size),
    "train": lambda config: benchmark_train(config.repetitions, config.steps, config.compile, DEVICE),
    "paper": lambda config: benchmark_paper(_works(config), config.repetitions, config.steps, DEVICE),
}
PICTURES = {"layer": draw_layer, "scaling": draw_scaling}


def main(arguments: Arguments) -> None:
    """Run a benchmark, print it, and write OUTPUT_DIR/benchmarks/NAME.json."""
    name, config = str(arguments.action), parse_settings(Benchmark, arguments.settings)
    for setting in ("repetitions", "batch_size", "steps"):
        if getattr(config, setting) < 1:
            raise ValueError(f"{setting} must be a whole number of at least 1, got {getattr(config, setting)}")
    path = Path(config.output_dir, "benchmarks", f"{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    _quieten()
    keep_freed_memory()  # as in training
    measured = BENCHMARKS[name](config)
    settings = {"name": name, **asdict(config)}
    del settings["output_dir"]
    record: dict[str, Any] = {
        "benchmark": name,
        "settings": settings,
        "measured": measured,
        "devices": [
            describe_device(torch.device(kind)) for kind in ("cpu", *(["cuda"] if torch.cuda.is_available() else []))
        ],
        "versions": versions(),
        "git_commit": git_commit(),
    }
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False))

    if name in TABLES:
        write_benchmark_table(name, measured, path.parent)
        title, make = TABLES[name]
        Console().print(to_rich(make(measured), title=title))
    if name in PICTURES:
        PICTURES[name](measured, path.parent)
    table = Table("", "median", "least", "most", title=f"{name}, {config.repetitions} repetitions")
    for name, spread in measured.items():
        table.add_row(name, *(f"{value:,.0f}" if value > 100 else f"{value:.3g}" for value in spread.values()))
    console = Console()
    console.print(table)
    console.print(f"{'; '.join(record['devices'])}; written to {path}", soft_wrap=True)


def _quieten() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)


def _works(config: Benchmark) -> list[Work]:
    """The paper's runs, those that differ in their seed taken together."""
    for name in config.targets:
        if name not in TARGETS:
            raise ValueError(f"there is no target {name}; there are: {', '.join(TARGETS)}")
    compile_mode = "null" if config.compile is None else config.compile
    with open_configuration() as loader:
        identities = [
            run.identity
            for name in config.targets
            for run in plan(loader, [f"experiment={name}", "data.absent=stand_in", f"compile={compile_mode}"])
        ]
    works: dict[tuple[str, str, str], Work] = {}
    for identity in identities:
        key = (identity.experiment, identity.data, identity.router)
        settings = OmegaConf.create(dict(identity.settings))
        trainer = settings.trainer
        first = Work(
            *key, 0, partial(_make, settings), trainer.max_epochs, trainer.max_steps, trainer.check_val_every_n_epoch
        )
        work = works.get(key, first)
        works[key] = work._replace(runs=work.runs + 1)
    return list(works.values())


def _make(settings: DictConfig) -> tuple[ClassificationModule, ImageDataModule]:
    settings.data.data_dir = os.devnull  # no data is there: a few digits of the form of the set's images stand in
    data = build_data(settings)
    return build_module(settings, data), data
