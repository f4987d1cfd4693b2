"""Waits for jobs of Slurm, and tells what becomes of their runs: the runs' folders say it, beside Slurm's queue."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from capsbench.launch.slurm_queue import Job, ask, read_queue
from capsbench.launch.sweep import PlannedRun
from capsbench.runs import RunFolder, State
from capsbench.runs.folder import Session
from capsbench.runs.reading import LONGEST
from capsbench.runs.result import watched_split
from capsbench.runs.submission import Submission

log = logging.getLogger(__name__)

LOOK_EVERY_S = (2.0, 30.0)
"""Seconds between two looks, at first and after hours."""
LATER = 100
"""So many times the seconds between looks have gone by when they are that many."""
FILES_LATE_S = 15.0
"""Seconds after its job's end in which a result may still appear on a network's file system."""

ENDS = {
    "CANCELLED": "its job was cancelled",
    "OUT_OF_MEMORY": "its job ran out of memory; hydra.launcher.mem_gb asks for more",
    "TIMEOUT": "its job reached its time limit; hydra.launcher.timeout_min asks for more",
}
"""What became of a job, by Slurm's name for it."""
SLURMS = ("srun:", "slurmstepd:")
"""How Slurm's own lines in a log begin."""


@dataclass
class Followed:
    """A job that is waited for.

    Attributes:
        submission: its number and log.
        runs: that it trains, one after the other.
        over_since: when it was first seen to be over, in seconds of the monotonic clock.
        began: whether it was seen to run.
    """

    submission: Submission
    runs: tuple[PlannedRun, ...]
    over_since: float | None = None
    began: bool = False


@dataclass
class _Told:
    """What the user knows.

    Attributes:
        sessions: the processes that trained each run last.
        ended: runs that came to an end.
    """

    sessions: dict[RunFolder, Session] = field(default_factory=dict)
    ended: set[RunFolder] = field(default_factory=set)


def follow(jobs: Sequence[Followed]) -> dict[RunFolder, str]:
    """Wait until jobs have ended; a line tells where a run starts, resumes after its job was requeued, and ends.

    Returns:
        Why runs came to no end of their own, by their folders.
    """
    began, told, causes = time.monotonic(), _Told(), {}
    waiting = list(jobs)
    while waiting:
        queue = read_queue()
        for job in list(waiting):
            now = None if queue is None else queue.get(job.submission.number)
            for run in job.runs:
                _tell(run, job, now, told)
            if queue is not None and _is_over(job, now, told):
                waiting.remove(job)
                causes |= _end(job, now, told)
        if waiting:
            least, most = LOOK_EVERY_S
            time.sleep(min(most, max(least, (time.monotonic() - began) / LATER)))
    return causes


def _tell(run: PlannedRun, job: Followed, now: Job | None, told: _Told) -> None:
    """Tell of a run whose job has not ended, as far as it is news."""
    folder = run.folder
    job.began |= now is not None and now.node is not None
    if folder in told.ended or not job.began:
        return
    where = f"{(now and now.node) or 'its node'}, job {job.submission.number}"
    session, before = folder.read_session(), told.sessions.get(folder)
    if session.pid is not None and session != before:
        if before is None:
            log.info("%s: %s on %s", folder, "resumed" if folder.has_begun else "training", where)
        elif (before.pid, before.host) != (session.pid, session.host):
            log.info("%s: preempted or out of time, requeued and resumed on %s", folder, where)
        told.sessions[folder] = session
    if folder.is_finished or (folder in told.sessions and session.pid is None and folder.cause_of_failure):
        if folder not in told.sessions:
            log.info("%s: training on %s", folder, where)
        _tell_end(folder, State.of(folder), told)


def _tell_end(folder: RunFolder, state: State, told: _Told) -> None:
    if folder in told.ended:
        return
    told.ended.add(folder)
    if state.metrics is not None:
        split = watched_split(state.metrics)
        log.info("%s: %s accuracy %.2f %%", folder, split, 100 * state.metrics[f"{split}/accuracy"])
    else:
        log.info("%s: %s: %s", folder, state.name, state.cause or "it was stopped")


def _is_over(job: Followed, now: Job | None, told: _Told) -> bool:
    """Whether a job is over for good: seen twice, and what its runs wrote is here."""
    if now is not None and not now.is_over:
        job.over_since = None
        return False
    if job.over_since is None:
        job.over_since = time.monotonic()
        return all(run.folder in told.ended for run in job.runs)
    late = time.monotonic() - job.over_since < FILES_LATE_S
    return not (_ended_well(now) and late and any(_is_silent(run.folder) for run in job.runs))


def _ended_well(now: Job | None) -> bool:
    return now is not None and now.state == "COMPLETED"


def _is_silent(folder: RunFolder) -> bool:
    return not folder.is_finished and folder.cause_of_failure is None and folder.cause_of_stop is None


def _end(job: Followed, now: Job | None, told: _Told) -> dict[RunFolder, str]:
    """Tell of the runs of a job that is over; why those came to no end that did not."""
    causes: dict[RunFolder, str] = {}
    why = None
    for run in job.runs:
        state = State.of(run.folder)
        if state.name not in ("done", "failed", "running") and not (_ended_well(now) and run.folder.cause_of_stop):
            why = why or _why(job, now)
            causes[run.folder] = (run.folder.cause_of_stop if job.began else None) or why
            state = State("interrupted", cause=causes[run.folder])
        _tell_end(run.folder, state, told)
    return causes


def _why(job: Followed, now: Job | None) -> str:
    state = now.state if now is not None else _accounted(job.submission.number)
    if state is None and not job.began:
        state = "CANCELLED"  # Slurm forgets such a task of an array at once
    cause = ENDS.get(state or "", f"its job {'ended as ' + state if state else 'left the queue'}")
    if state == "CANCELLED":
        return cause if job.began else f"{cause} before it began"
    return cause if state in ENDS else f"{cause}: {_last_words(Path(job.submission.log))}"


def _accounted(number: str) -> str | None:
    """How a job ended that the queue has forgotten, if Slurm keeps accounts."""
    told = ask("sacct", "--noheader", "--allocations", "--parsable2", "--format=State", f"--jobs={number}")
    return told.split()[0] if told and told.strip() else None


def _last_words(log_file: Path) -> str:
    """The last line that a job left on stderr, not counting Slurm's."""
    with suppress(OSError):
        lines = log_file.with_suffix(".err").read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip() and not line.startswith(SLURMS)]
        if said:
            return said[-1][:LONGEST]
    return f"it said nothing in {log_file}"
