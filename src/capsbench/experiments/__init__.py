"""A run's identity, its folder and state, and what it leaves behind."""

from capsbench.experiments.identity import Identity
from capsbench.experiments.result import RESULT_FILE, Result
from capsbench.experiments.run import CHECKPOINT, RESUME, train_and_test, where_to_go_on
from capsbench.experiments.state import CONFIG_FILE, FAILURE_FILE, State, TakenError, taken

__all__ = [
    "CHECKPOINT",
    "CONFIG_FILE",
    "FAILURE_FILE",
    "RESULT_FILE",
    "RESUME",
    "Identity",
    "Result",
    "State",
    "TakenError",
    "taken",
    "train_and_test",
    "where_to_go_on",
]
