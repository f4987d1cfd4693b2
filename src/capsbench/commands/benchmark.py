"""`capsbench benchmark`: measure, print a table, write JSON."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from capsbench.benchmarks.contention import benchmark_contention, environments
from capsbench.benchmarks.data import benchmark_data
from capsbench.benchmarks.layer import Shape, benchmark_layer, full_transform
from capsbench.benchmarks.measure import Measurement
from capsbench.benchmarks.pages import kinds, with_pages
from capsbench.benchmarks.paper import Work, benchmark_paper
from capsbench.benchmarks.scaling import benchmark_scaling
from capsbench.benchmarks.systems import System, benchmark_systems
from capsbench.benchmarks.table1 import BATCHES, benchmark_table1
from capsbench.benchmarks.table1 import NETWORKS as OF_TABLE1
from capsbench.benchmarks.train import NETWORKS as OF_TRAIN
from capsbench.benchmarks.train import benchmark_train
from capsbench.capsules import RouterFactory
from capsbench.commands.arguments import Arguments, parse_settings
from capsbench.commands.settings import Benchmark
from capsbench.data import ImageDataModule
from capsbench.launch.build import build_data, build_module
from capsbench.launch.config import Composer, open_configuration
from capsbench.launch.noise import hide_harmless_messages
from capsbench.launch.sweep import plan
from capsbench.launch.threads import SPIN_COUNT
from capsbench.reports.formats import NOTHING, to_rich
from capsbench.reports.paper import router_title, targets
from capsbench.reports.speed import TABLES, write_benchmark
from capsbench.runs.environment import describe_device, git_commit, versions
from capsbench.training import ClassificationModule, keep_freed_memory

SCHEMA = 2
"""Of a benchmark's JSON file."""
REPETITIONS = 5
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPE = ("children", "parents", "dims")
USED = {
    "contention": ("repetitions", "steps"),
    "data": ("repetitions",),
    "layer": ("repetitions", "batch", "routers", *SHAPE, "pages"),
    "paper": ("repetitions", "steps", "compile", "experiments"),
    "scaling": ("repetitions", "routers"),
    "systems": ("repetitions", "batch", "systems", "data"),
    "table1": ("repetitions", "batch", "routers", "arch"),
    "train": ("repetitions", "batch", "steps", "compile", "routers", "arch", "pages"),
}
"""The settings that each benchmark reads; its file records them."""
NETWORKS: dict[str, Mapping[str, Any]] = {"table1": OF_TABLE1, "train": OF_TRAIN}
ABSENT = ["data.absent=stand_in"]
"""Words that let a run be planned without its data."""


def main(arguments: Arguments) -> None:
    """Run a benchmark, print it, and write OUTPUT_DIR/benchmarks/NAME.json with its table and picture.

    Raises:
        ValueError: a number is less than 1; there is no such experiment, network or kind of pages; router and routers
            are both given.
        HydraException: there is no such router.
    """
    name, settings = str(arguments.action), parse_settings(Benchmark, arguments.settings)
    if settings.repetitions is None:
        settings.repetitions = BATCHES if name == "table1" else REPETITIONS
    if settings.router is not None:
        if any(word.startswith("routers=") for word in arguments.settings):
            raise ValueError("router is one alone, routers are several; give router=NAME or routers=[NAME,NAME]")
        settings.routers = [settings.router]
    if (networks := NETWORKS.get(name)) and settings.arch not in (None, *networks):
        raise ValueError(f"arch must be {' or '.join(networks)}, the networks of {name}, got {settings.arch}")
    for setting in ("repetitions", "steps", "children", "parents"):
        if (value := getattr(settings, setting)) is not None and value < 1:
            raise ValueError(f"{setting} must be a whole number of at least 1, got {value}")
    several, _ = batches(name, settings), shapes(settings)
    settings.batch = several if len(several) > 1 else several[0]
    pages = () if settings.pages is None or "pages" not in USED[name] else kinds(settings.pages)
    folder = Path(settings.output_dir, "benchmarks")
    folder.mkdir(parents=True, exist_ok=True)  # before hours of measuring
    hide_harmless_messages()
    keep_freed_memory()  # as in training
    before = _load()
    own = [] if arguments.config_dir is None else ["--config-dir", arguments.config_dir]
    words = [word for word in arguments.settings if not word.startswith(("pages=", "output_dir="))]
    found = [one for kind in pages for one in with_pages(kind, name, [*words, *own])]
    if not pages:
        found = measure(name, settings, arguments.config_dir)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "benchmark": name,
        "settings": {setting: getattr(settings, setting) for setting in USED[name]},
        "measurements": [asdict(measurement) for measurement in found],
        "load": {"before": before, "after": _load(), "cores": os.cpu_count()},
        "devices": [describe_device(torch.device(kind)) for kind in devices],
        "versions": versions(),
        "git_commit": git_commit(),
    }
    write_benchmark(record, folder)
    console = Console()
    if name in TABLES:
        title, make = TABLES[name]
        console.print(to_rich(make(record["measurements"]), title=title))
    else:
        console.print(_table(found, title=f"{name}, {settings.repetitions} repetitions"))
    console.print(f"{'; '.join(record['devices'])}; written to {folder / name}.json", soft_wrap=True)


