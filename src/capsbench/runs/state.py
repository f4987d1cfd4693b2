"""What a run's folder tells about the run: done, running, interrupted, failed or missing."""

from dataclasses import dataclass
from typing import Literal

from capsbench.data.foreign import read_json
from capsbench.runs.folder import RunFolder
from capsbench.runs.result import Result

StateName = Literal["done", "running", "interrupted", "failed", "missing"]


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        epoch: the one being trained, from 1.
        step, steps: optimizer steps done, and in all.
        eta_s: seconds until training ends, at this session's pace; None before there is one.
        updated: when this was written, in seconds since 1970.
    """

    epoch: int
    step: int
    steps: int
    eta_s: float | None
    updated: float


@dataclass(frozen=True)
class State:
    """The state of a run.

    Attributes:
        name: "done", "running", "interrupted" (begun, and no process trains it), "failed" or "missing".
        progress: of a run that is running or was interrupted, where known.
        cause: in one line, why it failed, or which killed process left it interrupted.
        metrics: of a run that is done.
    """

    name: StateName
    progress: Progress | None = None
    cause: str | None = None
    metrics: dict[str, float] | None = None

    @classmethod
    def of(cls, folder: RunFolder) -> "State":
        """The state of the run in a folder."""
        if not folder.is_finished:
            if not folder.config.is_file():
                return cls("missing")
            if folder.is_locked:
                return cls("running", progress=_read_progress(folder))
        if folder.is_finished:  # perhaps only by now
            try:
                return cls("done", metrics=dict(Result.load(folder.path).metrics))
            except ValueError as error:
                return cls("failed", cause=str(error))
        if (cause := folder.cause_of_failure) is not None:
            return cls("failed", cause=cause)
        killed = folder.killed_process
        cause = killed and f"its process ({killed}) was killed, perhaps out of memory"
        return cls("interrupted", progress=_read_progress(folder), cause=cause)


def _read_progress(folder: RunFolder) -> Progress | None:
    try:
        return Progress(**read_json(folder.progress))
    except (OSError, ValueError, TypeError):
        return None
