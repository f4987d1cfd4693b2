"""Finished runs, read from their folders and compared: one row per router, mean and deviation over seeds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from capsbench.reports.paper import Target, flat, official
from capsbench.runs import Result, begun_runs, finished_runs

PERCENT = 100
ACCURACIES = ("train/accuracy", "test/accuracy")
COMPARED_WITH = "fm"
"""The router that the others are compared with."""


class OnlySmokeError(ValueError):
    """Where finished runs are wanted, there are none but smoke runs."""


@dataclass(frozen=True)
class Run:
    """A finished run and its metrics per epoch."""

    result: Result
    folder: Path

    def curves(self) -> pd.DataFrame:
        """Accuracy in training and test after each epoch, counted from 1; NaN where it was not measured.

        An epoch that a limit on steps cut short has no test of its own: the run's last, of the same weights, is its.
        """
        frame = pd.DataFrame(list(self.result.history)).set_index("epoch").reindex(columns=list(ACCURACIES))
        last = frame.index[-1]
        for name in ACCURACIES:
            if pd.isna(frame.loc[last, name]):
                frame.loc[last, name] = self.result.metrics.get(name, math.nan)
        return frame


@dataclass(frozen=True)
class Line:
    """Runs that differ in nothing but the seed: a row of a table, a curve of a figure.

    Attributes:
        router: the name of the choice.
        title: of the router, for readers.
        differences: what sets these runs apart, from the paper's where it has them, else from the panel's other runs.
        as_in_paper: whether the paper's number may stand beside them.
        runs: one per seed.
    """

    router: str
    title: str
    differences: tuple[str, ...]
    as_in_paper: bool
    runs: list[Run]

    @property
    def label(self) -> str:
        """The router, and in brackets what sets the runs apart."""
        return self.title + (f" [{', '.join(self.differences)}]" if self.differences else "")


@dataclass(frozen=True)
class Panel:
    """Runs that are comparable: the same data and architecture, their routers side by side.

    Attributes:
        title: "data / architecture"; with the number of training images where the set was cut.
        data: the title of the set that these runs are about.
        stand_in: the title of the set that was used in its place, if one was.
        lines: one per router, or per way of running it; the best first.
    """

    title: str
    data: str
    stand_in: str | None
    lines: list[Line]

    @property
    def routers(self) -> Mapping[str, list[Run]]:
        """The runs of each line, by its label."""
        return {line.label: line.runs for line in self.lines}


def load_runs(root: Path) -> list[Run]:
    """The finished runs below a folder, smoke runs left out, in the order of their paths.

    Raises:
        ValueError: there are none; an OnlySmokeError where there are smoke runs.
    """
    folders = [folder.path for folder in finished_runs(root)]
    runs = [Run(Result.load(folder), folder) for folder in folders]
    whole = [run for run in runs if not run.result.smoke and run.result.epochs > 0]
    if not whole:
        kind = OnlySmokeError if runs else ValueError
        smoke = f" ({len(runs)} smoke runs do not count)" if runs else ""
        raise kind(f"no finished runs in {root}{smoke}; make some with: capsbench train experiment={root.name}")
    return whole


def panels(runs: list[Run], target: Target | None = None) -> list[Panel]:
    """Sort runs into panels, told from the paper's runs where `target` has them, else from one another.

    Panels are in the order of the paper's data sets, then by title.
    """
    by_title: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: _title(run.result)):
        by_title.setdefault(_title(run.result), []).append(run)
    found = [_panel(title, group, target) for title, group in by_title.items()]
    order = target.data if target else ()
    return sorted(found, key=lambda panel: order.index(panel.data) if panel.data in order else len(order))


def _panel(title: str, runs: list[Run], target: Target | None) -> Panel:
    result = runs[0].result
    stand_in = result.data_title if result.stands_in_for else None
    return Panel(title, official(result), stand_in, _lines(runs, target))


def _lines(runs: list[Run], target: Target | None) -> list[Line]:
    """The runs of a panel by router and by what sets them apart, the best first."""
    grouped: dict[tuple[str, tuple[str, ...]], list[Run]] = {}
    for run, words in zip(runs, _told(runs, target), strict=True):
        grouped.setdefault((run.result.router, words), []).append(run)
    lines = [
        Line(
            router=router,
            title=target.routers.get(router, router) if target else router,
            differences=words,
            as_in_paper=target is not None and target.repeats(found[0].result),
            runs=found,
        )
        for (router, words), found in grouped.items()
    ]
    return sorted(lines, key=lambda line: (-accuracies(line.runs).mean(), line.label))


def _told(runs: list[Run], target: Target | None) -> list[tuple[str, ...]]:
    """What sets each run apart: from the paper's, and from others apart from it alike in what that does not tell."""
    if target is None:
        return _differences(runs)
    told = [target.deviations(run.result) for run in runs]
    kinds: dict[tuple[str, ...], list[int]] = {}
    for number, words in enumerate(told):
        kinds.setdefault(words, []).append(number)
    for numbers in kinds.values():
        for number, words in zip(numbers, _differences([runs[number] for number in numbers]), strict=True):
            told[number] += words
    return told


def accuracies(runs: list[Run]) -> pd.Series:
    """Test accuracy of each run after its last epoch, in percent."""
    return PERCENT * pd.Series([run.result.metrics["test/accuracy"] for run in runs], dtype=float)


def _title(result: Result) -> str:
    part = "" if result.full else f", {result.train_examples:,} training images"
    return f"{result.data_title}{part} / {result.arch}"


def _differences(runs: list[Run]) -> list[tuple[str, ...]]:
    """What tells each run from the others beside router and seed: "loss=spread", "router.iterations=1", or nothing.

    A part of the configuration that was chosen by name is told by that name, and by single settings only where they
    differ under one name; so what routers have of their own is told only where one router was run in several ways.
    """
    described = [_describe(run.result) for run in runs]
    keys = sorted({key for settings in described for key in settings})
    varying = [key for key in keys if len({settings.get(key) for settings in described}) > 1]
    told: list[list[str]] = [[] for _ in described]
    for key in varying:
        part = key.partition(".")[0]
        if key == "router":
            continue  # the label begins with it
        by_name: dict[str | None, set[str | None]] = {}
        for settings in described:
            by_name.setdefault(settings.get(part), set()).add(settings.get(key))
        for words, settings in zip(told, described, strict=True):
            if key in settings and (key == part or len(by_name[settings.get(part)]) > 1):
                words.append(f"{key}={settings[key]}")
    return [tuple(words) for words in told]


def unfinished(root: Path) -> list[Path]:
    """Folders below `root` whose run was begun and has no result: failed, stopped, or still going."""
    return [folder.path for folder in begun_runs(root) if not folder.is_finished]


def _describe(result: Result) -> dict[str, str]:
    """Every setting that is not the seed as text, by its dotted name; a part's own name is the choice made for it."""
    settings = {key: str(value) for key, value in flat(result.settings).items() if not key.endswith("seed")}
    return settings | {part: name for part, name in result.choices.items() if part != "logger"}
