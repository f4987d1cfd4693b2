"""Slurm's queue, as squeue tells it: which jobs of this user wait and for what, which run, and on which node."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capsbench.runs.submission import Submission

PATIENCE_S = 20.0
"""Seconds that Slurm has to answer: squeue itself tries a controller that is away for minutes."""
SHOWN = "%i|%T|%r|%N|%o"
"""What squeue prints of a job: number, state, reason, nodes, script; the last may hold any character."""
ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
)
"""Slurm's states of jobs that are over; a preempted one that goes back into the queue is PENDING."""
NEVER = ("BadConstraints", "DependencyNeverSatisfied", "PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit")
NEVER_IN = ("PerJob", "PerNode", "NotAllowed", "Invalid")
"""Reasons, and parts of them, for which a job waits until it or the cluster is changed."""


@dataclass(frozen=True)
class Job:
    """A job of the queue.

    Attributes:
        number: "17", or "17_3" in an array.
        state: as Slurm names it: PENDING, RUNNING, COMPLETED.
        reason: why it waits, or ended so, as Slurm names it: Resources, PartitionTimeLimit.
        node: or nodes, that it runs or ran on.
        script: path of what was submitted.
    """

    number: str
    state: str
    reason: str | None
    node: str | None
    script: str

    @property
    def is_over(self) -> bool:
        """Whether it ended, in whatever way; Slurm tells that for some minutes only."""
        return self.state in ENDED

    @property
    def waits(self) -> bool:
        """Whether it is in the queue: new, or again after a preemption or a time limit."""
        return not self.is_over and self.node is None

    @property
    def never_starts(self) -> bool:
        """Whether it waits for what does not come by itself."""
        reason = self.reason or ""
        return self.waits and (reason in NEVER or any(part in reason for part in NEVER_IN))


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
    jobs: Sequence[list[str]] = [line.split("|", maxsplit=4) for line in told.splitlines()]
    return {
        number: Job(number, state, None if reason == "None" else reason, node or None, script)
        for number, state, reason, node, script in jobs
    }
