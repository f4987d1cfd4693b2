"""Runs sorted into conditions, which differ in more than the seed, and panels of comparable conditions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from capsbench.reports.labels import Differences, described, differences, short_names
from capsbench.reports.paper import AUTHORS, router_title
from capsbench.reports.protocol import Paper, official
from capsbench.reports.runs import TEST, Run, accuracies
from capsbench.runs import Result
from capsbench.runs.identity import VERSION

COMPARED_WITH = "fm"
"""The router that the others are compared with, if no other is named."""


@dataclass(frozen=True)
class Condition:
    """Runs that differ only in the seed: a row of a table, a curve of a figure.

    Attributes:
        router: its name in conf/router.
        row: that of the paper's row: "fm", where `router` stands for it in the authors' protocol.
        title: the row's, for readers.
        differences: what sets these runs apart: from the paper's where it has them, else from others of the panel.
        as_in_paper: whether the paper's number may stand beside them.
        runs: those that finished, one per seed.
        crashed: seeds that failed.
        departures: settings and lengths that a baseline must share, but for the router's: those other than usual, or
            where the paper has no such runs all that vary.
        own: settings of the router that are not usual.
        usual: what other rows need not say: the values of settings in which a run of these departs from the paper's or
            a neighbour from these.
        settings: all of these runs but the seed, as text, by dotted names.
        varying: names of those in which runs of the panel differ, without what the title tells.
    """

    router: str
    row: str
    title: str
    differences: tuple[str, ...]
    as_in_paper: bool
    runs: list[Run]
    crashed: tuple[int, ...] = ()
    departures: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    usual: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    varying: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The router, and in brackets what sets the runs apart."""
        return self.title + (f" [{', '.join(self.differences)}]" if self.differences else "")

    @property
    def budget(self) -> tuple[int | None, int | None, int]:
        """Epochs, steps and training images of a run; where a metric chose when to stop, the most that were allowed."""
        result = self.runs[0].result
        if result.chosen:
            trainer = result.settings.get("trainer", {})
            return trainer.get("max_epochs"), trainer.get("max_steps"), result.train_examples
        return result.epochs, result.steps, result.train_examples

    def without(self, words: Iterable[str]) -> "Condition":
        """Leave words out of the label."""
        return replace(self, differences=tuple(word for word in self.differences if word not in words))


@dataclass(frozen=True)
class Panel:
    """Runs that are comparable: the same data, architecture, protocol, kind of accuracy and meaning of settings.

    Attributes:
        title: "data / architecture", with what else the runs have in common that others have not.
        data: the title of the data set that these runs are about.
        stand_in: the title of the set that was used in its place, if one was.
        protocol: the name of the experiment whose settings they are set against: "table3", "table3_authors"; else "".
        metric: the accuracy that counts: "test/accuracy" or "val/accuracy".
        version: of what settings mean.
        conditions: the best first; each has a run that finished.
        lost: conditions without any run that finished.
    """

    title: str
    data: str
    stand_in: str | None
    protocol: str
    metric: str
    version: int
    conditions: list[Condition]
    lost: list[Condition]

    @property
    def by_label(self) -> Mapping[str, list[Run]]:
        """The runs of each condition, by its label."""
        return {condition.label: condition.runs for condition in self.conditions}

    def baseline_of(self, condition: Condition, router: str) -> Condition | None:
        """Find what a condition is compared with: `router`, as long, and apart in nothing that it is not.

        In a panel that repeats nothing of the paper it has the same settings, but for the router's own.

        Of several the one that departs in most of what it does, with the fewest settings of its own.
        """
        alike = [
            other
            for other in self.conditions
            if router in (other.router, other.row)
            and other.departures <= condition.departures
            and other.budget == condition.budget
        ]
        return max(alike, key=lambda other: (len(other.departures), -len(other.own), other.label), default=None)


