"""One run: its identity, its folder and state, its training and its result.

Training is in `capsbench.runs.train_and_test`, which imports PyTorch and Lightning; what is here does without them.
"""

from capsbench.runs.folder import SWEEP, LockedError, RunFolder, begun_runs, finished_runs
from capsbench.runs.identity import Identity
from capsbench.runs.names import NamedRuns, named_folders
from capsbench.runs.result import Result, ResultError
from capsbench.runs.state import State

__all__ = [
    "SWEEP",
    "Identity",
    "LockedError",
    "NamedRuns",
    "Result",
    "ResultError",
    "RunFolder",
    "State",
    "begun_runs",
    "finished_runs",
    "named_folders",
]
