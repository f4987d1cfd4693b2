"""`capsbench report`: compares the finished runs of experiments."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from capsbench.commands.arguments import Arguments, parse_settings
from capsbench.commands.settings import Report
from capsbench.launch.errors import fail
from capsbench.launch.protocols import departures, protocol
from capsbench.reports.cells import TIMES, tables
from capsbench.reports.comparison import Comparison, family, roots_of
from capsbench.reports.drawings import has_curves
from capsbench.reports.effect_tables import effect_tables
from capsbench.reports.formats import say, to_rich
from capsbench.reports.html import write_page
from capsbench.reports.paper import target_of, targets
from capsbench.reports.publish import PAGE, PUBLISHED, REPORT, experiments, publish, write_report
from capsbench.reports.readme import fill
from capsbench.reports.recipes import as_published, systems_of, write_as_published
from capsbench.reports.runs import NoRunsError, unfinished
from capsbench.reports.sweeps import Sweep
from capsbench.reports.system_tables import system_tables
from capsbench.runs import RunFolder, State, named_folders
from capsbench.runs.names import NAMES

IN_FILES_ONLY = ["n", "Learned %", "P(better)", "Parameters", "Theirs", "Training, s", *TIMES]
"""Columns that are too many for a terminal."""
AS_PUBLISHED = "as_published"
"""What the folder of a report on a table's systems ends with."""
LONGEST = 30
"""Rows of a table in a terminal; of a longer one the effects of settings are printed."""
SHOWN = 3
"""Runs that are named of those that are in no table."""


def main(arguments: Arguments) -> None:
    """Print the comparisons; write tables, curves and pages beside the runs, publish them, fill the README.

    Raises:
        CommandError: files were left out because they cannot be believed; what is written is of the others.
    """
    settings = parse_settings(Report, arguments.settings)
    outputs = Path(settings.output_dir)
    try:
        comparisons, unread = compare(outputs, settings)
    except NoRunsError as error:
        say_left_out(error.faults)
        raise
    if settings.publish:
        for comparison in comparisons:
            say(f"Published: {publish(comparison, outputs, protocol)}")
    if settings.readme is not None:
        fill(Path(settings.readme), outputs / PUBLISHED, protocol)
        say(f"Tables filled: {settings.readme}")
    faults = len(unread) + sum(len(comparison.faults) for comparison in comparisons)
    if faults:
        fail(f"{faults} files cannot be believed and were left out; each is named above")


def compare(outputs: Path, settings: Report) -> tuple[list[Comparison], list[str]]:
    """Report on what the settings name, if anything; see `report_on`.

    Raises:
        ValueError: names and experiment are both given; there are no finished runs, or none with the baseline.
    """
    if settings.as_published:
        return report_as_published(outputs, settings)
    if settings.names:
        if settings.experiment is not None or settings.publish:
            raise ValueError("names=[…] compares sweeps of any experiment; leave experiment= and publish= out")
        return [report_on_names(outputs, settings)], []
    if settings.readme is None or settings.publish or settings.experiment is not None:
        return report_on(outputs, settings)
    return [], []


def report_on(outputs: Path, settings: Report) -> tuple[list[Comparison], list[str]]:
    """Report on an experiment, or on all of them and write a page on all.

    Returns:
        The comparisons, and a line for each file of other experiments that cannot be believed.

    Raises:
        ValueError: there are no finished runs, or none with the baseline.
    """
    names = in_order(experiments(outputs)) if settings.experiment is None else [settings.experiment]
    if not names:
        raise ValueError(f"no finished runs in {outputs}; make some with: capsbench train -m experiment=demo")
    found: list[Comparison] = []
    unread: list[str] = []
    for name in names:
        try:
            found.append(Comparison.of(outputs / name, protocol, settings.baseline, name))
        except NoRunsError as error:
            if len(names) == 1:
                raise
            say_left_out(error.faults)
            unread += error.faults
    if not found:
        raise ValueError(f"no finished runs in {outputs} that can be believed")
    if settings.experiment is None and not all(comparison.smoke for comparison in found):
        for comparison in found:
            if comparison.smoke:
                say(f"left out: {outputs / comparison.name} has only smoke runs")
        found = [comparison for comparison in found if not comparison.smoke]
    for comparison in found:
        roots = roots_of(outputs / comparison.name, comparison.name)
        left_out = [folder for root in roots for folder in unfinished(root)]
        show(comparison, outputs / comparison.name, left_out, settings)
    if settings.experiment is None:
        write_page(outputs / PAGE, "CapsBench", found, show_test=settings.show_test)
        say(f"All of these: {outputs / PAGE}")
    return found, unread


