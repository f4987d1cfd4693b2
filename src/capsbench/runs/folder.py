"""A run's folder: every file in it, by name."""

import json
import os
import platform
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import filelock
from pydantic import Field

from capsbench.data.files import WriteError, written_atomically
from capsbench.data.foreign import read_bytes, refuse_links
from capsbench.data.reading import LONGEST, STRICT, checked, read_json
from capsbench.inference.files import DESCRIPTION, WEIGHTS
from capsbench.signals import told

LOCK_PATIENCE = 1.0
"""Seconds to wait for a lock: whoever only looks holds it for a moment."""
SWEEP = "CAPSBENCH_SWEEP"
"""Environment variable: the sweep that this process trains runs for."""
OWN = (
    *("result.json", "config.yaml", "identity.json", "error.txt", "stopped.txt", "metrics.csv"),
    *("progress.json", "session.json", "job.json", "evaluation-*.json", "equivariance.json", "pictures*/*.png"),
    *(DESCRIPTION, WEIGHTS),
    *(
        f"checkpoints/{name}.ckpt{aside}"
        for name in ("last*", "resume*", "best", "nonfinite")
        for aside in ("", ".aside")
    ),
)
"""Names of files that a run has."""


class LockedError(Exception):
    """Another process trains the run."""


class LostError(RuntimeError):
    """The folder was deleted while its run trained."""


