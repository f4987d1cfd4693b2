"""`capsbench benchmark`: measure, print a table, write JSON."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from capsbench.benchmarks.data import benchmark_data
from capsbench.benchmarks.table1 import benchmark_table1
from capsbench.errors import one_line, plain_exit
from capsbench.experiments.result import describe_device, git_commit, versions
from capsbench.reports.formats import to_rich
from capsbench.reports.table1 import table1, write_table1

BENCHMARKS: dict[str, Callable[[DictConfig], dict[str, dict[str, float]]]] = {
    "data": lambda config: benchmark_data(config.repetitions),
    "table1": lambda config: benchmark_table1(config.repetitions, config.batch_size),
}

HELP = """Measure how fast things are; each way in turn, several times.

  capsbench benchmark data        images per second of data loading, against the usual way
  capsbench benchmark table1      milliseconds per batch of CapsNet with each router, as in the paper's table 1

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
    for name in ("repetitions", "batch_size"):
        if config[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {config[name]}")
    measured = BENCHMARKS[config.name](config)
    record: dict[str, Any] = {
        "benchmark": config.name,
        "repetitions": config.repetitions,
        "batch_size": config.batch_size,
        "measured": measured,
        "devices": [
            describe_device(torch.device(kind)) for kind in ("cpu", *(["cuda"] if torch.cuda.is_available() else []))
        ],
        "versions": versions(),
        "git_commit": git_commit(),
    }
    path = Path(config.output_dir, "benchmarks", f"{config.name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False))

    if config.name == "table1":
        write_table1(measured, path.parent)
        Console().print(to_rich(table1(measured), title="Table 1: milliseconds per batch"))
    table = Table("", "median", "least", "most", title=f"{config.name}, {config.repetitions} repetitions")
    for name, spread in measured.items():
        table.add_row(name, *(f"{value:,.0f}" if value > 100 else f"{value:.2f}" for value in spread.values()))
    console = Console()
    console.print(table)
    console.print(f"{'; '.join(record['devices'])}; written to {path}", soft_wrap=True)


def main() -> None:
    """Run the app; the first argument may be the benchmark's name alone."""
    if len(sys.argv) > 1 and "=" not in sys.argv[1] and not sys.argv[1].startswith("-"):
        sys.argv[1] = f"name={sys.argv[1]}"
    with one_line():
        app()


if __name__ == "__main__":
    main()
