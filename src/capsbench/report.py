"""`capsbench report`: a Hydra app that compares the finished runs of an experiment."""

from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig
from rich.console import Console
from rich.table import Table

from capsbench.errors import one_line, plain_exit
from capsbench.reports.comparison import load_runs, panels, unfinished
from capsbench.reports.figures import training_curves
from capsbench.reports.html import write_report

HELP = """Compare the finished runs of an experiment: a table here, and beside the runs
report.html and the curves as SVG.

  capsbench report experiment=demo

== The configuration ==
$CONFIG
"""
ConfigStore.instance().store(
    name="report",
    node={
        "defaults": [{"override hydra/job_logging": "stdout"}, "_self_"],
        "experiment": MISSING,
        "output_dir": "outputs",
        "hydra": {
            "output_subdir": None,
            "run": {"dir": "."},
            "help": {"app_name": "capsbench report", "template": HELP},
        },
    },
)


@hydra.main(version_base="1.3", config_path=None, config_name="report")
@plain_exit
def app(config: DictConfig) -> None:
    """Print the comparison; write the curves and report.html beside the runs."""
    root = Path(config.output_dir, config.experiment)
    runs = load_runs(root)
    console = Console()
    for panel in panels(runs):
        training_curves(panel).savefig(root / f"{panel.title.replace(' / ', '-')}.svg")
        shown = Table(title=f"{config.experiment}: {panel.title}")
        for column in panel.table.columns:
            shown.add_column(column, justify="left" if column == "Router" else "right", overflow="fold")
        for row in panel.table.itertuples(index=False):
            shown.add_row(*row)
        console.print(shown)

    for folder in unfinished(root):
        console.print(f"not in it: {folder} is not finished", soft_wrap=True)
    page = root / "report.html"
    write_report(page, config.experiment, runs)
    console.print(f"Training curves and the same table: {page}", soft_wrap=True)


def main() -> None:
    """Run the app; an error is one line."""
    with one_line():
        app()


if __name__ == "__main__":
    main()
