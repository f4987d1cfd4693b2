"""Runs read from their folders: what they reached, whether they learned, and those that crashed."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from capsbench.data.reading import in_words
from capsbench.reports.measured import read_equivariance, read_tested
from capsbench.reports.statistics import PERCENT as PERCENT
from capsbench.runs import Identity, Result, RunFolder, begun_runs, finished_runs
from capsbench.runs.checks import holds_out
from capsbench.runs.measures import EXACT_MATCH, MAIN, main_metric
from capsbench.runs.outcome import has_learned

TEST, VALIDATION = "test/accuracy", "val/accuracy"
SPLITS = {"train": "Training", "test": "Test", "val": "Validation"}
MEASURED = {f"{split}/{name}": f"{of} {words}" for split, of in SPLITS.items() for name, words in MAIN.items()}
"""What these metrics are called."""
LOW_LOAD = 0.75
"""Of the machine, per core, up to which times measured in training count."""
LOW_LOAD_OF_GPU = 2
"""The same of a machine whose GPU trains one run alone: what else uses the GPU adds to the load at least 1."""


@dataclass(frozen=True)
class Run:
    """A run that finished, or that crashed and has no metrics.

    Attributes:
        result: what came out of it.
        folder: of the run.
        tested: test accuracy in percent, as `capsbench evaluate` measured it; None where it did not.
        equivariance: what `capsbench analyze equivariance` measured; None where it did not.
        faults: of these two, which were left out because their files cannot be believed.
    """

    result: Result
    folder: Path
    tested: float | None = None
    equivariance: Mapping[str, Any] | None = None
    faults: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: Result, folder: RunFolder) -> "Run":
        """The run of a result, with what was measured later."""
        found: dict[str, Any] = {}
        faults = []
        for name, path, read in (
            ("tested", folder.evaluation("test"), lambda path: PERCENT * read_tested(path, result)),
            ("equivariance", folder.equivariance, read_equivariance),
        ):
            try:
                found[name] = read(path)
            except FileNotFoundError:
                pass
            except ValueError as error:
                faults.append(f"{path} is not what capsbench wrote: {in_words(error)}; delete it to measure again")
        return cls(result, folder.path, **found, faults=tuple(faults))

    @property
    def metric(self) -> str:
        """The accuracy that the run is compared by: of the validation split where it has one, else of the test set.

        It is the exact match where images have any number of labels.
        """
        if metrics := self.result.metrics:
            is_validated = holds_out(self.result.settings.get("data", {}))
            return main_metric(metrics, ("val", "test") if is_validated else ("test",))
        split = "val" if holds_out(self.result.settings.get("data", {})) else "test"
        return f"{split}/{'accuracy' if self.result.most_frequent_labels is None else EXACT_MATCH}"

    @property
    def accuracy(self) -> float:
        """The final one, in percent; NaN after a crash."""
        return PERCENT * self.result.metrics.get(self.metric, math.nan)

    @property
    def learned(self) -> bool:
        """Whether the final accuracy is more than 3 points above chance."""
        return has_learned(self.result)

    @property
    def is_timed(self) -> bool:
        """Whether the machine's load was low before and after training; older results do not tell."""
        before, after, cores = (self.result.machine_load.get(name) for name in ("before", "after", "cores"))
        if before is None or after is None or cores is None:
            return False
        low = LOW_LOAD * cores
        return max(before, after) <= (low if self.result.device.startswith("cpu") else min(low, LOW_LOAD_OF_GPU))

    def curves(self) -> pd.DataFrame:
        """Return accuracy in training and `metric` after each epoch, counted from 1; NaN where it was not measured.

        Where the last epoch was not measured, because a limit on steps cut it short, the final accuracy of the same
        weights takes its place.
        """
        names = [of_training(self.metric), self.metric]
        frame = pd.DataFrame(list(self.result.history)).set_index("epoch").reindex(columns=names)
        last = frame.index[-1]
        for name in names:
            if pd.isna(frame.loc[last, name]):
                frame.loc[last, name] = self.result.metrics.get(name, math.nan)
        return frame


@dataclass(frozen=True)
class Loaded:
    """What was read of folders.

    Attributes:
        finished: the runs that finished; smoke runs only where there are no others.
        crashed: those that failed, each with the result that it would have had, but without metrics.
        unlike: how many failed beside these, on data of which no run finished.
        faults: a line for each file that was left out because it cannot be believed.
        elsewhere: runs that lie in an output folder inside the experiment's.
    """

    finished: list[Run]
    crashed: list[Run]
    unlike: int = 0
    faults: tuple[str, ...] = ()
    elsewhere: tuple[Path, ...] = ()


class NoRunsError(ValueError):
    """None of the runs is finished.

    Args:
        root: their folder.
        faults: lines on files that cannot be believed.
    """

    def __init__(self, root: Path, faults: Sequence[str] = ()) -> None:
        super().__init__(f"no finished runs in {root}; make some with: capsbench train experiment={root.name}")
        self.faults = faults


