"""`capsbench cancel`: ends the jobs and the processes that train the runs of a sweep; those that train save first."""

import os
import platform
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from capsbench.commands.arguments import Arguments
from capsbench.launch.config import open_configuration
from capsbench.launch.errors import fail
from capsbench.launch.slurm_queue import cancel, job_of, read_queue
from capsbench.launch.sweep import plan
from capsbench.runs import RunFolder
from capsbench.runs.submission import Job, Submission

SAVE_S = 120.0
"""Seconds that a run has to save; then its job is killed, and it loses what `kill -9` loses."""
HEARD_S = 10.0
"""Seconds after which a run that has noted no signal gets another: submitit drops those that come before training."""
END_S = 90.0
"""Seconds that Slurm has to end a job: it kills one that is cancelled after its own KillWait."""
LOOK_EVERY_S = 1.0
CAUSE = "capsbench cancel ended it"


def main(arguments: Arguments) -> None:
    """End what trains the runs that the settings ask for, and say for each run what became of it.

    Raises:
        CommandError: one of them goes on, or may do so.
    """
    with open_configuration(arguments.config_dir) as loader:
        folders = [run.folder for run in plan(loader, arguments.settings)]
    unfinished = [folder for folder in folders if not folder.is_finished]
    notes = {folder: note for folder in unfinished if (note := Submission.read(folder))}
    queue = read_queue() if notes else {}
    jobs = _jobs(notes, queue or {})
    in_jobs = [folder for job in jobs for folder in job.folders]
    is_over = {**_end_jobs(jobs), **_end_processes([folder for folder in unfinished if folder not in in_jobs])}
    for folder in is_over:
        if is_over[folder] and not folder.is_finished:
            folder.record(CAUSE, "", failed=False)
            folder.job.unlink(missing_ok=True)
    if on := len(is_over) - sum(is_over.values()):
        fail(f"{on} of {len(folders)} runs go on")
    if queue is None:
        fail(f"{len(notes)} runs were handed to Slurm, which does not answer here (squeue)")
    if not is_over:
        print(f"none of {len(folders)} runs is queued or running")
        return
    print(f"{len(is_over)} of {len(folders)} runs were ended; capsbench train -m with these settings continues them")


@dataclass
class _Job:
    """A job that trains runs, or waits to.

    Attributes:
        number: of it.
        folders: of the runs.
        told_at, killed_at: when it was first told to save and when to end, in seconds of the monotonic clock.
        times_told: how often it was told to save.
        trained: those of its runs that it was seen to train.
    """

    number: str
    folders: list[RunFolder]
    told_at: float | None = None
    times_told: int = 0
    killed_at: float | None = None
    trained: set[RunFolder] = field(default_factory=set)

    def next_step(self, job: Job, now: float) -> str | None:
        """What Slurm is to do with it: "dequeue", "tell" or "kill" it; None: nothing for now."""
        if self.killed_at is not None or not (job.waits or job.runs):
            return None
        if job.waits:
            return "dequeue"
        training = [folder for folder in self.folders if folder.session.exists()]
        self.trained |= set(training)
        if not training or (self.told_at is not None and now - self.told_at > SAVE_S):
            return "kill"
        if self.told_at is None:
            return "tell"
        has_heard = any(folder.read_session().signal for folder in training)
        return None if has_heard or now - self.told_at < self.times_told * HEARD_S else "tell"

    def how_it_ended(self, folder: RunFolder) -> str:
        """In words."""
        if folder.is_finished:
            return f"finished before job {self.number} was cancelled"
        if folder not in self.trained:
            return f"job {self.number} was cancelled before it trained"
        return f"job {self.number} {'was killed before it had saved' if folder.session.exists() else 'saved and ended'}"


def _jobs(notes: Mapping[RunFolder, Submission], queue: Mapping[str, Job]) -> list[_Job]:
    """The jobs of runs that are in the queue, each once."""
    folders: dict[str, list[RunFolder]] = {}
    for folder, note in notes.items():
        job = job_of(note, queue)
        if job is not None and not job.is_over:
            folders.setdefault(job.number, []).append(folder)
    return [_Job(number, of_job) for number, of_job in folders.items()]


def _end_jobs(jobs: Sequence[_Job]) -> dict[RunFolder, bool]:
    """End jobs, those that train after they have saved; whether each run's is over."""
    is_over = {folder: False for job in jobs for folder in job.folders}
    rest, deadline = list(jobs), time.monotonic() + SAVE_S + HEARD_S + END_S
    while rest and time.monotonic() < deadline:
        queue = read_queue()
        steps: dict[str, list[_Job]] = {}
        for job in list(rest) if queue is not None else []:
            found = (queue or {}).get(job.number)
            if found is None or found.is_over:
                rest.remove(job)
                for folder in job.folders:
                    is_over[folder] = True
                    print(f"{folder}: {job.how_it_ended(folder)}")
            elif step := job.next_step(found, time.monotonic()):
                steps.setdefault(step, []).append(job)
        _take(steps)
        if rest:
            time.sleep(LOOK_EVERY_S)
    for job in rest:
        for folder in job.folders:
            print(f"{folder}: job {job.number} was told to end and has not; scancel {job.number} tells it again")
    return is_over


def _take(steps: Mapping[str, Sequence[_Job]]) -> None:
    options = {"dequeue": ("--state=PENDING",), "tell": ("--signal=TERM",), "kill": ()}
    for step, jobs in steps.items():
        cancel((job.number for job in jobs), *options[step])
        for job in jobs:
            if step == "tell":
                job.told_at = time.monotonic() if job.told_at is None else job.told_at
                job.times_told += 1
            elif step == "kill":
                job.killed_at = time.monotonic()


def _end_processes(folders: Sequence[RunFolder]) -> dict[RunFolder, bool]:
    """Tell the processes of this machine that train runs to save and end; whether each run's has done so."""
    sessions = {folder: folder.read_session() for folder in folders if folder.is_locked}
    here = {
        folder: session
        for folder, session in sessions.items()
        if session.pid and session.host == platform.node() and folder.is_locked_by(session.pid)
    }
    for pid in {session.pid for session in here.values() if session.pid}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + SAVE_S
    while any(folder.is_locked for folder in here) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S / 4)
    is_over = {folder: folder in here and not folder.is_locked for folder in sessions}
    for folder, session in sessions.items():
        process = f"process {session.pid} on {session.host}"
        if folder not in here:
            print(f"{folder}: {process} trains it, by what its folder says; if so, give the command there")
        elif is_over[folder]:
            print(f"{folder}: {process} {'finished' if folder.is_finished else 'saved and ended'}")
        else:
            print(f"{folder}: {process} was told to save and has not ended; kill -9 {session.pid} would end it")
    return is_over
