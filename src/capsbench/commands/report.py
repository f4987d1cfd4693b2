"""`capsbench report`: compares the finished runs of experiments."""

from pathlib import Path

from rich.console import Console

from capsbench.commands.arguments import Arguments, parse_settings
from capsbench.commands.settings import Report
from capsbench.launch.protocols import protocol
from capsbench.reports.cells import cells
from capsbench.reports.comparison import Comparison
from capsbench.reports.formats import narrow, say, to_rich
from capsbench.reports.html import write_page
from capsbench.reports.paper import target_of, targets
from capsbench.reports.publish import PAGE, PUBLISHED, REPORT, experiments, publish, write_report
from capsbench.reports.readme import fill
from capsbench.reports.runs import OnlySmokeError, unfinished

IN_FILES_ONLY = ["Parameters", "Training", "Training images/s", "Inference ms/batch"]
"""Columns that are too many for a terminal."""


def main(arguments: Arguments) -> None:
    """Print the comparisons; write tables, curves and pages beside the runs, publish them, fill the README."""
    settings = parse_settings(Report, arguments.settings)
    outputs = Path(settings.output_dir)
    if settings.readme is None or settings.publish or settings.experiment is not None:
        comparisons = report_on(outputs, settings.experiment)
        if settings.publish:
            for comparison in comparisons:
                say(f"Published: {publish(comparison, outputs / comparison.name, outputs, protocol)}")
    if settings.readme is not None:
        fill(Path(settings.readme), outputs / PUBLISHED, protocol)
        say(f"Tables filled: {settings.readme}")


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
    """Sort experiments: the paper's in its order, a table's protocols one after the other, then the others."""
    order = list(targets())

    def place(name: str) -> int:
        return order.index(name.partition("_")[0]) if target_of(name) else len(order)

    return sorted(names, key=lambda name: (place(name), name))