def report_as_published(outputs: Path, settings: Report) -> tuple[list[Comparison], list[str]]:
    """Report on each system of a table with its own recipe, and on all of them in one table.

    Returns:
        See `report_on`.

    Raises:
        ValueError: experiment is no table with such systems, none of them has finished runs, or names or baseline is
            given.
    """
    if settings.names or settings.baseline is not None:
        raise ValueError("as_published=true compares no routers and no sweeps; leave names= and baseline= out")
    table = family(settings.experiment or "")
    found: dict[str, Comparison] = {}
    unread: list[str] = []
    for target in systems_of(table):
        try:
            comparison = Comparison.of(outputs / target.name, protocol, name=target.name)
            found |= {} if comparison.is_chosen else {target.name: comparison}
        except NoRunsError as error:
            say_left_out(error.faults)
            unread += error.faults
    if not found:
        raise ValueError(f"no system of {table} has finished runs in {outputs}; make some: make {table} SYSTEMS=all")
    if not all(comparison.smoke for comparison in found.values()):
        found = {name: comparison for name, comparison in found.items() if not comparison.smoke}
    for name, comparison in found.items():
        left_out = [folder for root in roots_of(outputs / name, name) for folder in unfinished(root)]
        show(comparison, outputs / name, left_out, settings)
    title, root = f"{targets()[table].title.partition(':')[0]} as published", outputs / f"{table}_{AS_PUBLISHED}"
    shown = as_published(table, found, departures)
    write_as_published(title, shown, root / REPORT)
    write_page(root / PAGE, title, list(found.values()), lead=shown, show_test=settings.show_test)
    printed = shown[0].frame.drop(columns=[*IN_FILES_ONLY, "Theirs"], errors="ignore")
    Console(markup=False).print(to_rich(printed, title=title, caption=shown[0].caption, caption_justify="left"))
    say(f"Each system and how its recipe departs from what was published: {root / PAGE}, {root / REPORT}")
    return list(found.values()), unread


def report_on_names(outputs: Path, settings: Report) -> Comparison:
    """Report on the runs of named sweeps together.

    Raises:
        ValueError: no run has one of the names, or none is finished.
    """
    names = [settings.names] if isinstance(settings.names, str) else list(map(str, settings.names))
    folders = named_folders(outputs, names)
    title = " + ".join(names)
    comparison = Comparison.among(title, outputs, folders, settings.baseline)
    left_out = [folder for folder in folders if not folder.is_finished]
    show(comparison, outputs / NAMES / "+".join(names), left_out, settings)
    return comparison


def show(comparison: Comparison, root: Path, left_out: list[RunFolder], settings: Report) -> None:
    """Write a comparison's report; print its tables, and which runs are not in them."""
    write_report(comparison, root, show_test=settings.show_test)
    shown_tables = tables(comparison, all_rows=False, show_test=settings.show_test)
    if comparison.target is None and max(len(table.frame) for table in shown_tables) > LONGEST:
        of_effects = [table for panel in comparison.panels for table in effect_tables(panel, comparison.baseline)]
        shown_tables = of_effects or shown_tables
    shown_tables = system_tables(comparison) or shown_tables
    for number, table in enumerate(shown_tables):
        shown = table.frame.drop(columns=IN_FILES_ONLY, errors="ignore")
        title = comparison.title if number == 0 else None
        Console(markup=False).print(to_rich(shown, title=title, caption=table.caption, caption_justify="left"))
    crashed = {folder: cause for folder in left_out if folder.identity.is_file() and (cause := folder.cause_of_failure)}
    say_first([f"crashed: {folder}: {cause}" for folder, cause in crashed.items()])
    say_first([f"left out: {folder} is {_why(folder)}" for folder in left_out if folder not in crashed])
    say_first([f"left out: {folder} is in another output folder, inside {root}" for folder in comparison.elsewhere])
    if comparison.chosen:
        say(f"left out of the paper's tables: {len(comparison.chosen)} runs that chose when to stop, or their weights")
    say_left_out(comparison.faults)
    say(f"{_contents(comparison)}: {root / PAGE}, {root / REPORT}")


def say_left_out(faults: Sequence[str]) -> None:
    """Name each file that was left out because it cannot be believed."""
    for fault in faults:
        say(f"left out: {fault}")


def say_first(lines: list[str]) -> None:
    """Print a few lines, and how many more there are."""
    for line in lines[:SHOWN]:
        say(line)
    if len(lines) > SHOWN:
        say(f"and {len(lines) - SHOWN} more")


def _why(folder: RunFolder) -> str:
    return "still training" if State.of(folder).name == "running" else "not finished"


def _contents(comparison: Comparison) -> str:
    """Say what a report's files have beside the table that was printed."""
    told = ["Tables of all runs"]
    if any(has_curves(comparison, panel) for panel in comparison.panels):
        told.append("training curves")
    sweeps = [Sweep.of(panel) for panel in comparison.panels]
    if any(sweep.settings for sweep in sweeps):
        told.append("effects of settings" if any(sweep.is_factorial for sweep in sweeps) else "accuracy by setting")
    return ", ".join(told)


def in_order(names: list[str]) -> list[str]:
    """Sort experiments: the paper's in its order, a table's protocols one after the other, then the others."""
    order = list(targets())

    def place(name: str) -> int:
        return order.index(name.partition("_")[0]) if target_of(name) else len(order)

    return sorted(names, key=lambda name: (place(name), name))
