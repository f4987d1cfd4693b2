"""Small results that are committed: outputs/published, and the README's tables, which are made from it."""

import re
import shutil
from pathlib import Path

from capsbench.reports.benchmarks import benchmark_markdown
from capsbench.reports.equivariance import equivariance_table, write_equivariance
from capsbench.reports.figures import write_curves
from capsbench.reports.formats import to_markdown, write_table
from capsbench.reports.html import write_page
from capsbench.reports.tables import Comparison, cells
from capsbench.runs import RunFolder, finished_runs

PUBLISHED = "published"
BENCHMARKS = "benchmarks"
EQUIVARIANCE = "equivariance"
REPORT = "report"
PAGE = "report.html"
MAX_BYTES = 2 * 2**20
"""What a file may have that is to be committed."""

BLOCK = re.compile(r"(?P<begin><!-- table: (?P<name>[\w/-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def write_report(root: Path, *, interactive: bool = True) -> Comparison:
    """Compare the finished runs below an experiment's folder; write tables and figures to report/, and report.html.

    Raises:
        ValueError: there are no finished runs.
    """
    comparison = Comparison.of(root)
    write_table(comparison, root / REPORT)
    write_curves(comparison.panels, root / REPORT)
    write_equivariance(comparison.panels, root / REPORT)
    write_page(root / PAGE, comparison.title, [comparison], interactive=interactive)
    return comparison


def experiments(outputs: Path) -> list[str]:
    """The experiments below `outputs` that have a finished run."""
    names = dict.fromkeys(folder.path.relative_to(outputs).parts[0] for folder in finished_runs(outputs))
    return [name for name in names if name != PUBLISHED]


def publish(comparison: Comparison, root: Path, outputs: Path) -> Path:
    """Copy what is small of an experiment's finished runs to outputs/published, and write the report on it there.

    Runs that were published before stay or, if they are the same run, are replaced; so runs from several machines
    come together.

    Args:
        comparison: of the runs.
        root: their experiment's folder.
        outputs: where published/ is.

    Returns:
        The folder published/EXPERIMENT.

    Raises:
        ValueError: a file would be too large to commit.
    """
    published = outputs / PUBLISHED / comparison.name
    for run in comparison.runs:
        folder = RunFolder(run.folder)
        for source in (folder.result, folder.equivariance, folder.pictures / "reconstructions.png"):
            if source.is_file():
                target = published / source.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    write_report(published, interactive=False)
    for path in sorted(published.rglob("*")):
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            size = path.stat().st_size / 2**20
            raise ValueError(f"{path} has {size:.1f} MiB, a published file has at most {MAX_BYTES / 2**20:.0f}")
    return published


def filled(text: str, published: Path) -> str:
    """A text with the tables of published experiments between its markers, made from the runs published.

    A marker is a line `<!-- table: EXPERIMENT -->`, `<!-- table: EXPERIMENT/equivariance -->` or
    `<!-- table: benchmarks/NAME -->`; what follows it up to `<!-- end -->` is replaced.

    Raises:
        ValueError: a marker names what has not been published.
    """
    return BLOCK.sub(lambda found: f"{found['begin']}\n{_table(published / found['name'])}\n{found['end']}", text)


def _table(place: Path) -> str:
    if place.parent.name == BENCHMARKS:
        path = place.with_name(f"{place.name}.json")
        if not path.is_file():
            command = f"capsbench benchmark {place.name} output_dir={place.parents[1]}"
            raise ValueError(f"{path} is not there; publish it first: {command}")
        return benchmark_markdown(path)
    folder = place.parent if place.name == EQUIVARIANCE else place
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is not there; publish it first: capsbench report experiment={folder.name} publish=true"
        )
    comparison = Comparison.of(folder)
    if place.name != EQUIVARIANCE:
        return to_markdown(cells(comparison))
    tables = [table for panel in comparison.panels if not (table := equivariance_table(panel)).empty]
    if not tables:
        raise ValueError(f"no run in {folder} was analysed; do it first: capsbench analyze equivariance run=DIR")
    return "\n\n".join(to_markdown(table) for table in tables)
