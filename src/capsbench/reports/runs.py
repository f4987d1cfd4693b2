"""Runs read from their folders: what they reached, whether they learned, and those that crashed."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from capsbench.data.foreign import read_json
from capsbench.runs import Identity, Result, RunFolder, begun_runs, finished_runs

PERCENT = 100
TRAIN, TEST, VALIDATION = "train/accuracy", "test/accuracy", "val/accuracy"
MEASURED = {TRAIN: "Training accuracy", TEST: "Test accuracy", VALIDATION: "Validation accuracy"}
"""What these metrics are called."""
ABOVE_CHANCE = 0.03
"""A run that comes no further above chance did not learn."""
CLASSES = {"MultiMNIST": 10, "SmallNORB": 5} | dict.fromkeys(
    ("AffNIST", "CIFAR10", "Digits", "FashionMNIST", "MNIST", "SVHN"), 10
)
"""Of data sets, for results that do not name theirs."""
TWO_OF_THEM = ("MultiMNIST",)
"""Data sets of two different classes an image, both of which must be right."""
LOW_LOAD = 0.75
"""Of the machine, per core, up to which times measured in training count."""


@dataclass(frozen=True)
class Run:
    """A run that finished, or that crashed and has no metrics."""

    result: Result
    folder: Path

    @property
    def metric(self) -> str:
        """The accuracy that the run is compared by: of the validation split where it has one, else of the test set."""
        metrics = self.result.metrics
        measured = VALIDATION in metrics or not metrics
        return VALIDATION if measured and self.result.settings.get("data", {}).get("val_fraction") else TEST

    @property
    def accuracy(self) -> float:
        """The final one, in percent; NaN after a crash."""
        return PERCENT * self.result.metrics.get(self.metric, math.nan)

    @property
    def learned(self) -> bool:
        """Whether the final accuracy is more than 3 points above chance."""
        return self.accuracy > PERCENT * (chance(self.result) + ABOVE_CHANCE)

    @property
    def tested(self) -> float | None:
        """Test accuracy in percent, as `capsbench evaluate` measured it; None where it did not."""
        path = RunFolder(self.folder).evaluation("test")
        if not path.is_file():
            return None
        return PERCENT * float(read_json(path)["metrics"][TEST])

    @property
    def is_timed(self) -> bool:
        """Whether the machine's load was low before and after training; older results do not tell."""
        before, after, cores = (self.result.machine_load.get(name) for name in ("before", "after", "cores"))
        return None not in (before, after, cores) and max(before or 0, after or 0) <= LOW_LOAD * (cores or 1)

    def curves(self) -> pd.DataFrame:
        """Return accuracy in training and `metric` after each epoch, counted from 1; NaN where it was not measured.

        Where the last epoch was not measured, because a limit on steps cut it short, the final accuracy of the same
        weights takes its place.
        """
        names = [TRAIN, self.metric]
        frame = pd.DataFrame(list(self.result.history)).set_index("epoch").reindex(columns=names)
        last = frame.index[-1]
        for name in names:
            if pd.isna(frame.loc[last, name]):
                frame.loc[last, name] = self.result.metrics.get(name, math.nan)
        return frame


def chance(result: Result) -> float:
    """Return the accuracy of naming the most frequent class, from the counts of the confusion matrix.

    Without counts it is 1 / number of classes, or of pairs of classes: Multi-MNIST shows two of ten digits, which makes
    45 pairs. It is 0 where the number is not known.
    """
    if counts := result.confusion.get(result.watched_split):
        images = [sum(row) for row in counts]
        return max(images) / sum(images)
    data = str(result.settings.get("data", {}).get("_target_")).rpartition(".")[2]
    classes = len(result.class_names) or CLASSES.get(data, 0)
    guesses = math.comb(classes, 2) if data in TWO_OF_THEM else classes
    return 1 / guesses if guesses else 0.0


def load_runs(root: Path, folders: Iterable[RunFolder] | None = None) -> list[Run]:
    """Load finished runs; smoke runs only where there are no others.

    Args:
        root: a folder of runs; a message names it.
        folders: of the runs; those that are not finished are left out. None: all below `root`.

    Raises:
        ValueError: none is finished.
    """
    found = folders_in(root) if folders is None else folders
    runs = [Run(Result.load(folder.path), folder.path) for folder in found if folder.is_finished]
    runs = [run for run in runs if run.result.epochs > 0]
    if not runs:
        raise ValueError(f"no finished runs in {root}; make some with: capsbench train experiment={root.name}")
    return [run for run in runs if not run.result.smoke] or runs


def crashed_runs(folders: Iterable[RunFolder], finished: list[Run]) -> list[Run]:
    """List the runs that failed, each with the result that it would have had, but without metrics.

    What only a finished run tells, such as the title of its data, is taken from a run with the same data, and of the
    same length if there is one. A failed run that is like none of them is left out, and a smoke run among others.

    Args:
        folders: of all runs.
        finished: those that are compared.
    """
    found = []
    for folder in folders:
        if not folder.is_finished and folder.cause_of_failure is not None and folder.identity.is_file():
            identity = Identity.load(folder.identity)
            if finished[0].result.smoke or not identity.is_smoke:
                found += [Run(result, folder.path) for result in _as_crashed(identity, finished)]
    return found


def _as_crashed(identity: Identity, finished: list[Run]) -> list[Result]:
    def same(run: Run, part: str) -> bool:
        own = [dict(settings.get(part, {})) for settings in (identity.settings, run.result.settings)]
        for settings in own:
            settings.pop("seed", None)
        return own[0] == own[1]

    like = [run for run in finished if same(run, "data")]
    if not like:
        return []
    closest = max(like, key=lambda run: (same(run, "trainer"), run.result.arch == identity.arch))
    trainer = identity.settings.get("trainer", {})
    length = {name: max(trainer.get(f"max_{name}", 0), 0) for name in ("epochs", "steps")}
    told = {name: getattr(identity, name) for name in ("data", "arch", "router", "seed", "settings", "choices")}
    changed = {**told, "identity": identity.digest, "identity_version": identity.version, "metrics": {}, "history": ()}
    return [replace(closest.result, **changed, **({} if same(closest, "trainer") else length))]


def unfinished(root: Path) -> list[RunFolder]:
    """Return the runs that were begun and have no result: failed, stopped, or still running."""
    return [folder for folder in begun_runs(root) if not folder.is_finished]


def folders_in(*roots: Path) -> list[RunFolder]:
    """Return the runs below these folders, finished or begun, in the order of their paths."""
    found = [folder for root in roots for folder in (*finished_runs(root), *begun_runs(root))]
    return sorted(dict.fromkeys(found), key=lambda folder: folder.path)


def accuracies(runs: Iterable[Run]) -> pd.Series:
    """Return each run's final accuracy in percent, by its seed."""
    found = list(runs)
    return pd.Series([run.accuracy for run in found], [run.result.seed for run in found], dtype=float)