def measure(name: str, settings: Benchmark, config_dir: str | None = None) -> list[Measurement]:
    """Run a benchmark.

    Args:
        name: of the benchmark.
        settings: of these it reads those in `USED`.
        config_dir: a user's own directory of choices.
    """
    repetitions = settings.repetitions or REPETITIONS
    networks = {arch: make for arch, make in NETWORKS.get(name, {}).items() if settings.arch in (None, arch)}
    several = batches(name, settings)
    routers = make_routers(settings.routers, config_dir) if "routers" in USED[name] else {}
    benchmarks: dict[str, Callable[[], list[Measurement]]] = {
        "contention": lambda: benchmark_contention(environments(SPIN_COUNT), repetitions, settings.steps),
        "data": lambda: benchmark_data(repetitions),
        "layer": lambda: benchmark_layer(routers, repetitions, several, DEVICE, shapes(settings)),
        "paper": lambda: benchmark_paper(works(settings), repetitions, settings.steps, DEVICE),
        "scaling": lambda: benchmark_scaling(routers, repetitions, DEVICE),
        "systems": lambda: benchmark_systems(systems(settings, config_dir), repetitions, several[0], DEVICE),
        "table1": lambda: benchmark_table1(routers, networks, repetitions, several[0]),
        "train": lambda: benchmark_train(
            routers, repetitions, settings.steps, settings.compile, DEVICE, networks, several
        ),
    }
    return benchmarks[name]()


def batches(name: str, settings: Benchmark) -> list[int]:
    """The sizes of a batch that a benchmark is asked for.

    Raises:
        ValueError: one is no whole number of at least 1, or there are several where a benchmark takes one.
    """
    found = _numbers(settings.batch)
    takes_several = name in ("layer", "train")
    if not found or (len(found) > 1 and not takes_several):
        several = " or a list of them such as [1,8,32,128]" if takes_several else ""
        raise ValueError(f"batch must be a whole number of at least 1{several}, got {_shown(settings.batch)}")
    return found


def shapes(settings: Benchmark) -> Mapping[str, Shape] | None:
    """The shape of a layer, if a part of it is given.

    Raises:
        ValueError: dims are not two whole numbers of at least 1.
    """
    if all(getattr(settings, name) is None for name in SHAPE):
        return None
    dims = [8, 16] if settings.dims is None else _numbers(settings.dims)
    if len(dims) != 2:
        raise ValueError(
            f"dims must be the dimensions of a child and of a parent such as [8,16], got {_shown(settings.dims)}"
        )
    return full_transform(settings.children or 1152, settings.parents or 10, dims)


def _shown(given: Any) -> str:
    """A setting as it is typed."""
    return f"[{','.join(map(str, given))}]" if isinstance(given, list) else str(given)


def _numbers(given: Any) -> list[int]:
    """A number or a list of them; an empty list unless all are whole and at least 1."""
    words = [str(one) for one in given] if isinstance(given, list) else [str(given)]
    return [int(word) for word in words] if all(word.isdecimal() and int(word) for word in words) else []


def _load() -> float:
    """The machine's load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def make_routers(names: Sequence[str], config_dir: str | None = None) -> dict[str, RouterFactory]:
    """Instantiate routers by their names in conf/router or in a user's own directory of choices.

    Raises:
        HydraException: there is no such router.
    """
    with open_configuration(config_dir) as loader:
        composer = Composer(loader)
        return {name: instantiate(composer.compose_unchecked([f"router={name}"]).router) for name in names}


def works(settings: Benchmark) -> list[Work]:
    """Plan the paper's runs, taking together those that differ only in their seed.

    Raises:
        ValueError: there is no such experiment of the paper.
    """
    for name in settings.experiments:
        if name not in targets():
            raise ValueError(f"there is no experiment {name} of the paper; there are: {', '.join(targets())}")
    common = [*ABSENT, f"compile={'null' if settings.compile is None else settings.compile}"]
    with open_configuration() as loader:
        runs = [run for name in settings.experiments for run in plan(loader, [f"experiment={name}", *common])]
    found: dict[tuple[str, str, str], Work] = {}
    for identity in (run.identity for run in runs):
        key = (identity.experiment, identity.data, identity.router)
        config = OmegaConf.create(dict(identity.settings))
        trainer = config.trainer
        lengths = trainer.max_epochs, trainer.max_steps, trainer.check_val_every_n_epoch
        work = found.get(key, Work(*key, 0, partial(_make, config), *lengths))
        found[key] = work._replace(runs=work.runs + 1)
    return list(found.values())


def systems(settings: Benchmark, config_dir: str | None = None) -> list[System]:
    """Compose systems as experiment=systems trains them, for each data set.

    Raises:
        HydraException: there is no such system or data set.
    """
    asked = settings.systems
    names = [asked] if isinstance(asked, str) else list(map(str, asked or []))
    words = ["experiment=systems", "seed=1", f"data={','.join(settings.data)}", *ABSENT]
    words += [f"system={','.join(names)}"] if names else []
    with open_configuration(config_dir) as loader:
        runs = [run.identity for run in plan(loader, words)]
    found = []
    for run in runs:
        config = OmegaConf.create(dict(run.settings))
        data = build_data(config)
        found.append(System(run.arch, run.router, run.data, data.input_shape, partial(build_module, config, data)))
    return found


def _make(config: DictConfig) -> tuple[ClassificationModule, ImageDataModule]:
    config.data.data_dir = os.devnull  # no data is there: a few digits of the form of the set's images stand in
    data = build_data(config)
    return build_module(config, data), data


def _table(found: list[Measurement], title: str) -> Table:
    """All measurements, as they are in the JSON file."""
    table = Table("subject", "router", "implementation", "quantity", "unit", "median", "least", "most", title=title)
    for one in found:
        subject = " ".join(str(part) for part in (one.subject, one.device, one.size) if part is not None)
        router = router_title(one.router) if one.router else NOTHING
        spread = (f"{value:,.0f}" if value > 100 else f"{value:.3g}" for value in (one.median, one.least, one.most))
        table.add_row(subject, router, one.implementation or NOTHING, one.quantity, one.unit, *spread)
    return table
