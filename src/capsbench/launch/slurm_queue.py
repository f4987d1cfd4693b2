"""Slurm's queue, as squeue tells it: which jobs of this user wait and for what, which run, and on which node."""

import logging
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from capsbench.runs import RunFolder, State
from capsbench.runs.submission import Job, Submission

log = logging.getLogger(__name__)

PATIENCE_S = 20.0
"""Seconds that Slurm has to answer: squeue itself tries a controller that is away for minutes."""
SHOWN = "%i|%T|%r|%N|%o"
"""What squeue prints of a job: number, state, reason, nodes, script; the last may hold any character."""
ASKED = "%P|%l|%D|%C|%m|%b"
"""What it asks for: partition, time, nodes, CPUs, memory, GPUs of a node."""
THERE = "%l|%c|%m|%G"
"""What sinfo prints of a partition: time, and CPUs, megabytes and GPUs of a node."""
SETTINGS = "hydra.launcher.timeout_min, cpus_per_task, mem_gb or partition, or gpus_per_run"
"""What says what a job asks for."""
LOOKED_AT_S = 10.0
"""Seconds within which Slurm looks at new jobs and says what they wait for."""
AT_A_TIME = 500
"""Jobs that one scancel is given: a command line has an end."""


def read_queue() -> dict[str, Job] | None:
    """This user's jobs by number; None where Slurm is not, or does not answer.

    Those that ended minutes ago may be among them. One that is not there is over: Slurm forgets a task of an array at
    once that is cancelled before it began.
    """
    options = ("--noheader", "--array", "--states=all", f"--user={os.getuid()}", f"--format={SHOWN}")
    told = ask("squeue", *options)
    return None if told is None else _parsed(told)


def job_of(submission: Submission | None, queue: Mapping[str, Job] | None) -> Job | None:
    """The job that a run was handed to, if the queue has it; another sweep's with that number is none.

    Args:
        submission: what lies in the run's folder.
        queue: of `read_queue`.
    """
    job = (queue or {}).get(submission.number) if submission else None
    if job is None or submission is None:
        return None
    # submitit leaves its script in a folder above the logs.
    beside = Path(os.path.realpath(job.script)).parent
    return job if beside in Path(os.path.realpath(submission.log)).parents else None


def states_of(folders: Sequence[RunFolder]) -> list[State]:
    """The states of runs; the queue is asked once, if one of them that is not finished was handed to it."""
    notes = {folder: note for folder in folders if not folder.is_finished and (note := Submission.read(folder))}
    queue = read_queue() if notes else {}
    if queue is None:
        log.warning(
            "%d runs were handed to Slurm, which does not answer here (squeue): their folders alone are told",
            len(notes),
        )
    return [State.of(folder, job_of(notes.get(folder), queue)) for folder in folders]


def why_never(job: Job) -> str:
    """Why a job can never start, in one line: what it asks for, what there is, and what to change."""
    found = (ask("squeue", "--noheader", f"--jobs={job.number}", f"--format={ASKED}") or "").strip().split("|")
    told = f"{job.reason}"
    if len(found) == len(ASKED.split("|")):
        partition, limit, nodes, cpus, memory, gpus = found
        there = ask("sinfo", "--noheader", f"--partition={partition}", f"--format={THERE}") or ""
        kinds = [line.split("|") for line in there.splitlines() if line.count("|") == THERE.count("|")]
        has = " or ".join(f"{_node(*kind[1:])} for at most {kind[0]}" for kind in kinds)
        told += f": it asks for {nodes} node(s), in all {_node(cpus, memory, gpus)}, for {limit}; "
        told += f"a node of partition {partition} has {has}"
    return f"{told}; change {SETTINGS}"


def _node(cpus: str, memory: str, gpus: str) -> str:
    parts = [f"{cpus} CPUs", f"{memory} MB" if memory.isdigit() else memory, gpus.removeprefix("gres:")]
    return ", ".join(part for part in parts if part not in ("0 MB", "N/A", "(null)"))


def refuse_never(numbers: Sequence[str]) -> None:
    """Wait until Slurm has looked at jobs that were just submitted; take back those that can never start.

    Args:
        numbers: of the jobs.

    Raises:
        ValueError: there are such jobs.
    """
    deadline = time.monotonic() + LOOKED_AT_S
    while True:
        queue = read_queue() or {}
        ours = [queue[number] for number in numbers if number in queue]
        if all(job.reason or not job.waits for job in ours) or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    if never := [job for job in ours if job.never_starts]:
        why = why_never(never[0])
        cancel(job.number for job in never)
        raise ValueError(f"{len(never)} of {len(numbers)} jobs can never start and were taken back: {why}")


def cancel(numbers: Iterable[str], *options: str) -> bool:
    """Cancel jobs, or signal them; whether Slurm took that.

    Args:
        numbers: of the jobs.
        options: of scancel: "--state=PENDING", "--signal=TERM".
    """
    rest, is_taken = list(numbers), True
    while rest:
        is_taken &= ask("scancel", *options, *rest[:AT_A_TIME]) is not None
        rest = rest[AT_A_TIME:]
    return is_taken


def ask(*command: str) -> str | None:
    """What a command of Slurm prints; None where it is missing, fails or takes longer than `PATIENCE_S`."""
    try:
        found = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout


def _parsed(told: str) -> dict[str, Job]:
    lines = [line.split("|", maxsplit=4) for line in told.splitlines()]
    return {
        number: Job(number, state, None if reason == "None" else reason, node or None, script)
        for number, state, reason, node, script in (line for line in lines if len(line) == 5)
    }
