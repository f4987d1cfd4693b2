"""Tables in README and docs, filled from what is published."""

import re
from pathlib import Path

import pandas as pd

from capsbench.data.files import written_atomically
from capsbench.reports.cells import tables
from capsbench.reports.comparison import Comparison
from capsbench.reports.effect_tables import EFFECTS, effect_tables
from capsbench.reports.equivariance import equivariance_table
from capsbench.reports.formats import emphasized, to_markdown
from capsbench.reports.protocol import Protocols
from capsbench.reports.speed import benchmark_markdown
from capsbench.reports.system_tables import SYSTEMS, system_tables

BENCHMARKS = "benchmarks"
EQUIVARIANCE = "equivariance"
TABLES = (EFFECTS, SYSTEMS, EQUIVARIANCE)
"""Tables of an experiment beside its first."""
BLOCK = re.compile(r"(?P<begin><!-- table: (?P<name>[\w/-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def fill(page: Path, published: Path, protocols: Protocols) -> None:
    """Fill the tables of a page in place; see `filled`."""
    text = filled(page.read_text(encoding="utf-8"), published, protocols)
    with written_atomically(page) as path:
        path.write_text(text, encoding="utf-8")


def filled(text: str, published: Path, protocols: Protocols) -> str:
    """Replace what stands between the markers of a text by tables of published results.

    A marker is a line `<!-- table: EXPERIMENT -->`, `<!-- table: EXPERIMENT/effects -->`,
    `<!-- table: EXPERIMENT/systems -->`, `<!-- table: EXPERIMENT/equivariance -->` or
    `<!-- table: benchmarks/NAME -->`; its table ends at `<!-- end -->`.

    Args:
        text: of the page.
        published: the folder of published results.
        protocols: composes the paper's runs.

    Raises:
        ValueError: a marker names what has not been published.
    """
    return BLOCK.sub(
        lambda found: f"{found['begin']}\n{_table(published, found['name'], protocols)}\n{found['end']}", text
    )


def _table(published: Path, name: str, protocols: Protocols) -> str:
    place = published / name
    if place.parent.name == BENCHMARKS:
        path = place.with_name(f"{place.name}.json")
        if not path.is_file():
            command = f"capsbench benchmark {place.name} output_dir={place.parents[1]}"
            raise ValueError(f"{path} does not exist; publish it first: {command}")
        return benchmark_markdown(path)
    folder = place.parent if place.name in TABLES and place.parent != published else place
    if not folder.is_dir():
        command = f"capsbench report experiment={folder.name} publish=true"
        raise ValueError(f"{folder} does not exist; publish it first: {command}")
    comparison = Comparison.of(folder, protocols, name=folder.relative_to(published).as_posix())
    if comparison.faults:
        raise ValueError(f"{comparison.faults[0]} (tables of a page need all that is published)")
    if place.name != EQUIVARIANCE:
        if place.name == EFFECTS:
            shown = [table for panel in comparison.panels for table in effect_tables(panel, comparison.baseline)]
        elif place != folder:
            shown = system_tables(comparison)
        else:
            shown = tables(comparison, all_rows=False)
        if not shown:
            raise ValueError(
                f"there is no table of {place.name} in {folder}: too little varies in its runs; use {folder.name}"
            )
        return "\n".join(_with_caption(table.frame, table.caption) for table in shown)
    shared = comparison.shared
    measured = [equivariance_table(panel) for panel in comparison.without_shared().panels]
    measured = [table for table in measured if not table.empty]
    if not measured:
        raise ValueError(f"no run in {folder} was analysed; do it first: capsbench analyze equivariance run=DIR")
    caption = f"Every run of ours differs from the paper's in: {', '.join(shared)}." if shared else ""
    return "\n".join(_with_caption(table, caption) for table in measured)


def _with_caption(table: pd.DataFrame, caption: str) -> str:
    return to_markdown(table) + (f"\n{emphasized(caption)}" if caption else "")
