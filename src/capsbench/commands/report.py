"""`capsbench report`: compares the finished runs of experiments."""

from pathlib import Path

from rich.console import Console

from capsbench.commands.arguments import Arguments, parse_settings
from capsbench.commands.settings import Report
from capsbench.data.files import written_atomically
from capsbench.reports.comparison import OnlySmokeError, unfinished
from capsbench.reports.formats import narrow, say, to_rich
from capsbench.reports.html import write_page
from capsbench.reports.paper import targets
from capsbench.reports.publish import PAGE, PUBLISHED, REPORT, experiments, filled, publish, write_report
from capsbench.reports.tables import Comparison, cells

IN_FILES_ONLY = ["Parameters", "Training", "Training images/s", "Inference ms/batch"]
"""Columns that a terminal has no room for."""


def main(arguments: Arguments) -> None:
    """Print the comparisons; write tables, curves and pages beside the runs, publish them, fill the README."""
    settings = parse_settings(Report, arguments.settings)
    outputs = Path(settings.output_dir)
    if settings.readme is None or settings.publish or settings.experiment is not None:
        names = in_order(experiments(outputs)) if settings.experiment is None else [settings.experiment]
        if not names:
            raise ValueError(f"no finished runs in {outputs}; make some with: capsbench train -m experiment=demo")
        comparisons = []
        for name in names:
            try:
                comparisons.append(report(outputs / name))
            except OnlySmokeError:
                if settings.experiment is not None:
                    raise
                say(f"left out: {outputs / name} has only smoke runs")
        if settings.experiment is None and comparisons:
            write_page(outputs / PAGE, "CapsBench", comparisons)
            say(f"All of these: {outputs / PAGE}")
        if settings.publish:
            for comparison in comparisons:
                say(f"Published: {publish(comparison, outputs / comparison.name, outputs)}")
    if settings.readme is not None:
        readme = Path(settings.readme)
        text = filled(readme.read_text(encoding="utf-8"), outputs / PUBLISHED)
        with written_atomically(readme) as path:
            path.write_text(text, encoding="utf-8")
        say(f"Tables filled: {readme}")


def report(root: Path) -> Comparison:
    """Print an experiment's comparison and what is missing in it; write its report."""
    comparison = write_report(root)
    shown = narrow(cells(comparison)).drop(columns=IN_FILES_ONLY, errors="ignore")
    title = (
        comparison.title if comparison.target or "Data" in shown else f"{comparison.title}: {comparison.rows[0].data}"
    )
    Console(markup=False).print(to_rich(shown, title=title))
    for folder in unfinished(root):
        say(f"not in it: {folder} is not finished")
    say(f"Training curves and the same table: {root / PAGE}, {root / REPORT}")
    return comparison


def in_order(names: list[str]) -> list[str]:
    """The paper's experiments in its order, then the others."""
    order = list(targets())
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))
