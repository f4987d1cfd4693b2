"""The machines that train one run together. Slurm starts a process on each; PyTorch's launcher joins them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A machine that trains a run, alone or with others.

    Attributes:
        rank: 0 is the first one, which alone keeps the run's folder.
        number: of the machines.
        meeting_point: "HOST:PORT" of the first one; a machine alone needs none.
    """

    rank: int = 0
    number: int = 1
    meeting_point: str = ""


ALONE = Node()
"""The only machine that trains a run."""


def this_node(number: int) -> Node:
    """This machine among those that train a run.

    Args:
        number: of the machines that the run asks for.

    Raises:
        ValueError: it asks for several, and this is no job of that many.
    """
    if number == 1:
        return ALONE
    try:
        from submitit.helpers import TorchDistributedEnvironment  # of an optional package

        job = TorchDistributedEnvironment()
    except (ImportError, RuntimeError):  # submitit's word for a process that is no job of its own
        job = None
    if job is None or job.world_size != number:
        raise needs_slurm(number)
    return Node(job.rank, number, f"{job.master_addr}:{job.master_port}")


def needs_slurm(number: int) -> ValueError:
    """The error of a run on several machines that nothing starts there."""
    return ValueError(
        f"trainer.num_nodes={number} needs -m and launcher=slurm, which starts a run on several machines; here it must "
        "be 1, and trainer.devices=N divides the run over N devices of one machine"
    )
