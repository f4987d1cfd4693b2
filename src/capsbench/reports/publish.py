"""Reports beside the runs, and copies of small results to be committed: outputs/published."""

import shutil
from pathlib import Path

from capsbench.data.files import written_atomically
from capsbench.reports.cells import tables
from capsbench.reports.comparison import COMPARED_WITH, Comparison, family, roots_of
from capsbench.reports.drawings import write_figures
from capsbench.reports.effect_tables import write_effects
from capsbench.reports.equivariance import write_equivariance
from capsbench.reports.formats import emphasized, to_csv, to_latex, to_markdown
from capsbench.reports.html import write_page
from capsbench.reports.protocol import Protocols
from capsbench.reports.records import numbers
from capsbench.reports.runs import identity_of, unfinished
from capsbench.reports.system_tables import write_systems
from capsbench.runs import Result, RunFolder, finished_runs

PUBLISHED = "published"
SMOKE = "smoke"
"""Where make puts smoke runs."""
REPORT = "report"
PAGE = "report.html"
MAX_BYTES = 2 * 2**20
"""The largest file that is committed."""


def write_report(comparison: Comparison, root: Path, *, interactive: bool = True, show_test: bool = False) -> None:
    """Write tables and figures of a comparison to ROOT/report, and ROOT/report.html.

    Args:
        comparison: of runs.
        root: a folder, which need not exist.
        interactive: whether the page's curves answer to a pointer, which makes it 5 MB.
        show_test: add what `capsbench evaluate` measured of the test set to the tables.
    """
    write_table(comparison, root / REPORT, show_test=show_test)
    write_figures(comparison, root / REPORT)
    write_effects(comparison.panels, root / REPORT, comparison.baseline)
    write_systems(comparison, root / REPORT)
    write_equivariance(comparison.panels, root / REPORT)
    write_page(root / PAGE, comparison.title, [comparison], interactive=interactive, show_test=show_test)


def write_table(comparison: Comparison, folder: Path, *, show_test: bool = False) -> None:
    """Write table.md, table.tex and table.csv into a folder, which is made if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = tables(comparison, show_test=show_test)
    texts = {
        "md": "\n".join(f"{to_markdown(table.frame)}\n{emphasized(table.caption)}" for table in shown),
        "tex": "\n".join(to_latex(table.frame, f"{comparison.title}. {table.caption}") for table in shown),
        "csv": to_csv(numbers(comparison)),
    }
    for ending, text in texts.items():
        with written_atomically(folder / f"table.{ending}") as path:
            path.write_text(text, encoding="utf-8")


def experiments(outputs: Path) -> list[str]:
    """List the experiments below `outputs` that have a finished run; both protocols of a table are one.

    In an output folder inside another, such as outputs/a/outputs, there is the experiment a/outputs/b.
    """
    names = dict.fromkeys(_experiment(folder, outputs) for folder in finished_runs(outputs))
    return list(dict.fromkeys(family(name) for name in names if name.partition("/")[0] not in ("", PUBLISHED, SMOKE)))


def _experiment(folder: RunFolder, outputs: Path) -> str:
    """Where the experiment of a run has its folder; of a file that cannot be believed it is the likely place."""
    parts = folder.path.relative_to(outputs).parts
    try:
        run = Result.load(folder.path).run
        depth = len(Path(run.data, run.arch, run.router, "seed").parts)
    except ValueError:
        depth = min(4, len(parts) - 1)
    return "/".join(parts[: len(parts) - depth])


def publish(comparison: Comparison, outputs: Path, protocols: Protocols) -> Path:
    """Copy the small files of an experiment's runs to outputs/published, and write a report on them there.

    Runs that were published before stay, or are replaced by the same run; so the runs of several machines add up. Of a
    run that failed the cause is kept, until it succeeds.

    Args:
        comparison: of the runs.
        outputs: where the runs are, and published/ is.
        protocols: composes the paper's runs.

    Returns:
        The folder published/EXPERIMENT.

    Raises:
        ValueError: these are smoke runs, a file is too large to commit, or there is a link in a run's folder.
    """
    if comparison.smoke:
        raise ValueError(f"{comparison.name} has only smoke runs, whose numbers mean nothing; they are not published")
    failed = [folder for root in roots_of(outputs / comparison.name, comparison.name) for folder in unfinished(root)]
    failed = [folder for folder in failed if folder.cause_of_failure is not None]
    for folder in (*(RunFolder(run.folder) for run in comparison.runs), *failed):
        folder.refuse_links()
    for run in comparison.runs:
        folder = RunFolder(run.folder)
        measured = [folder.equivariance] * (run.equivariance is not None)
        measured += [folder.evaluation("test")] * (run.tested is not None)
        for source in (folder.result, *measured, folder.pictures / "reconstructions.png"):
            if source.is_file():
                _copy(source, outputs)
        RunFolder(_published(run.folder, outputs)).failure.unlink(missing_ok=True)
    for folder in failed:
        if identity_of(folder) is not None:
            _copy(folder.identity, outputs)
        failure = RunFolder(_published(folder.path, outputs)).failure
        failure.parent.mkdir(parents=True, exist_ok=True)
        with written_atomically(failure) as path:
            path.write_text(f"{folder.cause_of_failure}\n", encoding="utf-8")
    published = outputs / PUBLISHED / comparison.name
    baseline = None if comparison.baseline == COMPARED_WITH else comparison.baseline
    write_report(Comparison.of(published, protocols, baseline, comparison.name), published, interactive=False)
    for path in sorted(published.rglob("*")):
        if path.is_file():
            _check_size(path)
    return published


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path} has {size / 2**20:.1f} MiB, a published file has at most {MAX_BYTES / 2**20:.0f}")


def _copy(source: Path, outputs: Path) -> None:
    _check_size(source)
    target = _published(source, outputs)
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_atomically(target) as path:
        shutil.copyfile(source, path)


def _published(path: Path, outputs: Path) -> Path:
    return outputs / PUBLISHED / path.relative_to(outputs)
