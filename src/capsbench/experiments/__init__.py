"""A run's identity, its folder, and what it leaves behind."""

from capsbench.experiments.identity import Identity
from capsbench.experiments.result import RESULT_FILE, Result
from capsbench.experiments.run import CHECKPOINT, CONFIG_FILE, train_and_test

__all__ = ["CHECKPOINT", "CONFIG_FILE", "RESULT_FILE", "Identity", "Result", "train_and_test"]
