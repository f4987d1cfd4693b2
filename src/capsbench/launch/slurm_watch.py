"""Waits for jobs of Slurm, and tells what becomes of their runs: the runs' folders say it, beside Slurm's queue."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from capsbench.data.reading import LONGEST
from capsbench.launch.slurm_queue import ask, read_queue
from capsbench.runs import RunFolder, State
from capsbench.runs.folder import Session
from capsbench.runs.measures import in_words, main_metric
from capsbench.runs.submission import Job, Submission

log = logging.getLogger(__name__)

LOOK_EVERY_S = (2.0, 30.0)
"""Seconds between two looks: at first, and after hours."""
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
REQUEUES = {"PREEMPTION": "preempted", "NODE FAILURE": "a node failed", "timed-out": "out of time"}
"""Why a job was requeued, by words of its log."""
NO_CAUSES = ("srun:", "slurmstepd", "submitit ")
"""How lines of a log begin that are Slurm's own or submitit's."""


class WatchedRun:
    """A run, and what the user knows of it.

    Args:
        folder: of the run, whose job may have begun.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._start = "resumed" if folder.has_begun else "training"
        self._session = folder.read_session()
        self._has_started = self.has_ended = False

    def look(self, job: "WatchedJob", node: str | None) -> None:
        """Tell of its start, of its going on after the job was requeued, and of its end, as far as that is news."""
        if self.has_ended:
            return
        session = self.folder.read_session()
        is_new = session.pid is not None and not _same_process(session, self._session)
        is_over = self.folder.is_finished or (
            self._has_started and session.pid is None and self.folder.cause_of_failure is not None
        )
        if is_new or (is_over and not self._has_started):
            how = f"{job.why_requeued()}, requeued, resumed" if self._has_started else self._start
            log.info("%s: %s on %s, job %s", self.folder, how, node or "its node", job.submission.number)
            self._has_started, self._session = True, session
        if is_over:
            self.tell_end(State.of(self.folder))

    def tell_end(self, state: State) -> None:
        """Tell how it ended, once; not of one that is left to another process."""
        if self.has_ended or state.name == "running":
            return
        self.has_ended = True
        if state.metrics is not None:
            split = main_metric(state.metrics).partition("/")[0]
            log.info("%s: %s", self.folder, in_words(state.metrics, split))
        else:
            log.info("%s: %s: %s", self.folder, state.name, state.cause or "it was stopped")

    @property
    def is_silent(self) -> bool:
        """Whether nothing says how it ended."""
        folder = self.folder
        return not folder.is_finished and folder.cause_of_failure is None and folder.cause_of_stop is None


def _same_process(one: Session, other: Session) -> bool:
    return (one.pid, one.host) == (other.pid, other.host)


class WatchedJob:
    """A job that is waited for.

    Args:
        submission: its number and log.
        folders: of the runs that it trains, one after the other.

    Attributes:
        began: whether it was seen to run.
    """

    def __init__(self, submission: Submission, folders: Sequence[RunFolder]) -> None:
        self.submission = submission
        self.runs = [WatchedRun(folder) for folder in folders]
        self.began = False
        self._over_since: float | None = None
        self._read = 0

    def look(self, now: Job | None) -> None:
        """Tell of its runs; `now` is what the queue says of it, None: nothing."""
        self.began |= now is not None and now.node is not None
        for run in self.runs if self.began else ():
            run.look(self, now.node if now else None)

    def is_over(self, now: Job | None) -> bool:
        """Whether it is over for good: the queue said so twice, and what its runs wrote is here."""
        if now is not None and not now.is_over:
            self._over_since = None
            return False
        if self._over_since is None:
            self._over_since = time.monotonic()
            return all(run.has_ended for run in self.runs)
        late = time.monotonic() - self._over_since < FILES_LATE_S
        return not (late and _ended_well(now) and any(run.is_silent for run in self.runs))

    def end(self, now: Job | None) -> dict[RunFolder, str]:
        """Tell how its runs ended, now that it is over; why those came to no end that did not, by their folders."""
        causes: dict[RunFolder, str] = {}
        for run in self.runs:
            state, told = State.of(run.folder), run.folder.cause_of_stop if self.began else None
            if state.name not in ("done", "failed", "running") and not (told and _ended_well(now)):
                causes[run.folder] = told or self._why(now)
                state = State("interrupted", cause=causes[run.folder])
            run.tell_end(state)
        return causes

    def why_requeued(self) -> str:
        """What its log says since this was asked last."""
        errors = _read(self._log)
        told, self._read = errors[self._read :], len(errors)
        return next((why for words, why in REQUEUES.items() if words in told), "stopped")

    def _why(self, now: Job | None) -> str:
        state = now.state if now is not None else _accounted(self.submission.number)
        if state is None and not self.began:
            state = "CANCELLED"  # Slurm forgets such a task of an array at once
        if state in ENDS:
            return ENDS[state] + (" before it began" if state == "CANCELLED" and not self.began else "")
        how = f"ended as {state}" if state else "left the queue"
        others = self._log.parent.glob(self._log.name.replace("_0_log.", "_[1-9]*_log."))
        lines = [line for log in (*sorted(others), self._log) for line in _read(log).splitlines()]
        said = [line for line in lines if line.strip() and not line.startswith(NO_CAUSES)]
        return f"its job {how}: " + (said[-1].strip()[:LONGEST] if said else f"it left no word in {self._log}")

    @property
    def _log(self) -> Path:
        return Path(self.submission.log).with_suffix(".err")


def _read(log: Path) -> str:
    with suppress(OSError):
        return log.read_text(encoding="utf-8", errors="replace")
    return ""


def _ended_well(now: Job | None) -> bool:
    return now is not None and now.state == "COMPLETED"


def _accounted(number: str) -> str | None:
    """How a job ended that the queue has forgotten, if Slurm keeps accounts."""
    told = ask("sacct", "--noheader", "--allocations", "--parsable2", "--format=State", f"--jobs={number}")
    return told.split()[0] if told and told.strip() else None


def watch(jobs: Sequence[WatchedJob]) -> dict[RunFolder, str]:
    """Wait until jobs have ended; lines tell where runs start, go on and end.

    Returns:
        Why runs came to no end of their own, by their folders.
    """
    began, waiting = time.monotonic(), list(jobs)
    causes: dict[RunFolder, str] = {}
    while waiting:
        queue = read_queue()
        for job in list(waiting):
            if queue is None:  # it is asked again
                break
            now = queue.get(job.submission.number)
            job.look(now)
            if job.is_over(now):
                waiting.remove(job)
                causes |= job.end(now)
        if waiting:
            least, most = LOOK_EVERY_S
            time.sleep(min(most, max(least, (time.monotonic() - began) / LATER)))
    return causes
