"""The process of a Slurm job. Slurm's word that time is nearly up is held back until it can be heeded."""

import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

WORD = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
"""How submitit asks Slurm to say so."""


@dataclass(frozen=True)
class Task:
    """A run of a job.

    Attributes:
        folder: of the run.
        overrides: of the run.
        number: of the run in its sweep.
        state: of Hydra's singletons where the sweep was started.
    """

    folder: Any
    overrides: list[str]
    number: int
    state: Any


def main() -> None:
    """Hold the word back, since submitit's imports and ours take seconds; then do what submitit is asked for."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {WORD})
    from submitit.core.submission import process_job  # of an optional package

    process_job(sys.argv[-1])


def train(start: Callable[..., Any], tasks: Sequence[Task], times: int) -> None:
    """Train the runs of a job one after the other; a requeued job goes through finished ones quickly.

    Args:
        start: starts a Hydra job.
        tasks: what to train.
        times: how often the job may be requeued after its time limit.
    """
    handler = signal.getsignal(WORD)
    assert callable(handler)
    requeue = functools.partial(_end_at_once, handler)
    ended = []
    for task in tasks:
        signal.signal(WORD, functools.partial(_requeue_or_stop, requeue, task, times))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {WORD})
        ended.append(start(task.overrides, "hydra.sweep.dir", task.number, f"job_{task.number}", task.state))
    for each in ended:
        _ = each.return_value  # raises what stopped it from outside its run


def end_at_once_when_requeued() -> None:
    """Where submitit handles the word in this process, let a requeue end it at once.

    Submitit raises SystemExit, which PyTorch makes another error of while it writes a checkpoint.
    """
    handler = signal.getsignal(WORD)
    if callable(handler) and getattr(handler, "__module__", "").startswith("submitit."):
        signal.signal(WORD, functools.partial(_end_at_once, handler))


def _end_at_once(handler: Callable[..., None], number: int, frame: FrameType | None) -> None:
    try:
        handler(number, frame)
    except SystemExit as error:
        sys.stdout.flush()
        os._exit(int(error.code or 0) % 256)


def _requeue_or_stop(
    requeue: Callable[..., None], task: Task, times: int, number: int, frame: FrameType | None
) -> None:
    """Handle the word. Where the job was requeued too often, the run saves and stops: that is no fault of the run."""
    from submitit.core.utils import UncompletedJobError

    from capsbench import signals

    try:
        requeue(number, frame)
    except UncompletedJobError:
        cause = (
            f"its job reached its time limit more than hydra.launcher.max_num_timeout={times} times; "
            "hydra.launcher.timeout_min gives it longer"
        )
        task.folder.record(cause, "", failed=False)
        signals.receive(number, frame)


if __name__ == "__main__":
    main()
