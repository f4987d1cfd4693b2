"""The job of a cluster that a run was handed to: the note in its folder, and what the queue says of it."""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from pydantic import Field

from capsbench.data.files import written_atomically
from capsbench.data.reading import LONGEST, STRICT, checked, read_json
from capsbench.runs.folder import RunFolder

ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
)
"""Slurm's states of jobs that are over; a preempted one that goes back into the queue is PENDING."""
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
"""Slurm's states of jobs in the queue."""
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
        return self.state in WAITING

    @property
    def runs(self) -> bool:
        """Whether it is on a node, and not just ending there."""
        return not (self.is_over or self.waits or self.state == "COMPLETING")

    @property
    def never_starts(self) -> bool:
        """Whether it waits for what does not come by itself."""
        reason = self.reason or ""
        return self.waits and (reason in NEVER or any(part in reason for part in NEVER_IN))


@dataclass(frozen=True)
class Submission:
    """The job that a run was handed to last.

    Attributes:
        number: as the queue names it: "17", or "17_3" in an array.
        log: absolute path of what the job prints.
        engine: whose queue it is.
    """

    __pydantic_config__ = STRICT

    number: Annotated[str, Field(pattern=r"^[0-9]{1,10}(_[0-9]{1,10})?$")]
    log: Annotated[str, Field(max_length=LONGEST)]
    engine: Literal["slurm"] = "slurm"

    def save(self, folder: RunFolder) -> None:
        """Leave it in a run's folder, which need not exist.

        Raises:
            ValueError: there is a link in the folder.
            WriteError: it cannot be written.
        """
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.refuse_links()
        with written_atomically(folder.job) as path:
            path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: RunFolder) -> "Submission | None":
        """What lies in a run's folder; None if there is nothing, or nothing that can be believed."""
        try:
            return checked(cls, read_json(folder.job))
        except (OSError, ValueError):
            return None
