"""What a run's folder, and the queue of a cluster, tell about the run: done, running, queued, interrupted, …"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from capsbench.data.reading import STRICT, checked, read_json
from capsbench.runs.folder import RunFolder, Session
from capsbench.runs.outcome import has_learned
from capsbench.runs.result import Result, ResultError
from capsbench.runs.submission import Job

StateName = Literal["done", "running", "queued", "interrupted", "failed", "missing"]

Shown = Literal["bar", "lines", "nothing"]
"""How a run shows on the terminal how far it is."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        epoch: the one being trained, from 1.
        step, steps: optimizer steps done, and in all; None where a limit on time alone ends the run.
        eta_s: seconds until training ends, at this session's pace; None before there is one.
        updated: when this was written, in seconds since 1970.
    """

    __pydantic_config__ = STRICT

    epoch: int
    step: int
    steps: int | None
    eta_s: Annotated[float, Field(lt=1e12)] | None
    updated: float


@dataclass(frozen=True)
class State:
    """The state of a run.

    Attributes:
        name: "done", "running", "queued" (its job waits), "interrupted" (begun, and no process trains it), "failed" or
            "missing".
        progress: of a run that was begun and is not finished, where known.
        cause: in one line, why it failed, or what kept it from its end: a killed process, or what its machine lacks.
        metrics: of a run that is done.
        learned: whether a run that is done came further above chance than `capsbench.runs.outcome.ABOVE_CHANCE`.
        is_damaged: whether it failed only in that its result cannot be believed.
        job: of a cluster, of a run that is running or queued there.
        requeued: whether that job trained it before, was preempted or ran out of time, and waits to go on.
    """

    name: StateName
    progress: Progress | None = None
    cause: str | None = None
    metrics: dict[str, float] | None = None
    learned: bool | None = None
    is_damaged: bool = False
    job: Job | None = None
    requeued: bool = False

    @classmethod
    def of(cls, folder: RunFolder, job: Job | None = None) -> "State":
        """The state of the run in a folder.

        Args:
            folder: of the run.
            job: what the queue said before of the job that the run was handed to; None: there is none.
        """
        if not folder.is_finished:
            is_begun = folder.config.is_file()
            if is_begun and folder.is_locked:
                return cls("running", progress=_read_progress(folder), job=job)
            if job is not None and job.waits:
                return cls("queued", progress=_read_progress(folder), job=job, requeued=_has_trained(folder))
            if job is not None and job.runs and folder.cause_of_failure is None:  # locks do not reach every machine
                return cls("running", progress=_read_progress(folder), job=job)
            if not is_begun:
                return cls("missing", cause=folder.cause_of_stop)
        if folder.is_finished:  # perhaps only by now
            try:
                result = Result.load(folder.path)
                return cls("done", metrics=dict(result.metrics), learned=has_learned(result))
            except ResultError as error:
                return cls("failed", cause=str(error), is_damaged=True)
        if (cause := folder.cause_of_failure) is not None:
            return cls("failed", cause=cause)
        cause = folder.cause_of_stop or _how_it_ended(folder.read_session())
        return cls("interrupted", progress=_read_progress(folder), cause=cause)


def _has_trained(folder: RunFolder) -> bool:
    """Whether a run has told how far it is since it was handed to its job."""
    return folder.job.is_file() and folder.job.stat().st_mtime_ns < (folder.last_report or 0)


def _how_it_ended(session: Session) -> str | None:
    """What became of the process that left a session behind."""
    if session.pid is None:
        return None
    process = f"its process ({session.pid} on {session.host})"
    if session.signal is not None:
        return f"{process} was told to stop by {session.signal} and ended before it had saved"
    return f"{process} was killed, perhaps out of memory"


def _read_progress(folder: RunFolder) -> Progress | None:
    try:
        return checked(Progress, read_json(folder.progress))
    except (FileNotFoundError, ValueError):
        return None
