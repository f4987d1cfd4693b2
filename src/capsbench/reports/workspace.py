"""The comparison on Weights & Biases: a saved workspace and a report, as wandb-workspaces specifies them.

A comparison is a group of runs, EXPERIMENT/DATA/ARCH; within it the runs of a router are averaged over seeds.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

ROUTER = wr.Config("choices.router")
ACCURACY, VALIDATION = "test/accuracy", "val/accuracy"
"""A run has one of them: with data.val_fraction it is validated and not tested."""
CURVES = {ACCURACY: "Test accuracy", VALIDATION: "Validation accuracy", "train/accuracy": "Training accuracy"}
COSTS = {
    "wall_time_s": "Training time in s",
    "inference/ms_per_batch": "Inference, ms per batch",
    "parameters": "Parameters",
}
ROUTING = {
    "vote_std": "Standard deviation of votes",
    "coupling_entropy": "Entropy of the coupling (1: uniform)",
    "dead_parents": "Share of dead parents",
    "most_predicted": "Share of the most predicted class",
}
"""Of the watched split; the first three have a curve for each capsule layer."""
CHOICES = ("choices.router", "choices.data", "choices.arch", "choices.decoder", "choices.loss", "choices.optim", "seed")
RECONSTRUCTIONS = "pictures/reconstructions"
MAX_RUNS = 100
REPORT_COLUMNS = 24


class Section(NamedTuple):
    """Panels with their title and an explanation."""

    title: str
    text: str
    panels: list[Any]


def sections() -> list[Section]:
    """List what is shown of a comparison, from the learning curves to the pictures."""
    spread = {"groupby": ROUTER, "groupby_aggfunc": "mean", "max_runs_to_show": MAX_RUNS}
    curves = [
        wr.LinePlot(title=title, x="epoch", y=[metric], title_x="Epoch", groupby_rangefunc="minmax", **spread)
        for metric, title in CURVES.items()
    ]
    routing = [
        wr.LinePlot(
            title=title,
            x="epoch",
            metric_regex=f"^(val|test)/{name}(/|$)",
            title_x="Epoch",
            groupby_rangefunc="minmax",
            **spread,
        )
        for name, title in ROUTING.items()
    ]
    bars = [
        wr.BarPlot(
            title=f"{CURVES[metric]} after the last epoch", metrics=[metric], groupby_rangefunc="minmax", **spread
        )
        for metric in (ACCURACY, VALIDATION)
    ]
    costs = [
        wr.ScatterPlot(title=title, x=wr.SummaryMetric(cost), y=wr.SummaryMetric(ACCURACY), log_x=True)
        for cost, title in COSTS.items()
    ]
    axes: list[Any] = [*map(wr.Config, CHOICES), *map(wr.SummaryMetric, (*COSTS, ACCURACY, VALIDATION))]
    choices = wr.ParallelCoordinatesPlot(columns=[wr.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes])
    pictures = wr.MediaBrowser(media_keys=[RECONSTRUCTIONS], num_columns=1, gallery_axis="run")
    return [
        Section("Accuracy per epoch", "Mean over seeds; the band goes from the lowest seed to the highest.", curves),
        Section("Routing per epoch", "Of each capsule layer, on the watched split's first images.", routing),
        Section("Final accuracy", "Mean over seeds; the line goes from the lowest seed to the highest.", bars),
        Section("Cost against accuracy", "A point for each run.", costs),
        Section("What was chosen", "A line for each run, from its choices to its accuracy.", [choices]),
        Section("Reconstructions", "Inputs over what the decoder draws from the winning pose.", [pictures]),
    ]


def workspace(entity: str, project: str, group: str | None = None) -> ws.Workspace:
    """Make the saved workspace of a comparison.

    Args:
        entity: user or team.
        project: of the runs.
        group: EXPERIMENT/DATA/ARCH; None: all runs of the project together.
    """
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"CapsBench {group or 'all runs'}",
        sections=[ws.Section(name=section.title, panels=section.panels, is_open=True) for section in sections()],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=MAX_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=_filters(group), pinned_columns=[f"summary:{key}" for key in (ACCURACY, VALIDATION)]
        ),
    )


def report(entity: str, project: str, groups: Sequence[str | None]) -> wr.Report:
    """Make a report with a chapter for each comparison.

    Args:
        entity: user or team.
        project: of the runs.
        groups: EXPERIMENT/DATA/ARCH each; None: all runs of the project together.
    """
    blocks: list[Any] = []
    for group in groups:
        runs = wr.Runset(name=group or "All runs", filters=_filters(group))  # of the report's own project
        blocks.append(wr.H1(group or "All runs"))
        for section in sections():
            width = REPORT_COLUMNS // len(section.panels)
            for number, panel in enumerate(section.panels):
                panel.layout = wr.Layout(x=number * width, w=width, h=8)
            blocks += [wr.H2(section.title), wr.P(section.text), wr.PanelGrid(runsets=[runs], panels=section.panels)]
    return wr.Report(
        entity=entity,
        project=project,
        title="CapsBench: routers compared",
        description="Written by capsbench dashboard. Smoke runs are left out.",
        blocks=blocks,
    )


def specification(saved: ws.Workspace | wr.Report) -> dict[str, Any]:
    """Return what saving would send, as JSON's types."""
    specified: dict[str, Any] = saved._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
    return specified


def _filters(group: str | None) -> Any:
    # A filter that is sent, not a comparison; "not True", because a run that is training does not say yet.
    counted = expr.Summary("smoke") != True  # noqa: E712
    return expr.And(counted) if group is None else expr.And(expr.Metric("Group") == group, counted)
