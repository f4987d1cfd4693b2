"""The finished runs of an experiment, sorted into what can be compared."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from capsbench.reports.paper import FORMER, Target, router_title, target_of
from capsbench.reports.protocol import Paper, Protocols, flat, official
from capsbench.reports.runs import Run, accuracies, load_runs, unfinished
from capsbench.runs import Result
from capsbench.runs.identity import changes

COMPARED_WITH = "fm"
"""The router that the others are compared with."""


@dataclass(frozen=True)
class Condition:
    """Runs that differ only in the seed: a row of a table, a curve of a figure.

    Attributes:
        router: its name in conf/router.
        title: the router's, for readers.
        differences: what sets these runs apart: from the paper's where it has them, else from others of the panel.
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

    @property
    def budget(self) -> tuple[int, int, int]:
        """Epochs, steps and training images of a run."""
        result = self.runs[0].result
        return result.epochs, result.steps, result.train_examples


@dataclass(frozen=True)
class Panel:
    """Runs that are comparable: the same data and architecture, their routers side by side.

    Attributes:
        title: "data / architecture", with the number of training images where the set was cut.
        data: the title of the data set that these runs are about.
        stand_in: the title of the set that was used in its place, if one was.
        conditions: the best first.
    """

    title: str
    data: str
    stand_in: str | None
    conditions: list[Condition]

    @property
    def by_label(self) -> Mapping[str, list[Run]]:
        """The runs of each condition, by its label."""
        return {condition.label: condition.runs for condition in self.conditions}

    def fm_like(self, condition: Condition) -> Condition | None:
        """Find the FM condition that a condition is tested against: as long, and apart in nothing that it is not."""
        alike = [
            other
            for other in self.conditions
            if other.router == COMPARED_WITH
            and set(other.differences) <= set(condition.differences)
            and other.budget == condition.budget
        ]
        return max(alike, key=lambda other: len(other.differences), default=None)


@dataclass(frozen=True)
class Comparison:
    """The finished runs of an experiment, compared.

    Attributes:
        name: of the experiment, and of its folder.
        target: the paper's table or figure of that name, if it is one.
        panels: what can be compared, in the order of the paper's data sets, then by title.
        begun: (router, data title) of the runs that were begun and are not finished.
    """

    name: str
    target: Target | None
    panels: list[Panel]
    begun: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, root: Path, protocols: Protocols) -> "Comparison":
        """Compare the finished runs below an experiment's folder.

        Args:
            root: the folder; its name is the experiment's.
            protocols: composes the paper's runs.

        Raises:
            ValueError: there are none.
        """
        target = target_of(root.name)
        if target is None:
            return cls(root.name, None, panels(load_runs(root)))
        return cls(root.name, target, panels(load_runs(root), Paper(target, protocols)), _begun(root, target))

    @property
    def title(self) -> str:
        """For readers."""
        if self.target is None:
            return self.name
        return self.target.title + (" (former settings)" if self.name.endswith(f"_{FORMER}") else "")

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for condition in self.conditions for run in condition.runs]

    @property
    def conditions(self) -> list[Condition]:
        """Those of all panels."""
        return [condition for panel in self.panels for condition in panel.conditions]

    @property
    def shared(self) -> tuple[str, ...]:
        """What sets every run apart from the paper's."""
        first, *others = (condition.differences for condition in self.conditions)
        return tuple(word for word in first if all(word in other for other in others))

    def without_shared(self) -> "Comparison":
        """Leave out of the labels what sets every run apart: a caption can say it once."""
        shared = self.shared

        def shortened(condition: Condition) -> Condition:
            kept = tuple(word for word in condition.differences if word not in shared)
            return replace(condition, differences=kept)

        return replace(self, panels=[replace(one, conditions=[*map(shortened, one.conditions)]) for one in self.panels])


def panels(runs: list[Run], paper: Paper | None = None) -> list[Panel]:
    """Sort runs into panels, the paper's data sets in its order, then by title.

    Args:
        runs: of one experiment.
        paper: what they repeat; None: runs are told from one another.
    """
    by_title: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: _title(run.result)):
        by_title.setdefault(_title(run.result), []).append(run)
    found = [_panel(title, group, paper) for title, group in by_title.items()]
    order = list(paper.target.data) if paper else []
    return sorted(found, key=lambda panel: order.index(panel.data) if panel.data in order else len(order))


def _begun(root: Path, target: Target) -> frozenset[tuple[str, str]]:
    titles = {data: title for title, data in target.data.items()}
    places = [folder.path.relative_to(root).parts for folder in unfinished(root)]  # data, architecture, router, seed
    return frozenset((place[2], titles[place[0]]) for place in places if len(place) == 4 and place[0] in titles)


def _title(result: Result) -> str:
    part = "" if result.full else f", {result.train_examples:,} training images"
    return f"{result.data_title}{part} / {result.arch}"


def _panel(title: str, runs: list[Run], paper: Paper | None) -> Panel:
    result = runs[0].result
    stand_in = result.data_title if result.stands_in_for else None
    grouped: dict[tuple[str, tuple[str, ...]], list[Run]] = {}
    for run, words in zip(runs, _all_differences(runs, paper), strict=True):
        grouped.setdefault((run.result.router, words), []).append(run)
    conditions = [
        _condition(words, found, paper is not None and paper.repeats(found[0].result))
        for (_, words), found in grouped.items()
    ]
    conditions.sort(key=lambda condition: (-accuracies(condition.runs).mean(), condition.label))
    return Panel(title, official(result), stand_in, conditions)


def _condition(differences: tuple[str, ...], runs: list[Run], as_in_paper: bool) -> Condition:
    result = runs[0].result
    iterations = result.settings.get("router", {}).get("iterations")
    title = router_title(result.router, iterations)
    told = f"router.iterations={iterations}" if title.endswith(f" ({iterations})") else None
    return Condition(result.router, title, tuple(word for word in differences if word != told), as_in_paper, runs)


def _all_differences(runs: list[Run], paper: Paper | None) -> list[tuple[str, ...]]:
    """Name each run's differences from the paper's protocol, then from its otherwise equal neighbours."""
    if paper is None:
        return _differences(runs)
    words = [paper.deviations(run.result) for run in runs]
    alike: dict[tuple[str, ...], list[int]] = {}
    for number, told in enumerate(words):
        alike.setdefault(told, []).append(number)
    for numbers in alike.values():
        for number, more in zip(numbers, _differences([runs[number] for number in numbers]), strict=True):
            words[number] += more
    return words


def _differences(runs: list[Run]) -> list[tuple[str, ...]]:
    """Name what sets each run apart from the others, beside router and seed: "loss=spread", "arch.vote_gain=0.25".

    A part of the configuration that was chosen by name is told by that name, and by single settings only where they
    differ under one name. A router's own settings are therefore told only where it was run in several ways.
    """
    described = [_describe(run.result) for run in runs]
    changed = sorted({key for run in runs for key in (*flat(changes(run.result.settings)), *run.result.choices)})
    varying = [key for key in changed if len({settings.get(key) for settings in described}) > 1]
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


def _describe(result: Result) -> dict[str, str]:
    """Every setting but the seed as text, by its dotted name; a part's own name has the choice made for it."""
    settings = {key: str(value) for key, value in flat(result.settings).items() if not key.endswith("seed")}
    return settings | {part: name for part, name in result.choices.items() if part != "logger"}
