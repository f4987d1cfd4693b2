"""A run's identity, its folder and state, and what it leaves behind."""

from capsbench.runs.identity import Identity
from capsbench.runs.result import RESULT_FILE, Result
from capsbench.runs.state import CONFIG_FILE, FAILURE_FILE, LockedError, State, locked
from capsbench.runs.train_and_test import CHECKPOINT, RESUME, find_checkpoint, train_and_test

__all__ = [
    "CHECKPOINT",
    "CONFIG_FILE",
    "FAILURE_FILE",
    "RESULT_FILE",
    "RESUME",
    "Identity",
    "LockedError",
    "Result",
    "State",
    "find_checkpoint",
    "locked",
    "train_and_test",
]
