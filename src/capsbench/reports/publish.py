"""Reports beside the runs, and copies of small results to be committed: outputs/published."""

import shutil
from pathlib import Path

from capsbench.data.files import written_atomically
from capsbench.reports.cells import cells, numbers
from capsbench.reports.comparison import Comparison
from capsbench.reports.equivariance import write_equivariance
from capsbench.reports.figures import write_curves
from capsbench.reports.formats import to_latex, to_markdown
from capsbench.reports.html import write_page
from capsbench.reports.protocol import Protocols
from capsbench.reports.runs import unfinished
from capsbench.runs import RunFolder, finished_runs

PUBLISHED = "published"
REPORT = "report"
PAGE = "report.html"
MAX_BYTES = 2 * 2**20
"""The largest file that is committed."""


def write_report(root: Path, protocols: Protocols, *, interactive: bool = True) -> Comparison:
    """Compare the finished runs below an experiment's folder; write tables and figures to report/, and report.html.

    Args:
        root: the folder.
        protocols: composes the paper's runs.
        interactive: whether the page's curves answer to a pointer, which makes it 5 MB.

    Raises:
        ValueError: there are no finished runs.
    """
    comparison = Comparison.of(root, protocols)
    write_table(comparison, root / REPORT)
    write_curves(comparison.panels, root / REPORT)
    write_equivariance(comparison.panels, root / REPORT)
    write_page(root / PAGE, comparison.title, [comparison], interactive=interactive)
    return comparison


def write_table(comparison: Comparison, folder: Path) -> None:
    """Write table.md, table.tex and table.csv into a folder, which is made if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = cells(comparison)
    texts = {
        "md": to_markdown(shown),
        "tex": to_latex(shown, comparison.title),
        "csv": numbers(comparison).to_csv(index=False),
    }
    for ending, text in texts.items():
        with written_atomically(folder / f"table.{ending}") as path:
            path.write_text(text, encoding="utf-8")


def experiments(outputs: Path) -> list[str]:
    """List the experiments below `outputs` that have a finished run."""
    names = dict.fromkeys(folder.path.relative_to(outputs).parts[0] for folder in finished_runs(outputs))
    return [name for name in names if name != PUBLISHED]


def publish(comparison: Comparison, root: Path, outputs: Path, protocols: Protocols) -> Path:
    """Copy the small files of an experiment's runs to outputs/published, and write a report on them there.

    Runs that were published before stay, or are replaced by the same run; so the runs of several machines add up. Of a
    run that failed the cause is kept, until it succeeds.

    Args:
        comparison: of the runs.
        root: their experiment's folder.
        outputs: where published/ is.
        protocols: composes the paper's runs.

    Returns:
        The folder published/EXPERIMENT.

    Raises:
        ValueError: a file is too large to commit.
    """
    published = outputs / PUBLISHED / comparison.name
    for run in comparison.runs:
        folder = RunFolder(run.folder)
        for source in (folder.result, folder.equivariance, folder.pictures / "reconstructions.png"):
            if source.is_file():
                target = published / source.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        RunFolder(published / run.folder.relative_to(root)).failure.unlink(missing_ok=True)
    for folder in unfinished(root):
        if folder.cause_of_failure is not None:
            failure = RunFolder(published / folder.path.relative_to(root)).failure
            failure.parent.mkdir(parents=True, exist_ok=True)
            failure.write_text(f"{folder.cause_of_failure}\n", encoding="utf-8")
    write_report(published, protocols, interactive=False)
    for path in sorted(published.rglob("*")):
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            size = path.stat().st_size / 2**20
            raise ValueError(f"{path} has {size:.1f} MiB, a published file has at most {MAX_BYTES / 2**20:.0f}")
    return published
