"""Finished runs, read from their folders."""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from capsbench.runs import Result, RunFolder, begun_runs, finished_runs

PERCENT = 100
ACCURACIES = ("train/accuracy", "test/accuracy")


class OnlySmokeError(ValueError):
    """There are smoke runs only, where finished runs are needed."""


@dataclass(frozen=True)
class Run:
    """A finished run and its metrics per epoch."""

    result: Result
    folder: Path

    def curves(self) -> pd.DataFrame:
        """Return accuracy in training and test after each epoch, counted from 1; NaN where it was not measured.

        Where the last epoch has no test of its own, because a limit on steps cut it short, the final test of the same
        weights takes its place.
        """
        frame = pd.DataFrame(list(self.result.history)).set_index("epoch").reindex(columns=list(ACCURACIES))
        last = frame.index[-1]
        for name in ACCURACIES:
            if pd.isna(frame.loc[last, name]):
                frame.loc[last, name] = self.result.metrics.get(name, math.nan)
        return frame


def load_runs(root: Path) -> list[Run]:
    """Load the finished runs below a folder, without smoke runs, in the order of their paths.

    Raises:
        ValueError: there are none; an OnlySmokeError where there are smoke runs.
    """
    runs = [Run(Result.load(folder.path), folder.path) for folder in finished_runs(root)]
    counted = [run for run in runs if not run.result.smoke and run.result.epochs > 0]
    if not counted:
        kind = OnlySmokeError if runs else ValueError
        smoke = f" ({len(runs)} smoke runs do not count)" if runs else ""
        raise kind(f"no finished runs in {root}{smoke}; make some with: capsbench train experiment={root.name}")
    return counted


def unfinished(root: Path) -> list[RunFolder]:
    """Return the runs that were begun and have no result: failed, stopped, or still running."""
    return [folder for folder in begun_runs(root) if not folder.is_finished]


def accuracies(runs: list[Run]) -> pd.Series:
    """Return each run's test accuracy after its last epoch, in percent."""
    return PERCENT * pd.Series([run.result.metrics["test/accuracy"] for run in runs], dtype=float)