def load_runs(root: Path, folders: Iterable[RunFolder] | None = None, within: Sequence[Path] = ()) -> Loaded:
    """Load runs.

    What only a finished run tells, such as the title of its data, a crashed one takes from a run with the same data,
    and of the same length if there is one. A failed run that is like none of them is only counted. A smoke run among
    others is left out.

    Args:
        root: a folder of runs; a message names it.
        folders: of the runs; None: all below `root`.
        within: folders of experiments; runs that lie deeper in them are those of other output folders. None: any place.

    Raises:
        NoRunsError: none is finished.
    """
    runs: dict[tuple[object, ...], Run] = {}
    crashed: list[tuple[Identity, RunFolder]] = []
    faults: list[str] = []
    elsewhere = []
    for folder in folders_in(root) if folders is None else folders:
        try:
            if folder.is_finished:
                result = Result.load(folder.path)
                same = (result.run.folder("").parent, result.seed, result.identity)
                if not is_within(folder, result.run, within):
                    elsewhere.append(folder.path)
                elif same in runs:
                    faults.append(f"{folder} holds the same run as {runs[same].folder}, which counts; delete one")
                elif result.epochs > 0:
                    runs[same] = Run.of(result, folder)
                    faults += runs[same].faults
            elif folder.cause_of_failure is not None and os.path.lexists(folder.identity):
                crashed.append((Identity.load(folder.path), folder))
        except FileNotFoundError:  # deleted while one looks
            continue
        except ValueError as error:
            faults.append(str(error))
    if not runs:
        raise NoRunsError(root, faults)
    finished = [run for run in runs.values() if not run.result.smoke] or list(runs.values())
    counted = [
        (_as_crashed(identity, finished), folder)
        for identity, folder in crashed
        if is_within(folder, identity, within) and (finished[0].result.smoke or not identity.is_smoke)
    ]
    lost = [Run(result, folder.path) for result, folder in counted if result is not None]
    return Loaded(finished, lost, len(counted) - len(lost), tuple(faults), tuple(elsewhere))


def is_within(folder: RunFolder, run: Identity, roots: Sequence[Path]) -> bool:
    """Tell whether a run lies directly in the folder of an experiment, ROOT/DATA/ARCH/ROUTER/seedN-DIGEST."""
    places = [Path(root, run.data, run.arch, run.router) for root in roots]
    return not places or folder.path.parent in places


def _as_crashed(identity: Identity, finished: list[Run]) -> Result | None:
    def same(run: Run, part: str) -> bool:
        own = [dict(settings.get(part, {})) for settings in (identity.settings, run.result.settings)]
        for settings in own:
            settings.pop("seed", None)
        return own[0] == own[1]

    like = [run for run in finished if same(run, "data")]
    if not like:
        return None
    closest = max(like, key=lambda run: (same(run, "trainer"), run.result.arch == identity.arch))
    trainer = identity.settings.get("trainer", {})
    per_epoch = closest.result.steps / closest.result.epochs
    epochs, steps = (max(trainer.get(f"max_{name}") or 0, 0) for name in ("epochs", "steps"))
    length = {"epochs": epochs or math.ceil(steps / per_epoch), "steps": steps or round(epochs * per_epoch)}
    told = {name: getattr(identity, name) for name in ("data", "arch", "router", "seed", "settings", "choices")}
    changed: dict[str, Any] = {
        **told,
        "identity": identity.digest,
        "identity_version": identity.version,
        "metrics": {},
        "history": (),
    }
    return replace(closest.result, **changed | ({} if same(closest, "trainer") else length))


def unfinished(root: Path) -> list[RunFolder]:
    """Return the runs of an experiment that were begun and have no result: failed, stopped, or still running."""
    return [folder for folder in begun_runs(root) if not folder.is_finished and _is_of(folder, root)]


def identity_of(folder: RunFolder) -> Identity | None:
    """Read what an unfinished run is; None if it does not say so, or cannot be believed."""
    try:
        return Identity.load(folder.path)
    except (FileNotFoundError, ValueError):
        return None


def _is_of(folder: RunFolder, root: Path) -> bool:
    """Tell whether an unfinished run belongs to an experiment; one that does not say what it is, by its depth."""
    if (run := identity_of(folder)) is not None:
        return is_within(folder, run, [root])
    return len(folder.path.relative_to(root).parts) == len(("data", "arch", "router", "seed"))


def folders_in(*roots: Path) -> list[RunFolder]:
    """Return the runs below these folders, finished or begun, in the order of their paths."""
    found = [folder for root in roots for folder in (*finished_runs(root), *begun_runs(root))]
    return sorted(dict.fromkeys(found), key=lambda folder: folder.path)


def of_training(metric: str) -> str:
    """Name the same metric of the training split."""
    return f"train/{metric.partition('/')[2]}"


def accuracies(runs: Iterable[Run]) -> pd.Series:
    """Return each run's final accuracy in percent, by its seed."""
    found = list(runs)
    return pd.Series([run.accuracy for run in found], [run.result.seed for run in found], dtype=float)
