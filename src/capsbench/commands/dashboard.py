"""`capsbench dashboard`: the comparison on Weights & Biases, as a saved workspace and a report."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from capsbench.launch.errors import missing_extra, one_line

HELP = """Save a workspace for each comparison, and a report of all, to the Weights & Biases project of the runs.

A comparison is EXPERIMENT/DATA/ARCH, the group of the runs in W&B; where none is named, those that have runs with
logger=wandb below the output folder, or else all runs together.

  capsbench dashboard --dry-run                       print what would be saved; needs neither account nor network
  capsbench dashboard demo/digits/resnet_capsnet_small
"""


def main() -> None:
    """Run the command; an error is one line."""
    parser = argparse.ArgumentParser(
        prog="capsbench dashboard", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="EXPERIMENT/DATA/ARCH")
    parser.add_argument("--entity", help="user or team; without it, your account's default")
    parser.add_argument("--project", default="capsbench")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"))
    parser.add_argument("--dry-run", action="store_true", help="print the specification as JSON")
    arguments = parser.parse_args()
    with one_line():
        groups = arguments.groups or logged_groups(arguments.output_dir) or [None]
        run(groups, arguments.entity, arguments.project, arguments.dry_run)


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
