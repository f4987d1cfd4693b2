"""`capsbench report`: a Hydra app that compares the finished runs of experiments."""

from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from rich.console import Console

from capsbench.launch.errors import one_line, plain_exit
from capsbench.launch.protocols import protocol
from capsbench.reports.cells import cells
from capsbench.reports.comparison import Comparison
from capsbench.reports.formats import narrow, say, to_rich
from capsbench.reports.html import write_page
from capsbench.reports.paper import targets
from capsbench.reports.publish import PAGE, PUBLISHED, REPORT, experiments, publish, write_report
from capsbench.reports.readme import fill
from capsbench.reports.runs import OnlySmokeError, unfinished

HELP = """Compare the finished runs of experiments: tables here, and beside the runs report.html
and report/table.md, .tex, .csv, curves.svg and .png. The paper's numbers stand beside ours.

  capsbench report                                  all experiments, and outputs/report.html on all
  capsbench report experiment=table3
  capsbench report experiment=table3 publish=true   what is small also to outputs/published
  capsbench report readme=README.md                 fill its tables from outputs/published

== The configuration ==
$CONFIG
"""
IN_FILES_ONLY = ["Parameters", "Training", "Training images/s", "Inference ms/batch"]
"""Columns that are too many for a terminal."""

ConfigStore.instance().store(
    name="report",
    node={
        "defaults": [{"override hydra/job_logging": "stdout"}, "_self_"],
        "experiment": None,
        "output_dir": "outputs",
        "publish": False,
        "readme": None,
        "hydra": {
            "output_subdir": None,
            "run": {"dir": "."},
            "help": {"app_name": "capsbench report", "template": HELP},
        },
    },
)


@hydra.main(version_base="1.3", config_path=None, config_name="report")
@plain_exit
def app(config: DictConfig) -> None:
    """Print the comparisons; write tables, curves and pages beside the runs, publish them, fill the README."""
    outputs = Path(config.output_dir)
    if config.readme is None or config.publish or config.experiment is not None:
        comparisons = report_on(outputs, config.experiment)
        if config.publish:
            for comparison in comparisons:
                say(f"Published: {publish(comparison, outputs / comparison.name, outputs, protocol)}")
    if config.readme is not None:
        fill(Path(config.readme), outputs / PUBLISHED, protocol)
        say(f"Tables filled: {config.readme}")


def report_on(outputs: Path, experiment: str | None) -> list[Comparison]:
    """Report on an experiment, or on all of them and write a page on all.

    Raises:
        ValueError: there are no finished runs.
    """
    names = in_order(experiments(outputs)) if experiment is None else [experiment]
    if not names:
        raise ValueError(f"no finished runs in {outputs}; make some with: capsbench train -m experiment=demo")
    comparisons = []
    for name in names:
        try:
            comparisons.append(report(outputs / name))
        except OnlySmokeError:
            if experiment is not None:
                raise
            say(f"left out: {outputs / name} has only smoke runs")
    if experiment is None and comparisons:
        write_page(outputs / PAGE, "CapsBench", comparisons)
        say(f"All of these: {outputs / PAGE}")
    return comparisons


def report(root: Path) -> Comparison:
    """Print an experiment's comparison and its unfinished runs; write its report."""
    comparison = write_report(root, protocol)
    table = cells(comparison)
    shown = narrow(table).drop(columns=IN_FILES_ONLY, errors="ignore")
    named = comparison.target or "Data" in shown
    title = comparison.title if named else f"{comparison.title}: {table['Data'][0]}"
    Console(markup=False).print(to_rich(shown, title=title))
    for folder in unfinished(root):
        say(f"left out: {folder} is not finished")
    say(f"Training curves and the same table: {root / PAGE}, {root / REPORT}")
    return comparison


def in_order(names: list[str]) -> list[str]:
    """Sort experiments: the paper's in its order, then the others."""
    order = list(targets())
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def main() -> None:
    """Run the app; an error is one line."""
    with one_line():
        app()
