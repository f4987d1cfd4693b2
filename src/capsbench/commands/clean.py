"""`capsbench clean`: how large runs are, and what of them may go."""

import sys
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from capsbench.commands.arguments import Arguments, parse_settings
from capsbench.commands.settings import Clean
from capsbench.reports.formats import say
from capsbench.runs.cleaning import KINDS, Removable, removable, runs_below, size_of
from capsbench.runs.folder import RunFolder

ASKED_FOR = ("weights", "failed")
"""What goes only if a setting says so."""


def main(arguments: Arguments) -> None:
    """Say what may be deleted, and delete it after a question; without a terminal only with --yes.

    Raises:
        ValueError: a folder that was named is not there.
    """
    settings = parse_settings(Clean, arguments.settings)
    outputs = Path(settings.output_dir)
    root = outputs if settings.experiment is None else outputs / settings.experiment
    if not root.is_dir() and root != Path(Clean().output_dir):
        raise ValueError(f"there is no folder {root}; output_dir and experiment say where the runs are")
    runs = [run for run in runs_below(outputs) if root in run.path.parents]
    found = [one for one in removable(outputs, runs) if one.run or settings.experiment is None]
    chosen = [one for one in found if one.kind not in ASKED_FOR or getattr(settings, one.kind)]
    _show(runs, found, chosen)
    if not chosen:
        say("nothing is to be deleted")
        return
    files, size = sum(len(one.paths) for one in chosen), decimal(sum(one.size for one in chosen))
    if not ("yes" in arguments.switches or _is_wanted(files, size)):
        say(f"nothing was deleted; --yes deletes {files} files, {size}")
        return
    deleted = sum(one.remove() for one in chosen)
    say(f"deleted {deleted} of {files} files, {size}")


def _show(runs: list[RunFolder], found: list[Removable], chosen: list[Removable]) -> None:
    files = [path for run in runs for path in run.path.rglob("*") if path.is_file() and not path.is_symlink()]
    checkpoints = [path for path in files if path.suffix == ".ckpt"]
    whole, of_checkpoints = (decimal(sum(map(size_of, paths))) for paths in (files, checkpoints))
    say(f"{len(runs)} runs have {whole}, of which {of_checkpoints} are checkpoints")
    table = Table("What", "Files", "Size", "Goes")
    for kind, what in KINDS.items():
        if of_kind := [one for one in found if one.kind == kind]:
            goes = "yes" if of_kind[0] in chosen else f"with {kind}=true"
            size = decimal(sum(one.size for one in of_kind))
            table.add_row(what, str(sum(len(one.paths) for one in of_kind)), size, goes)
    if table.rows:
        Console(markup=False).print(table)


def _is_wanted(files: int, size: str) -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        return input(f"delete {files} files, {size}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
