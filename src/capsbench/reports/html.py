"""The report as one HTML page that needs nothing from elsewhere."""

import base64
from pathlib import Path

import jinja2

from capsbench.experiments.run import PICTURES
from capsbench.reports.comparison import Panel, Run, panels
from capsbench.reports.equivariance import (
    analysed,
    equivariance_figure,
    equivariance_table,
    invariance_figure,
    invariance_table,
)
from capsbench.reports.figures import to_svg, training_curves


def write_report(path: Path, title: str, runs: list[Run]) -> None:
    """Write tables, training curves, pictures, machine and versions of these runs to the page `path`, headed `title`.

    Runs that `capsbench analyze equivariance` has looked into are compared in that too.
    """
    loader = jinja2.PackageLoader("capsbench.reports", package_path="")
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("report.html.jinja")
    page = template.render(
        title=title,
        runs=runs,
        sections=[_section(panel) for panel in panels(runs)],
        devices=sorted({run.result.device for run in runs}),
        versions=runs[-1].result.versions,
        commits=sorted({run.result.git_commit or "unknown" for run in runs}),
    )
    path.write_text(page, encoding="utf-8")


def _section(panel: Panel) -> dict[str, object]:
    """What the page shows of a panel: finished pieces of HTML, and pictures as data."""
    section: dict[str, object] = {
        "title": panel.title,
        "table": panel.table.to_html(index=False, border=0),
        "curves": to_svg(training_curves(panel)),
        "pictures": {router: pictures for router, runs in panel.routers.items() if (pictures := _pictures(runs[0]))},
    }
    if analysed(panel):
        section |= {
            "equivariance": equivariance_table(panel).to_html(index=False, border=0),
            "equivariance_figure": to_svg(equivariance_figure(panel)),
            "invariance": invariance_table(panel).to_html(index=False, border=0),
            "invariance_figure": to_svg(invariance_figure(panel)),
        }
    return section


def _pictures(run: Run) -> dict[str, str]:
    """The run's pictures as data URIs, by name; reconstructions first."""
    paths = sorted((run.folder / PICTURES).glob("*.png"), key=lambda path: (path.stem != "reconstructions", path.stem))
    return {
        path.stem.replace("_", " "): "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        for path in paths
    }
