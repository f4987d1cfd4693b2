"""What a run's folder tells about the run: done, running, interrupted, failed or missing."""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import filelock
import lightning

from capsbench.data.files import written_atomically
from capsbench.runs.result import RESULT_FILE, Result

CONFIG_FILE = "config.yaml"
FAILURE_FILE = "error.txt"
PROGRESS_FILE = "progress.json"
LOCK_FILE = "run.lock"
SESSION_FILE = "session.json"
"""Says which process is at the run; it stays behind where the process has no chance to take leave."""

StateName = Literal["done", "running", "interrupted", "failed", "missing"]
LOCK_PATIENCE = 1.0
"""Seconds: somebody who only looks holds the lock for a moment."""


class LockedError(Exception):
    """Another process is at the run."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder, so that two sweeps share a grid; the system lets go of it when the process dies.

    Raises:
        LockedError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=LOCK_PATIENCE)
    except filelock.Timeout:
        raise LockedError(f"{folder} is being trained by another process") from None
    session = folder / SESSION_FILE
    with written_atomically(session) as path:
        path.write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}))
    try:
        yield
    finally:
        session.unlink(missing_ok=True)
        lock.release()


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        epoch: that is being trained, from 1.
        step, steps: optimizer steps done, and in all.
        eta_s: seconds until training ends, at the pace of this session; None before there is one.
        updated: when this was written, in seconds since 1970.
    """

    epoch: int
    step: int
    steps: int
    eta_s: float | None
    updated: float


@dataclass(frozen=True)
class State:
    """Of a run.

    Attributes:
        name: "done", "running", "interrupted" (begun, and nobody is at it), "failed" or "missing".
        progress: where known, of a run that is running or was interrupted.
        cause: in one line why it failed, or how it was interrupted where its process was killed.
        metrics: of a run that is done.
    """

    name: StateName
    progress: Progress | None = None
    cause: str | None = None
    metrics: dict[str, float] | None = None

    @classmethod
    def of(cls, folder: Path) -> "State":
        """The state of the run that lives in a folder."""
        result = folder / RESULT_FILE
        if not result.is_file():
            if not (folder / CONFIG_FILE).is_file():
                return cls("missing")
            if _is_locked(folder):
                return cls("running", progress=_read_progress(folder))
        if result.is_file():  # perhaps only by now
            try:
                return cls("done", metrics=dict(Result.load(folder).metrics))
            except ValueError as error:
                return cls("failed", cause=str(error))
        if (folder / FAILURE_FILE).is_file():
            return cls("failed", cause=(folder / FAILURE_FILE).read_text().partition("\n")[0])
        return cls("interrupted", progress=_read_progress(folder), cause=_how_it_died(folder))


def _is_locked(folder: Path) -> bool:
    lock = filelock.FileLock(folder / LOCK_FILE)
    try:
        with lock.acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # not ours to lock: somebody else's folder
        return False


def _how_it_died(folder: Path) -> str | None:
    try:
        session = json.loads((folder / SESSION_FILE).read_text())
        return f"its process ({session['pid']} on {session['host']}) was killed, perhaps for want of memory"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_progress(folder: Path) -> Progress | None:
    try:
        return Progress(**json.loads((folder / PROGRESS_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


class ReportProgress(lightning.Callback):
    """Keeps progress.json in a run's folder up to date, for `capsbench status`.

    Args:
        folder: of the run.
        every: seconds between two updates.
    """

    def __init__(self, folder: Path, every: float = 5.0) -> None:
        self.folder = folder
        self.every = every
        self._started: tuple[float, int] | None = None
        self._written = 0.0

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: Any) -> None:
        now, step = time.time(), trainer.global_step
        if self._started is None:
            self._started = (now, step)
        if trainer.is_global_zero and now - self._written >= self.every:
            self._written = now
            start, first = self._started
            steps = int(trainer.estimated_stepping_batches)
            pace = (now - start) / (step - first) if step > first else None
            progress = Progress(
                epoch=trainer.current_epoch + 1,
                step=step,
                steps=steps,
                eta_s=None if pace is None else pace * (steps - step),
                updated=now,
            )
            with written_atomically(self.folder / PROGRESS_FILE) as path:
                path.write_text(json.dumps(asdict(progress)))
