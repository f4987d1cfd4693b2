"""The report as one HTML page that needs nothing from elsewhere, and is told by its policy to ask for nothing."""

import base64
from pathlib import Path

import jinja2

from capsbench.reports.comparison import Panel, Run
from capsbench.reports.equivariance import (
    analysed,
    equivariance_figure,
    equivariance_table,
    invariance_figure,
    invariance_table,
)
from capsbench.reports.figures import colors, in_order, label_of, to_svg, training_curves
from capsbench.reports.formats import narrow, to_html
from capsbench.reports.interactive import curves, plotly_source
from capsbench.reports.tables import Comparison, cells
from capsbench.runs import RunFolder


def write_page(path: Path, title: str, comparisons: list[Comparison], *, interactive: bool = True) -> None:
    """Write tables, training curves, pictures, machines and versions of these experiments to the page `path`.

    Runs that `capsbench analyze equivariance` has looked into are compared in that too.

    Args:
        path: of the page.
        title: its heading.
        comparisons: one section each.
        interactive: whether curves answer to a pointer; that takes plotly.js, which makes any page 5 MB. A reader
            without JavaScript sees the same curves as pictures.
    """
    loader = jinja2.PackageLoader("capsbench.reports", package_path="")
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("report.html.jinja")
    runs = [run for comparison in comparisons for run in comparison.runs]
    versions: dict[str, set[str]] = {}
    for run in runs:
        for name, version in run.result.versions.items():
            versions.setdefault(name, set()).add(version)
    page = template.render(
        title=title,
        experiments=[_experiment(comparison, interactive) for comparison in comparisons],
        plotly=plotly_source() if interactive else None,
        devices=sorted({run.result.device for run in runs}),
        versions={name: ", ".join(sorted(found)) for name, found in versions.items()},
        commits=sorted({run.result.git_commit or "unknown" for run in runs}),
    )
    path.write_text(page, encoding="utf-8")


def _experiment(comparison: Comparison, interactive: bool) -> dict[str, object]:
    palette = colors(comparison.panels)
    table = narrow(cells(comparison))
    return {
        "name": comparison.name,
        "title": comparison.title,
        "target": comparison.target,
        "runs": len(comparison.runs),
        "table": to_html(table),
        "with_data": "Data" in table,
        "sections": [
            _section(panel, palette, f"{comparison.name}-{number}" if interactive else None)
            for number, panel in enumerate(comparison.panels)
        ],
    }


def _section(panel: Panel, palette: dict[str, str], name: str | None) -> dict[str, object]:
    """What the page shows of a panel: finished pieces of HTML, and pictures as data."""
    section: dict[str, object] = {
        "title": panel.title,
        "curves": to_svg(training_curves([panel], palette)),
        "plots": curves(panel, palette, name) if name else [],
        "buttons": [(label, label_of(label, runs), palette[label]) for label, runs in in_order(panel)],
        "pictures": {router: pictures for router, runs in panel.routers.items() if (pictures := _pictures(runs[0]))},
    }
    if analysed(panel):
        section |= {
            "equivariance": to_html(equivariance_table(panel)),
            "equivariance_figure": to_svg(equivariance_figure(panel, palette)),
            "invariance": to_html(invariance_table(panel)),
            "invariance_figure": to_svg(invariance_figure(panel, palette)),
        }
    return section


def _pictures(run: Run) -> dict[str, str]:
    """The run's pictures as data URIs, by name; reconstructions first."""
    paths = sorted(
        RunFolder(run.folder).pictures.glob("*.png"), key=lambda path: (path.stem != "reconstructions", path.stem)
    )
    return {
        path.stem.replace("_", " "): "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        for path in paths
    }