@dataclass(frozen=True)
class Session:
    """A process that trains a run.

    Attributes:
        pid, host: of the process, on its machine; None: there is none.
        sweep: what it trains the run for; None: for itself.
        signal: name of the signal that told it to stop.
    """

    __pydantic_config__ = STRICT

    pid: Annotated[int, Field(gt=0)] | None = None
    host: str | None = None
    sweep: str | None = None
    signal: str | None = None


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
    def stop(self) -> Path:
        """The cause in the first line, then the traceback, where something else than the run kept it from its end."""
        return self.path / "stopped.txt"

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
    def job(self) -> Path:
        """The job of a cluster's queue that an unfinished run was handed to."""
        return self.path / "job.json"

    @property
    def weights(self) -> Path:
        """Weights and optimizer at the end of training; an unfinished run that has them is to be tested."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def resume(self) -> Path:
        """The checkpoint that an interrupted run continues from."""
        return self.path / "checkpoints" / "resume.ckpt"

    @property
    def previous(self) -> Path:
        """The checkpoint before that one, in case that one is damaged."""
        return self.path / "checkpoints" / "resume-previous.ckpt"

    @property
    def best(self) -> Path:
        """The weights that an unfinished run found best on its validation split."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def nonfinite(self) -> Path:
        """The batch that gave NaN or infinity and the weights before it, for replay."""
        return self.path / "checkpoints" / "nonfinite.ckpt"

    @property
    def network(self) -> tuple[Path, Path]:
        """The trained network as `capsbench.load` reads it: its description and its weights."""
        return self.path / DESCRIPTION, self.path / WEIGHTS

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
        """Whether the run has a result, good or bad: `Result.load` tells."""
        return os.path.lexists(self.result)

    @property
    def cause_of_failure(self) -> str | None:
        """Why the run failed, in one line; None if it did not. It is not tried again unasked."""
        return _first_line(self.failure)

    @property
    def failed_at(self) -> datetime | None:
        """When the run failed; None if it did not."""
        return datetime.fromtimestamp(self.failure.stat().st_mtime) if self.failure.is_file() else None

    @property
    def cause_of_stop(self) -> str | None:
        """What kept the run from its end though the run itself did not fail, in one line; None if nothing did."""
        return _first_line(self.stop)

    def record(self, cause: str, traceback: str, *, failed: bool) -> None:
        """Keep why the run came to no end, unless the disk is full: then that is what has to be told.

        Args:
            cause: in one line.
            traceback: of the error.
            failed: the run itself failed, so that trying again would fail again.
        """
        with suppress(WriteError), written_atomically(self.failure if failed else self.stop) as path:
            path.write_text(f"{cause}\n\n{traceback}", encoding="utf-8")

    def refuse_links(self) -> None:
        """Require that every file is the run's own, before any is written or copied. Those in `wandb` are wandb's.

        Raises:
            ValueError: there is a link.
        """
        refuse_links(self.path, but=(self.wandb.name,))

    def set_aside(self, checkpoint: Path) -> Path:
        """Rename a checkpoint that no session is to go on from, if it is there; return its new path."""
        aside = checkpoint.with_name(f"{checkpoint.name}.aside")
        with suppress(FileNotFoundError):
            checkpoint.replace(aside)
        return aside

    def forget_errors(self) -> None:
        """Delete why the run came to no end: it is tried again."""
        for path in (self.failure, self.stop):
            path.unlink(missing_ok=True)

    @property
    def last_report(self) -> int | None:
        """When training last told how far it is, in nanoseconds since 1970; None if it never did."""
        return self.progress.stat().st_mtime_ns if self.progress.is_file() else None

    @property
    def has_begun(self) -> bool:
        """Whether the folder holds anything that training left."""
        left = (self.result, self.failure, self.progress, self.resume, self.previous, self.weights)
        return any(path.is_file() for path in left)

    @property
    def own_files(self) -> list[Path]:
        """The files here that have the name of one that a run writes, and temporary ones that were left behind."""
        return sorted({path for name in OWN for end in ("", "*.tmp") for path in self.path.glob(name + end)})

    @property
    def leftovers(self) -> list[Path]:
        """What only an unfinished run needs."""
        names = ("resume*.ckpt", self.best.name, "nonfinite.ckpt", "*.aside", "*.tmp")
        return [self.progress, self.job, *(path for name in names for path in self.path.glob(f"checkpoints/{name}"))]

    def remove_leftovers(self) -> None:
        """Delete what only an unfinished run needs."""
        for path in self.leftovers:
            path.unlink(missing_ok=True)

    def check_whole(self) -> None:
        """Check that nobody deleted the folder while its run trained.

        Raises:
            LostError: it is not what it was when the run began.
        """
        if not (self.config.is_file() and self.identity.is_file()):
            raise LostError(f"{self} was deleted while its run trained; give the command again to begin anew")

    @contextmanager
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
        session = Session(os.getpid(), platform.node(), os.environ.get(SWEEP))
        self._write_session(session)
        try:
            with told(lambda number: self._write_session(replace(session, signal=signal.Signals(number).name))):
                yield
        finally:
            self.session.unlink(missing_ok=True)
            lock.release()

    def _write_session(self, session: Session) -> None:
        with suppress(OSError), written_atomically(self.session) as path:
            path.write_text(json.dumps(asdict(session)))

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

    def is_locked_by(self, process: int) -> bool:
        """Whether a process has the lock's file open, as far as this machine tells; `session.json` may say anything."""
        opened = Path(f"/proc/{process}/fd")
        if not Path("/proc/self/fd").exists():
            return True
        with suppress(OSError):
            return any(os.path.samefile(file, self.lock) for file in opened.iterdir() if file.exists())
        return False

    def read_session(self) -> Session:
        """Which process trains the run, or did so when it ended without a word; empty if there is none."""
        try:
            return checked(Session, read_json(self.session))
        except (OSError, ValueError):
            return Session()


def _first_line(path: Path) -> str | None:
    try:
        return read_bytes(path).decode("utf-8", "replace").partition("\n")[0][:LONGEST]
    except FileNotFoundError:
        return None
    except ValueError as error:
        return str(error)


def finished_runs(root: Path) -> Iterable[RunFolder]:
    """The finished runs below a folder, in the order of their paths."""
    return (RunFolder(path.parent) for path in sorted(root.rglob("result.json")))


def begun_runs(root: Path) -> Iterable[RunFolder]:
    """The runs below a folder that were begun, in the order of their paths; a published failure keeps its cause."""
    return map(RunFolder, sorted({path.parent for name in ("config.yaml", "error.txt") for path in root.rglob(name)}))
