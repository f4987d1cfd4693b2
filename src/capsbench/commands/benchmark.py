"""`capsbench benchmark`: measure, print a table, write JSON."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from capsbench.benchmarks.contention import benchmark_contention, environments
from capsbench.benchmarks.data import benchmark_data
from capsbench.benchmarks.layer import benchmark_layer
from capsbench.benchmarks.measure import Measurement
from capsbench.benchmarks.paper import Work, benchmark_paper
from capsbench.benchmarks.scaling import benchmark_scaling
from capsbench.benchmarks.table1 import benchmark_table1
from capsbench.benchmarks.train import benchmark_train
from capsbench.capsules import RouterFactory
from capsbench.data import ImageDataModule
from capsbench.launch.build import build_data, build_module
from capsbench.launch.config import CONF
from capsbench.launch.errors import one_line, plain_exit
from capsbench.launch.single_run import HARMLESS
from capsbench.launch.sweep import plan
from capsbench.launch.threads import SPIN_COUNT
from capsbench.reports.formats import NOTHING, to_rich
from capsbench.reports.paper import router_title, targets
from capsbench.reports.speed import TABLES, write_benchmark
from capsbench.runs.result import describe_device, git_commit, versions
from capsbench.training import ClassificationModule, keep_freed_memory

SCHEMA = 2
"""Of a benchmark's JSON file."""
ROUTERS = ("fm", "dynamic1", "dynamic", "em2")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class Settings:
    """What a benchmark measures, and how often."""

    repetitions: int = 5
    batch_size: int = 128
    steps: int = 10
    compile: str | None = None
    routers: list[str] = field(default_factory=lambda: list(ROUTERS))
    experiments: list[str] = field(default_factory=lambda: list(targets()))


BENCHMARKS: dict[str, tuple[tuple[str, ...], Callable[[Settings], list[Measurement]]]] = {
    "contention": (
        ("repetitions", "steps"),
        lambda settings: benchmark_contention(environments(SPIN_COUNT), settings.repetitions, settings.steps),
    ),
    "data": (("repetitions",), lambda settings: benchmark_data(settings.repetitions)),
    "layer": (
        ("repetitions", "batch_size", "routers"),
        lambda settings: benchmark_layer(
            make_routers(settings.routers), settings.repetitions, settings.batch_size, DEVICE
        ),
    ),
    "paper": (
        ("repetitions", "steps", "compile", "experiments"),
        lambda settings: benchmark_paper(
            works(settings.experiments, settings.compile), settings.repetitions, settings.steps, DEVICE
        ),
    ),
    "scaling": (
        ("repetitions", "routers"),
        lambda settings: benchmark_scaling(make_routers(settings.routers), settings.repetitions, DEVICE),
    ),
    "table1": (
        ("repetitions", "batch_size", "routers"),
        lambda settings: benchmark_table1(make_routers(settings.routers), settings.repetitions, settings.batch_size),
    ),
    "train": (
        ("repetitions", "steps", "compile", "routers"),
        lambda settings: benchmark_train(
            make_routers(settings.routers), settings.repetitions, settings.steps, settings.compile, DEVICE
        ),
    ),
}
"""For each benchmark the settings that it reads, and its function."""

