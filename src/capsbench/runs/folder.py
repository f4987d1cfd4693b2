"""A run's folder: every file in it, by name."""

import contextlib
import json
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from capsbench.data.files import WriteError, written_atomically
from capsbench.data.foreign import read_bytes, read_json, refuse_links

LOCK_PATIENCE = 1.0
"""Seconds to wait for a lock: whoever only looks holds it for a moment."""


class LockedError(Exception):
    """Another process trains the run."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. No other module spells the name of a file in it.

    Attributes:
        path: of the folder, which need not exist.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def result(self) -> Path:
        """What came out of the run. It is written last, so a run that has one is finished."""
        return self.path / "result.json"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def identity(self) -> Path:
        """What the run is: the fields of its `Identity`."""
        return self.path / "identity.json"

    @property
    def failure(self) -> Path:
        """The cause in the first line, then the traceback, of a run that failed."""
        return self.path / "error.txt"

    @property
    def progress(self) -> Path:
        """How far an unfinished run is."""
        return self.path / "progress.json"

    @property
    def lock(self) -> Path:
        """Held by the process that trains the run."""
        return self.path / "run.lock"

    @property
    def session(self) -> Path:
        """Which process trains the run. It stays behind where that process was killed."""
        return self.path / "session.json"

    @property
    def weights(self) -> Path:
        """Weights and optimizer after the last epoch; an unfinished run that has them is to be tested."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def resume(self) -> Path:
        """The checkpoint that an interrupted run continues from."""
        return self.path / "checkpoints" / "resume.ckpt"

    @property
    def pictures(self) -> Path:
        """Reconstructions and pose tours."""
        return self.path / "pictures"

    @property
    def equivariance(self) -> Path:
        """What `capsbench analyze equivariance` measured."""
        return self.path / "equivariance.json"

    def evaluation(self, split: str) -> Path:
        """What `capsbench evaluate` measured of a split."""
        return self.path / f"evaluation-{split}.json"

    @property
    def wandb(self) -> Path:
        """What the wandb logger keeps."""
        return self.path / "wandb"

    @property
    def is_finished(self) -> bool:
        """Whether the run has a result."""
        return self.result.is_file()

    @property
    def cause_of_failure(self) -> str | None:
        """Why the run failed, in one line; None if it did not."""
        try:
            return read_bytes(self.failure).decode(errors="replace").partition("\n")[0]
        except FileNotFoundError:
            return None
        except ValueError as error:
            return str(error)

    def record_failure(self, cause: str, traceback: str) -> None:
        """Keep why the run failed, unless the disk is full: then that is what has to be told."""
        with contextlib.suppress(WriteError), written_atomically(self.failure) as path:
            path.write_text(f"{cause}\n\n{traceback}", encoding="utf-8")

    def refuse_links(self) -> None:
        """Require that every file is the run's own, before any is written or copied. Those in `wandb` are wandb's.

        Raises:
            ValueError: there is a link.
        """
        refuse_links(self.path, but=(self.wandb.name,))

    def remove_leftovers(self) -> None:
        """Delete what only an unfinished run needs."""
        for path in (self.resume, *self.path.glob("checkpoints/*.tmp"), self.progress):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training the run; the system releases the lock when this process dies.

        Raises:
            LockedError: another process trains it.
            ValueError: there is a link in the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.refuse_links()
        lock = filelock.FileLock(self.lock)
        try:
            lock.acquire(timeout=LOCK_PATIENCE)
        except filelock.Timeout:
            raise LockedError(f"{self} is being trained by another process") from None
        with written_atomically(self.session) as path:
            path.write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}))
        try:
            yield
        finally:
            self.session.unlink(missing_ok=True)
            lock.release()

    @property
    def is_locked(self) -> bool:
        """Whether a process trains the run right now."""
        if self.lock.is_symlink():  # to look would create, or empty, what it points to
            return False
        try:
            with filelock.FileLock(self.lock).acquire(timeout=0):
                return False
        except filelock.Timeout:
            return True
        except OSError:  # not ours to lock: the folder is somebody else's
            return False

    @property
    def killed_process(self) -> str | None:
        """The process that was killed while it trained the run, as "PID on HOST"; None if none was."""
        try:
            session = read_json(self.session)
            return f"{session['pid']} on {session['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return None


def finished_runs(root: Path) -> Iterable[RunFolder]:
    """The finished runs below a folder, in the order of their paths."""
    return (RunFolder(path.parent) for path in sorted(root.rglob("result.json")))


def begun_runs(root: Path) -> Iterable[RunFolder]:
    """The runs below a folder that were begun, in the order of their paths; a published failure keeps its cause."""
    return map(RunFolder, sorted({path.parent for name in ("config.yaml", "error.txt") for path in root.rglob(name)}))
