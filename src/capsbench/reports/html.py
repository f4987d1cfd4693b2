"""The report as one HTML page that needs nothing from elsewhere."""

from pathlib import Path

import jinja2

from capsbench.reports.comparison import Run, panels
from capsbench.reports.figures import to_svg, training_curves


def write_report(path: Path, title: str, runs: list[Run]) -> None:
    """Write tables, training curves, machine and versions of these runs to the page `path`, headed `title`."""
    loader = jinja2.PackageLoader("capsbench.reports", package_path="")
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("report.html.jinja")
    sections = [(p.title, p.table.to_html(index=False, border=0), to_svg(training_curves(p))) for p in panels(runs)]
    page = template.render(
        title=title,
        runs=runs,
        sections=sections,
        devices=sorted({run.result.device for run in runs}),
        versions=runs[-1].result.versions,
        commits=sorted({run.result.git_commit or "unknown" for run in runs}),
    )
    path.write_text(page, encoding="utf-8")