HELP = """Measure how fast things are. Alternatives take turns, several times.

  capsbench benchmark contention  a training step alone and beside busy processes, by how idle threads wait
  capsbench benchmark data        images per second of data loading, against the usual dataset and workers
  capsbench benchmark layer       time and memory of capsule layers with each router, plain and fused
  capsbench benchmark paper       the hours that each table and figure takes on this machine
  capsbench benchmark scaling     time of capsule layers against the number of children, parents and examples
  capsbench benchmark table1      milliseconds per batch of CapsNet with each router, as in the paper's table 1
  capsbench benchmark train       images per second of training, and the cost of Lightning's loop

== The configuration ==
$CONFIG
"""
ConfigStore.instance().store(
    name="benchmark",
    node={
        "defaults": [{"override hydra/job_logging": "stdout"}, "_self_"],
        "name": "data",
        **asdict(Settings()),
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
    """Run a benchmark."""
    if config.name not in BENCHMARKS:
        raise ValueError(f"there is no benchmark {config.name}; there are: {', '.join(BENCHMARKS)}")
    given: Any = {one.name: config[one.name] for one in fields(Settings)}
    for name, default in asdict(Settings()).items():
        if isinstance(default, list):
            if not OmegaConf.is_list(given[name]):
                raise ValueError(f"{name} must be a list such as [{default[0]}], got {given[name]}")
            given[name] = list(given[name])
    run(config.name, Settings(**given), Path(config.output_dir))


def run(name: str, settings: Settings, output_dir: Path) -> None:
    """Run a benchmark, print it, and write OUTPUT_DIR/benchmarks/NAME.json.

    Args:
        name: of the benchmark.
        settings: those that it does not read are ignored.
        output_dir: of the file, and of the table and picture beside it.

    Raises:
        ValueError: a number is less than 1; there is no such router or experiment.
    """
    for key in ("repetitions", "batch_size", "steps"):
        value = getattr(settings, key)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{key} must be an integer of at least 1, got {value}")
    _quieten()
    keep_freed_memory()  # as in training
    used, measure = BENCHMARKS[name]
    found = measure(settings)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "benchmark": name,
        "settings": {key: getattr(settings, key) for key in used},
        "measurements": [asdict(measurement) for measurement in found],
        "devices": [describe_device(torch.device(kind)) for kind in devices],
        "versions": versions(),
        "git_commit": git_commit(),
    }
    folder = output_dir / "benchmarks"
    write_benchmark(record, folder)
    console = Console()
    if name in TABLES:
        title, make = TABLES[name]
        console.print(to_rich(make(record["measurements"]), title=title))
    console.print(_table(found, title=f"{name}, {settings.repetitions} repetitions"))
    console.print(f"{'; '.join(record['devices'])}; written to {folder / name}.json", soft_wrap=True)


def _table(found: list[Measurement], title: str) -> Table:
    """All measurements, as they are in the JSON file."""
    table = Table("subject", "router", "implementation", "quantity", "unit", "median", "least", "most", title=title)
    for one in found:
        subject = " ".join(str(part) for part in (one.subject, one.device, one.size) if part is not None)
        router = router_title(one.router) if one.router else NOTHING
        spread = (f"{value:,.0f}" if value > 100 else f"{value:.3g}" for value in (one.median, one.least, one.most))
        table.add_row(subject, router, one.implementation or NOTHING, one.quantity, one.unit, *spread)
    return table


def _quieten() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)


@contextmanager
def _configuration() -> Iterator[ConfigLoader]:
    GlobalHydra.instance().clear()  # of this benchmark's own configuration
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def make_routers(names: Sequence[str]) -> dict[str, RouterFactory]:
    """Instantiate routers by their names in conf/router.

    Raises:
        HydraException: there is no such router.
    """
    with _configuration():
        return {name: instantiate(hydra.compose("train", [f"router={name}"]).router) for name in names}


def works(experiments: Sequence[str], compile_mode: str | None) -> list[Work]:
    """Plan the paper's runs, taking together those that differ only in their seed.

    Raises:
        ValueError: there is no such experiment of the paper.
    """
    for name in experiments:
        if name not in targets():
            raise ValueError(f"there is no experiment {name} of the paper; there are: {', '.join(targets())}")
    common = ["data.absent=stand_in", f"compile={'null' if compile_mode is None else compile_mode}"]
    with _configuration() as loader:
        runs = [run for name in experiments for run in plan(loader, [f"experiment={name}", *common])]
    found: dict[tuple[str, str, str], Work] = {}
    for identity in (run.identity for run in runs):
        key = (identity.experiment, identity.data, identity.router)
        settings = OmegaConf.create(dict(identity.settings))
        trainer = settings.trainer
        lengths = trainer.max_epochs, trainer.max_steps, trainer.check_val_every_n_epoch
        work = found.get(key, Work(*key, 0, partial(_make, settings), *lengths))
        found[key] = work._replace(runs=work.runs + 1)
    return list(found.values())


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
