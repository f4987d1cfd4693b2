"""What may be deleted of runs: files that the product wrote and nobody needs any more."""

import contextlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from capsbench.runs.folder import RunFolder, begun_runs, finished_runs
from capsbench.runs.identity import Identity
from capsbench.runs.names import NAMES, NamedRuns
from capsbench.runs.result import Result

KINDS = {
    "leftovers": "what only an unfinished run needs, of finished runs; temporary files",
    "weights": "weights of finished runs, which analyze, evaluate and predict need",
    "failed": "runs that failed, which reports count",
    "names": "names that no run has any more",
}
"""What may go."""


@dataclass(frozen=True)
class Removable:
    """Files that may go together.

    Attributes:
        kind: one of `KINDS`.
        paths: regular files, none of them behind a link.
        run: the folder that they are in; None of a list of names.
        state: of that run, in which they may go.
    """

    kind: str
    paths: tuple[Path, ...]
    run: RunFolder | None = None
    state: str | None = None

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(size_of(path) for path in self.paths)

    def remove(self) -> int:
        """Delete the files, and the run's folder if it is empty then; a run that is being trained is left alone.

        Returns:
            How many files were deleted.
        """
        if self.run is None:
            return _delete(self.paths)
        try:
            with filelock.FileLock(self.run.lock).acquire(timeout=0):
                if _state_of(self.run) != self.state:
                    return 0
                count = _delete(self.paths)
        except filelock.Timeout:
            return 0
        if self.kind == "failed":
            self.run.lock.unlink(missing_ok=True)
            for folder in (self.run.weights.parent, *self.run.path.glob("pictures*"), self.run.path):
                with contextlib.suppress(OSError):  # it is not there, or has files of somebody else
                    folder.rmdir()
        return count


def runs_below(outputs: Path) -> list[RunFolder]:
    """The runs of an output folder that are what their folders say; what was published is not among them."""
    found = dict.fromkeys([*finished_runs(outputs), *begun_runs(outputs)])
    published = outputs / "published"
    return [run for run in found if published not in run.path.parents and _state_of(run) is not None]


def removable(outputs: Path, runs: list[RunFolder]) -> Iterator[Removable]:
    """What may be deleted of runs, and the lists of names that point to nothing.

    Runs that are being trained, links, and files that the product did not write are left alone.

    Args:
        outputs: the folder that the runs are in.
        runs: of `runs_below`.
    """
    for run in runs:
        state = _state_of(run)
        if state is None or run.lock.is_symlink() or (state != "finished" and run.is_locked):
            continue
        plain = [path for path in run.own_files if _is_plain(path, outputs)]
        temporary = [path for path in plain if path.suffix == ".tmp"]
        kinds = {"leftovers": temporary}
        if state == "finished":
            kinds["leftovers"] += [path for path in run.leftovers if path in plain and path not in temporary]
            kinds["weights"] = [path for path in plain if path in (run.weights, *run.network)]
        elif state == "failed":
            kinds = {"failed": plain}
        yield from (Removable(kind, tuple(paths), run, state) for kind, paths in kinds.items() if paths)
    for path in sorted(outputs.glob(f"{NAMES}/*.json")):
        with contextlib.suppress(ValueError):  # a file of somebody else
            if _is_plain(path, outputs) and not any(run.path.is_dir() for run in NamedRuns(outputs, path.stem).folders):
                lock = path.with_suffix(".lock")
                yield Removable("names", tuple(each for each in (path, lock) if _is_plain(each, outputs)))


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _state_of(run: RunFolder) -> str | None:
    """Whether a run is finished, failed or begun; None if the folder is not that of the run that its files name."""
    try:
        if run.is_finished:
            Result.load(run.path)
            return "finished"
        Identity.load(run.path)
    except (FileNotFoundError, ValueError):
        return None
    return "begun" if run.cause_of_failure is None else "failed"


def _is_plain(path: Path, outputs: Path) -> bool:
    """Whether this is a regular file, and none of the folders below the outputs that it is in is a link."""
    try:
        is_file = stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
    return is_file and not any(folder.is_symlink() for folder in path.parents if outputs in folder.parents)


def _delete(paths: tuple[Path, ...]) -> int:
    count = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            count += 1
    return count
