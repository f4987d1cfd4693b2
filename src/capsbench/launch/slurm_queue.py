"""Slurm's queue, as squeue tells it: which jobs of this user wait and for what, which run, and on which node."""

import io
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path

from capsbench.runs import RunFolder, State
from capsbench.runs.submission import Job, Submission

PATIENCE_S = 20.0
"""Seconds that Slurm has to answer: squeue itself tries a controller that is away for minutes."""
SHOWN = "%i|%T|%r|%N|%o"
"""What squeue prints of a job: number, state, reason, nodes, script; the last may hold any character."""
ASKED = "%P|%l|%D|%C|%m|%b"
"""What it asks for: partition, time, nodes, CPUs, memory, GPUs of a node."""
THERE = "%P|%l|%c|%m|%G"
"""What sinfo prints of each kind of node in each partition: partition, time, CPUs, megabytes, GPUs."""
SETTINGS = "hydra.launcher.timeout_min, cpus_per_task, mem_gb or partition, trainer.num_nodes, or gpus_per_run"
"""What says what a job asks for."""
LOOKED_AT_S = 10.0
"""Seconds within which Slurm looks at new jobs and says what they wait for."""
SETTLED_S = 2.0
"""Seconds after which Slurm still says so if a job can never start."""
ITS_TURN = "runs before it in this job"
"""What a run waits for whose job runs, and trains several one after the other."""
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
    # submitit leaves its script, or a link to it, in a folder above the logs.
    above = Path(os.path.realpath(Path(job.script).parent))
    return job if above in Path(os.path.realpath(submission.log)).parents else None


def states_of(folders: Sequence[RunFolder]) -> list[State]:
    """The states of runs; the queue is asked once, if one of them that is not finished was handed to it."""
    notes = {folder: note for folder in folders if not folder.is_finished and (note := Submission.read(folder))}
    queue = read_queue() if notes else {}
    if queue is None:
        told = f"{len(notes)} runs were handed to Slurm, which does not answer here (squeue): jobs are not told"
        print(told, file=sys.stderr)
    jobs = {folder: job_of(note, queue) for folder, note in notes.items()}
    in_job = Counter(job.number for job in jobs.values() if job)
    for folder, job in jobs.items():
        if job is not None and job.runs and in_job[job.number] > 1 and not folder.session.exists():
            passed = folder.cause_of_stop is not None or folder.cause_of_failure is not None
            jobs[folder] = None if passed else replace(job, state="PENDING", reason=ITS_TURN, node=None)
    return [State.of(folder, jobs.get(folder)) for folder in folders]


def why_never(job: Job) -> str:
    """Why a job can never start, in one line: what it asks for, what there is, and what to change."""
    told = f"{job.reason}: "
    found = (ask("squeue", "--noheader", f"--jobs={job.number}", f"--format={ASKED}") or "").strip().split("|")
    if len(found) == len(ASKED.split("|")):
        partition, limit, nodes, cpus, memory, gpus = found
        told += f"it asks for {_node(cpus, memory, gpus)} on {nodes} node(s) for {limit}; {_what_there_is(partition)}"
    return f"{told}change {SETTINGS}"


@contextmanager
def refusals(partition: str | None) -> Iterator[None]:
    """Where sbatch refuses what the body submits, say in one line why, what there is, and what to change.

    Args:
        partition: that was asked for; None: the default one.

    Raises:
        RuntimeError: sbatch refuses, or cannot be asked.
    """
    try:
        with redirect_stderr(io.StringIO()):  # submitit prints what it raises, too
            yield
    except RuntimeError as error:
        lines = [line.removeprefix("sbatch: error: ") for line in str(error).splitlines()]
        there = _what_there_is(partition)
        raise RuntimeError(f"Slurm refuses the jobs: {'; '.join(lines)}; {there}change {SETTINGS}") from error


def _what_there_is(partition: str | None) -> str:
    told = ask("sinfo", "--noheader", f"--format={THERE}") or ""
    kinds = [line.split("|") for line in told.splitlines() if line.count("|") == THERE.count("|")]
    default = next((kind[0] for kind in kinds if kind[0].endswith("*")), "")
    here = [kind for kind in kinds if kind[0].rstrip("*") == (partition or default.rstrip("*"))]
    if not here:
        names = ", ".join(dict.fromkeys(kind[0].rstrip("*") for kind in kinds))
        return f"partitions are {names}; " if names else ""
    has = " or ".join(f"{_node(*kind[2:])} for at most {kind[1]}" for kind in here)
    return f"a node of partition {here[0][0].rstrip('*')} has {has}; "


def _node(cpus: str, memory: str, gpus: str) -> str:
    gpus = "no GPU" if gpus == "(null)" else gpus.removeprefix("gres:")
    parts = [f"{cpus} CPUs", f"{memory} MB" if memory.isdigit() else memory, gpus]
    return ", ".join(part for part in parts if part not in ("0 MB", "N/A"))


def refuse_never(numbers: Sequence[str]) -> None:
    """Wait until Slurm has looked at jobs that were just submitted; take back those that can never start.

    Args:
        numbers: of the jobs.

    Raises:
        ValueError: there are such jobs.
    """
    deadline = time.monotonic() + LOOKED_AT_S
    found = _waiting(numbers)
    while any(job.reason is None for job in found) and time.monotonic() < deadline:
        time.sleep(0.5)
        found = _waiting(numbers)
    if any(job.never_starts for job in found):
        time.sleep(SETTLED_S)
        found = _waiting(numbers)
    if never := [job for job in found if job.never_starts]:
        why = why_never(never[0])
        cancel(job.number for job in never)
        raise ValueError(f"{len(never)} of {len(numbers)} jobs can never start and were taken back: {why}")


def _waiting(numbers: Sequence[str]) -> list[Job]:
    queue = read_queue() or {}
    return [job for number in numbers if (job := queue.get(number)) and job.waits]


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
