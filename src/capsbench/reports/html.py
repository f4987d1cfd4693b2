"""The report as one self-contained HTML page, whose content security policy forbids every request."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from capsbench.data.files import written_atomically
from capsbench.data.foreign import read_bytes
from capsbench.reports.cells import Table, tables
from capsbench.reports.classes import class_tables
from capsbench.reports.comparison import Comparison, Panel
from capsbench.reports.curves import training_curves
from capsbench.reports.drawings import has_curves, setting_figures
from capsbench.reports.effect_tables import effect_tables
from capsbench.reports.equivariance import (
    analysed,
    equivariance_figure,
    equivariance_table,
    has_pairs,
    invariance_figure,
    invariance_table,
)
from capsbench.reports.figures import colors, in_order, label_of, to_svg
from capsbench.reports.formats import say, to_html
from capsbench.reports.interactive import curves, plotly_source
from capsbench.reports.runs import Run
from capsbench.reports.system_tables import system_tables
from capsbench.reports.systems import groups, time_figure
from capsbench.runs import RunFolder


def write_page(
    path: Path,
    title: str,
    comparisons: list[Comparison],
    *,
    lead: Sequence[Table] = (),
    interactive: bool = True,
    show_test: bool = False,
) -> None:
    """Write a page with the tables, training curves, pictures, machines and versions of these experiments.

    Equivariance and invariance are compared where `capsbench analyze equivariance` has measured them.

    Args:
        path: of the page.
        title: its heading.
        comparisons: one section each.
        lead: tables on all of them, before the sections.
        interactive: whether curves answer to a pointer, which takes plotly.js and makes any page 5 MB; without
            JavaScript a reader sees the same curves as pictures.
        show_test: add what `capsbench evaluate` measured of the test set to the tables.
    """
    loader = jinja2.PackageLoader("capsbench.reports", package_path="")
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("report.html.jinja")
    runs = [run for comparison in comparisons for run in comparison.runs]
    versions: dict[str, set[str]] = {}
    for run in runs:
        for name, version in run.result.versions.items():
            versions.setdefault(name, set()).add(version)
    experiments = [
        _experiment(comparison, f"plot-{number}" if interactive else None, show_test)
        for number, comparison in enumerate(comparisons)
    ]
    sections = [section for experiment in experiments for section in experiment["sections"]]
    page = template.render(
        title=title,
        lead=[{"html": to_html(table.frame), "caption": table.caption} for table in lead],
        experiments=experiments,
        plotly=plotly_source() if any(section.get("plots") for section in sections) else None,
        smoke=any(comparison.smoke for comparison in comparisons),
        devices=sorted({run.result.device for run in runs}),
        versions={name: ", ".join(sorted(found)) for name, found in versions.items()},
        commits=sorted({commit or "unknown" for run in runs for commit in run.result.commits}),
    )
    with written_atomically(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _experiment(comparison: Comparison, name: str | None, show_test: bool) -> dict[str, Any]:
    """What the page shows of a comparison; a name, unique in the page, makes its curves interactive."""
    palette = colors(comparison.panels)
    found = tables(comparison, show_test=show_test)
    return {
        "name": comparison.name,
        "title": comparison.title,
        "target": comparison.target,
        "runs": len(comparison.runs),
        "tables": [
            {
                "html": to_html(table.frame),
                "caption": table.caption,
                "rows": len(table.frame),
            }
            for table in found
        ],
        "systems": [{"html": to_html(table.frame), "caption": table.caption} for table in system_tables(comparison)],
        "system_figures": [to_svg(figure) for group in groups(comparison) if (figure := time_figure(group))],
        "with_times": any("ms/batch" in table.frame for table in found),
        "sections": [
            _section(comparison, panel, palette, name and f"{name}-{number}")
            for number, panel in enumerate(comparison.panels)
        ],
    }


def _section(comparison: Comparison, panel: Panel, palette: dict[str, str], name: str | None) -> dict[str, object]:
    """What the page shows of a panel: pieces of HTML, and pictures as data. Curves are interactive if it has a name."""
    of_effects = effect_tables(panel, comparison.baseline)
    section: dict[str, object] = {
        "title": panel.title,
        "figures": {name: to_svg(figure) for name, figure in setting_figures(panel).items()},
        "effects": [{"html": to_html(table.frame), "caption": table.caption} for table in of_effects],
        "classes": class_tables(panel),
        "pictures": {router: pictures for router, runs in panel.by_label.items() if (pictures := _pictures(runs[0]))},
    }
    if has_curves(comparison, panel):
        section |= {
            "curves": to_svg(training_curves([panel], palette)),
            "plots": curves(panel, palette, name) if name else [],
            "buttons": [(label, label_of(label, runs), palette[label]) for label, runs in in_order(panel)],
        }
    if analysed(panel):
        section |= {
            "of_pairs": has_pairs(panel),
            "equivariance": to_html(equivariance_table(panel)),
            "equivariance_figure": to_svg(equivariance_figure(panel, palette)),
            "invariance": to_html(invariance_table(panel)),
            "invariance_figure": to_svg(invariance_figure(panel, palette)),
        }
    return section


def _pictures(run: Run) -> dict[str, str]:
    """The run's own pictures, no links, as data URIs, by name; reconstructions first."""
    folder = RunFolder(run.folder).pictures
    paths = [] if folder.is_symlink() else folder.glob("*.png")
    found = {}
    for path in sorted(paths, key=lambda path: (path.stem != "reconstructions", path.stem)):
        try:
            content = read_bytes(path)
        except ValueError as error:
            say(f"left out: {error}")
        else:
            found[path.stem.replace("_", " ")] = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return found
