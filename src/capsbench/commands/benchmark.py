"""`capsbench benchmark`: measure, print a table, write JSON."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
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
from capsbench.data import ImageDataModule
from capsbench.launch.build import build_data, build_module
from capsbench.launch.config import CONF
from capsbench.launch.errors import one_line, plain_exit
from capsbench.launch.single_run import HARMLESS
from capsbench.launch.sweep import plan
from capsbench.reports.benchmarks import TABLES, draw_layer, draw_scaling, write_benchmark_table
from capsbench.reports.formats import to_rich
from capsbench.runs.result import describe_device, git_commit, versions
from capsbench.training import ClassificationModule, keep_freed_memory

TARGETS = ("fig4", "fig5", "table2", "table3", "table5", "table6")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

BENCHMARKS: dict[str, Callable[[DictConfig], Measured]] = {
    "data": lambda config: benchmark_data(config.repetitions),
    "layer": lambda config: benchmark_layer(config.repetitions, config.batch_size, DEVICE),
    "scaling": lambda config: benchmark_scaling(config.repetitions, DEVICE),
    "table1": lambda config: benchmark_table1(config.repetitions, config.batch_size),
    "train": lambda config: benchmark_train(config.repetitions, config.steps, config.compile, DEVICE),
    "paper": lambda config: benchmark_paper(_works(config), config.repetitions, config.steps, DEVICE),
}
PICTURES = {"layer": draw_layer, "scaling": draw_scaling}

HELP = """Measure how fast things are; each way in turn, several times.

  capsbench benchmark data        images per second of data loading, against the usual way
  capsbench benchmark layer       capsule layers: time and memory of each router, plain and fused, and the floor
  capsbench benchmark scaling     the same against the number of children, of parents, of examples
  capsbench benchmark table1      milliseconds per batch of CapsNet with each router, as in the paper's table 1
  capsbench benchmark train       images per second of training, and what Lightning's loop costs
  capsbench benchmark paper       the hours that each table and figure takes on this machine

== The configuration ==
$CONFIG
"""
ConfigStore.instance().store(
    name="benchmark",
    node={
        "defaults": [{"override hydra/job_logging": "stdout"}, "_self_"],
        "name": "data",
        "repetitions": 5,
        "batch_size": 128,
        "steps": 10,
        "compile": None,
        "targets": list(TARGETS),
        "output_dir": "outputs",
        "hydra": {
            "output_subdir": None,
            "run": {"dir": "."},
            "help": {"app_name": "capsbench benchmark", "template": HELP},
        },
    },
)


@hydra.main(version_base="1.3", config_path=None, config_name="benchmark")
@plain_exit
def app(config: DictConfig) -> None:
    """Run a benchmark, print it, and write OUTPUT_DIR/benchmarks/NAME.json."""
    if config.name not in BENCHMARKS:
        raise ValueError(f"there is no benchmark {config.name}; there are: {', '.join(BENCHMARKS)}")
    for name in ("repetitions", "batch_size", "steps"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {config[name]}")
    if not OmegaConf.is_list(config.targets):
        raise ValueError(f"targets must be a list such as [{TARGETS[0]}], got {config.targets}")
    path = Path(config.output_dir, "benchmarks", f"{config.name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    _quieten()
    keep_freed_memory()  # as in training
    measured = BENCHMARKS[config.name](config)
    settings: Any = OmegaConf.to_container(config)
    del settings["output_dir"]
    record: dict[str, Any] = {
        "benchmark": config.name,
        "settings": settings,
        "measured": measured,
        "devices": [
            describe_device(torch.device(kind)) for kind in ("cpu", *(["cuda"] if torch.cuda.is_available() else []))
        ],
        "versions": versions(),
        "git_commit": git_commit(),
    }
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False))

    if config.name in TABLES:
        write_benchmark_table(config.name, measured, path.parent)
        title, make = TABLES[config.name]
        Console().print(to_rich(make(measured), title=title))
    if config.name in PICTURES:
        PICTURES[config.name](measured, path.parent)
    table = Table("", "median", "least", "most", title=f"{config.name}, {config.repetitions} repetitions")
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


def _works(config: DictConfig) -> list[Work]:
    """The paper's runs, those that differ in their seed taken together."""
    for name in config.targets:
        if name not in TARGETS:
            raise ValueError(f"there is no target {name}; there are: {', '.join(TARGETS)}")
    compile_mode = "null" if config.compile is None else config.compile
    GlobalHydra.instance().clear()  # of this benchmark's own configuration
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
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


def main() -> None:
    """Run the app; the first argument may be the benchmark's name alone."""
    if len(sys.argv) > 1 and "=" not in sys.argv[1] and not sys.argv[1].startswith("-"):
        sys.argv[1] = f"name={sys.argv[1]}"
    with one_line():
        app()
