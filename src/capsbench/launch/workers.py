"""Processes that train runs for another one: they end with it, and are told when it is to stop."""

import multiprocessing
import os
import platform
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from capsbench import signals
from capsbench.runs import SWEEP, RunFolder

LOOK_EVERY_S = 0.1
STOP = signal.SIGUSR1
"""With it a worker tells its parent of a signal, which the parent may know already."""


def follow_parent() -> None:
    """Let this worker save and end when its parent ends."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        signals.follow(parent.pid)


def join_sweep() -> None:
    """Do the same in a worker of a sweep; a signal to it stops the sweep, whose other workers then save, too."""
    parent = os.getppid()
    follow_parent()
    signals.listen(lambda _: os.kill(parent, STOP) if os.getppid() == parent else None)


@contextmanager
def stopped_together(folders: Sequence[RunFolder]) -> Iterator[None]:
    """Pass a signal on to the processes that train runs for this one, and wait until they have saved.

    Args:
        folders: of the runs that are launched within the block.
    """

    def stop(*_: object) -> None:
        if signals.received() is None:
            _stop(folders)

    os.environ[SWEEP] = uuid.uuid4().hex
    before = signal.signal(STOP, stop)
    try:
        with signals.told(lambda _: _stop(folders)):
            yield
    finally:
        signal.signal(STOP, before)
        del os.environ[SWEEP]


def _stop(folders: Sequence[RunFolder]) -> None:
    """Send SIGTERM, since Ray keeps other signals from its workers."""
    told: set[int] = set()
    while workers := _workers(folders):
        for worker in workers - told:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGTERM)
        told |= workers
        time.sleep(LOOK_EVERY_S)


def _workers(folders: Sequence[RunFolder]) -> set[int]:
    """The processes of this machine that train runs for this one."""
    sessions = [folder.read_session() for folder in folders if folder.session.exists() and folder.is_locked]
    ours = (os.environ[SWEEP], platform.node())
    return {session.pid for session in sessions if session.pid and (session.sweep, session.host) == ours} - {
        os.getpid()
    }
