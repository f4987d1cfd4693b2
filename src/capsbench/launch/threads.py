"""How long the threads of a parallel region wait for the next one before they sleep."""

import os

SPIN_COUNT = "3000"
"""Turns of GNU OpenMP's waiting loop. Without a limit, threads that wait at a barrier keep the cores from the work they
wait for as soon as anything else runs; see `capsbench benchmark contention`."""


def let_threads_sleep() -> None:
    """Limit how long waiting threads of GNU OpenMP spin, unless the environment says how they are to wait.

    Call it before torch is imported: the library reads its environment once. Processes started later inherit it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