def panels(runs: Sequence[Run], papers: Sequence[Paper] = (), crashed: Sequence[Run] = ()) -> list[Panel]:
    """Sort runs into panels: the newest meaning of settings first, then the paper's data sets in its order.

    Args:
        runs: that finished.
        papers: what they repeat; each run is set against the one that it is closest to. None: runs are told from one
            another.
        crashed: that failed.
    """
    names = short_names(described(run.result) for run in (*runs, *crashed))
    grouped: dict[tuple[str, str, int, str], list[Run]] = {}
    told: dict[str, Paper] = {paper.target.name: paper for paper in papers}
    for run in (*runs, *crashed):
        paper = min(papers, key=lambda one: _distance(one, run.result), default=None)
        key = (_title(run.result), paper.target.name if paper else "", run.result.identity_version, run.metric)
        grouped.setdefault(key, []).append(run)
    found = [_panel(key, group, told.get(key[1]), names) for key, group in grouped.items()]
    order = list(papers[0].target.data) if papers else []

    def place(panel: Panel) -> tuple[object, ...]:
        at = order.index(panel.data) if panel.data in order else len(order)
        return -panel.version, not panel.metric.startswith("test/"), panel.metric, at, panel.protocol, panel.title

    return sorted(found, key=place)


def _distance(paper: Paper, result: Result) -> tuple[int, bool]:
    apart = len(paper.deviations(result)) + (result.router not in paper.target.routers)
    return apart, paper.target.name != result.experiment


def _title(result: Result) -> str:
    part = "" if result.full or result.smoke else f", {result.train_examples:,} training images"
    return f"{result.data_title}{part} / {result.arch}"


def _panel(key: tuple[str, str, int, str], runs: list[Run], paper: Paper | None, names: Mapping[str, str]) -> Panel:
    title, protocol, version, metric = key
    title += ", authors' protocol" if protocol.endswith(f"_{AUTHORS}") else ""
    title += ", validation" if metric.startswith("val/") else ""
    title += f", older runs (version {version})" if version < VERSION else ""
    result = runs[0].result
    stand_in = result.data_title if result.stands_in_for else None
    grouped: dict[object, tuple[list[Run], Differences]] = {}
    for run, found in zip(runs, _differences(runs, paper), strict=True):
        same = (run.result.router, found.words, tuple(found.all.items()))
        grouped.setdefault(same, ([], found))[0].append(run)
    conditions = [_condition(found, same, paper, names) for same, found in grouped.values()]
    finished = [condition for condition in conditions if condition.runs]
    finished.sort(key=lambda condition: (-accuracies(condition.runs).mean(), condition.label))
    lost = sorted((condition for condition in conditions if not condition.runs), key=lambda lost: lost.label)
    return Panel(title, official(result), stand_in, protocol, metric, version, finished, lost)


def _differences(runs: list[Run], paper: Paper | None) -> list[Differences]:
    """Differences from the paper's protocol, and then from runs that differ from it alike."""
    if paper is None:
        return differences(runs)
    found = [Differences.of(paper.shortened(run.result), paper.changes(run.result)) for run in runs]
    alike: dict[object, list[int]] = {}
    for number, each in enumerate(found):
        alike.setdefault((each.words, tuple(each.all.items())), []).append(number)
    for numbers in alike.values():
        for number, more in zip(numbers, differences([runs[number] for number in numbers]), strict=True):
            found[number] = found[number] | more
    return found


def _condition(found: Differences, same: list[Run], paper: Paper | None, names: Mapping[str, str]) -> Condition:
    result = same[0].result
    rows = {ours: row for row, ours in paper.target.authors.items() if ours in paper.target.routers} if paper else {}
    row = rows.get(result.router, result.router)
    iterations = result.settings.get("router", {}).get("iterations")
    title = router_title(row, iterations)
    titled = {"router.iterations": str(iterations)} if title.endswith(f" ({iterations})") else {}
    words = [f"{names.get(key, key)}={value}" for key, value in sorted(found.told.items()) if titled.get(key) != value]
    of_router = {key for key in found.departures if key.partition(".")[0] == "router"}
    matched = found.matched if paper else found.all
    by_seed = {run.result.seed: run for run in reversed(same) if run.result.metrics}  # run twice, it is one run
    return Condition(
        router=result.router,
        row=row,
        title=title,
        differences=(*found.words, *words),
        as_in_paper=paper is not None and paper.repeats(result) and same[0].metric == TEST,
        runs=[by_seed[seed] for seed in sorted(by_seed)],
        crashed=tuple(sorted({run.result.seed for run in same} - by_seed.keys())),
        departures=frozenset(f"{k}={v}" for k, v in matched.items() if k.partition(".")[0] != "router")
        | frozenset(found.words),
        own=frozenset(of_router),
        usual={names.get(key, key): value for key, value in found.usual.items()},
        settings=described(result) | dict(found.all),
        varying=tuple(key for key, value in found.all.items() if titled.get(key) != value),
    )
