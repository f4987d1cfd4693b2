"""`capsbench dashboard`: the comparison on Weights & Biases, as a saved workspace and a report."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from capsbench.commands.arguments import Arguments, parse_settings
from capsbench.commands.settings import Dashboard
from capsbench.launch.errors import missing_extra


def main(arguments: Arguments) -> None:
    """Save the comparisons that the settings name, or print what would be saved."""
    settings = parse_settings(Dashboard, arguments.settings)
    named = settings.group if isinstance(settings.group, list) else [settings.group] if settings.group else []
    groups = named or logged_groups(Path(settings.output_dir)) or [None]
    entity = settings.entity or os.environ.get("WANDB_ENTITY")
    project = settings.project or os.environ.get("WANDB_PROJECT") or "capsbench"
    run(groups, entity, project, "dry-run" in arguments.switches)


def logged_groups(outputs: Path) -> list[str]:
    """The comparisons that have runs with logger=wandb in this output folder."""
    folders = outputs.glob("*/*/*/*/*/wandb")
    return sorted({"/".join(folder.relative_to(outputs).parts[:3]) for folder in folders})


def run(groups: Sequence[str | None], entity: str | None, project: str, dry_run: bool) -> None:
    """Save the workspaces and the report, and print where they are; or print what would be saved.

    Raises:
        ValueError: a group is not EXPERIMENT/DATA/ARCH; wandb-workspaces is not installed; nobody is logged in.
    """
    for group in groups:
        if group is not None and (group.count("/") != 2 or not all(group.split("/"))):
            raise ValueError(f"a comparison is named EXPERIMENT/DATA/ARCH, such as demo/digits/capsnet, got {group}")
    try:
        from capsbench.reports.workspace import report, specification, workspace
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("wandb_workspaces"):
            raise
        raise ValueError(missing_extra("capsbench dashboard", "dashboard")) from error
    account = "your-entity" if dry_run else default_entity()
    entity = entity or account
    saved = [*(workspace(entity, project, group) for group in groups), report(entity, project, groups)]
    if dry_run:
        *workspaces, written = map(specification, saved)
        print(json.dumps({"workspaces": workspaces, "report": written}, indent=2, ensure_ascii=False))
        return
    for made in saved:
        made.save()
        print(made.url)


def default_entity() -> str:
    """Whose account this is.

    Raises:
        ValueError: nobody is logged in.
    """
    import wandb

    try:
        entity = wandb.Api().default_entity
    except wandb.errors.UsageError as error:
        raise ValueError("nobody is logged in to Weights & Biases: run wandb login, or look with --dry-run") from error
    return str(entity)
