"""The runs of an experiment, or of named sweeps, compared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from capsbench.reports.conditions import COMPARED_WITH, Condition, Panel, panels
from capsbench.reports.paper import AUTHORS, FORMER, Target, target_of
from capsbench.reports.protocol import Paper, Protocols
from capsbench.reports.runs import Run, folders_in, load_runs, unfinished
from capsbench.runs import RunFolder

__all__ = ["COMPARED_WITH", "Comparison", "Condition", "Panel", "panels"]


@dataclass(frozen=True)
class Comparison:
    """The runs of an experiment, compared.

    Attributes:
        name: of the experiment, without the ending of a protocol: where its folder is below the outputs.
        target: the paper's table or figure of that name, if it is one.
        panels: what can be compared, in the order of the paper's data sets, then by title.
        begun: (router, data title) of the runs that were begun and are not finished.
        baseline: the router that the others are compared with.
        unlike: how many runs crashed on data of which no run finished; they are in no panel.
        smoke: whether these are smoke runs, whose numbers mean nothing.
        faults: a line for each file that was left out because it cannot be believed.
        elsewhere: runs that were left out because they lie in an output folder inside the experiment's.
        chosen: runs that were left out of the paper's tables because they were stopped, or their weights chosen, by a
            metric.
    """

    name: str
    target: Target | None
    panels: list[Panel]
    begun: frozenset[tuple[str, str]] = frozenset()
    baseline: str = COMPARED_WITH
    unlike: int = 0
    smoke: bool = False
    faults: tuple[str, ...] = ()
    elsewhere: tuple[Path, ...] = ()
    chosen: tuple[Path, ...] = ()

    @classmethod
    def of(cls, root: Path, protocols: Protocols, baseline: str | None = None, name: str | None = None) -> "Comparison":
        """Compare the runs below an experiment's folder; a table of the paper in both of its protocols.

        Args:
            root: the folder.
            protocols: composes the paper's runs.
            baseline: what to compare with; None: FM.
            name: the experiment's; None: that of the folder.

        Raises:
            NoRunsError: none is finished.
            ValueError: none has the baseline.
        """
        name = family(name or root.name)
        target = target_of(name)
        if target is None:
            return cls.among(name, root, folders_in(root), baseline, within=[root])
        roots = roots_of(root)
        papers = [Paper(one, protocols) for one in (target, target.of_authors())[: len(roots)]]
        found = cls.among(name, root, folders_in(*roots), baseline, papers, within=roots)
        begun = frozenset(pair for one in roots for pair in _begun(one, target))
        return found if found.smoke or found.is_chosen else replace(found, target=target, begun=begun)

    @classmethod
    def among(
        cls,
        name: str,
        root: Path,
        folders: Sequence[RunFolder],
        baseline: str | None,
        papers: Sequence[Paper] = (),
        within: Sequence[Path] = (),
    ) -> "Comparison":
        """Compare runs.

        Args:
            name: of the comparison.
            root: what a message names as their folder.
            folders: of the runs; those that are not finished are counted if they failed.
            baseline: what to compare with; None: FM.
            papers: what they repeat; each run is set against the one that it is closest to.
            within: see `load_runs`.

        Raises:
            NoRunsError: none is finished.
            ValueError: none has the baseline.
        """
        loaded = load_runs(root, folders, within)
        smoke = loaded.finished[0].result.smoke
        chosen = [run for run in loaded.finished if run.result.chosen] if papers else []
        repeats = [run for run in loaded.finished if run not in chosen]
        if smoke or not repeats:
            papers, chosen, repeats = (), [], loaded.finished
        found = cls(
            name,
            None,
            panels(repeats, papers, loaded.crashed),
            unlike=loaded.unlike,
            smoke=smoke,
            faults=loaded.faults,
            elsewhere=loaded.elsewhere,
            chosen=tuple(run.folder for run in chosen),
        )
        routers = sorted({name for condition in found.conditions for name in (condition.router, condition.row)})
        if baseline is not None and baseline not in routers:
            raise ValueError(f"baseline must be a router that was run ({', '.join(routers)}), got {baseline}")
        return replace(found, baseline=baseline or COMPARED_WITH)

    @property
    def title(self) -> str:
        """For readers."""
        if self.target is None:
            return f"Smoke test of {self.name}" if self.smoke else self.name
        return self.target.title + (" (former settings)" if self.is_former else "")

    @property
    def is_former(self) -> bool:
        """Whether its runs had settings that the paper's protocol had before."""
        return _is_former(self.name)

    @property
    def is_chosen(self) -> bool:
        """Whether every run was stopped, or its weights chosen, by a metric."""
        return bool(self.runs) and all(run.result.chosen for run in self.runs)

    @property
    def runs(self) -> list[Run]:
        """All runs that finished."""
        return [run for condition in self.conditions for run in condition.runs]

    @property
    def conditions(self) -> list[Condition]:
        """Those of all panels that have a run that finished."""
        return [condition for panel in self.panels for condition in panel.conditions]

    @property
    def shared(self) -> tuple[str, ...]:
        """What sets every run apart from the paper's."""
        first, *others = ({*condition.differences} for panel in self.panels for condition in _all(panel))
        words = self.conditions[0].differences if self.conditions else ()
        return tuple(word for word in words if all(word in other for other in (first, *others)))

    def without_shared(self) -> "Comparison":
        """Leave out of the labels what sets every run apart: a caption can say it once."""
        shared = self.shared
        shortened = [
            replace(
                panel,
                conditions=[condition.without(shared) for condition in panel.conditions],
                lost=[condition.without(shared) for condition in panel.lost],
            )
            for panel in self.panels
        ]
        return replace(self, panels=shortened)


def family(name: str) -> str:
    """Return the name under which an experiment is compared: "table3" for "table3_authors"."""
    return name.removesuffix(f"_{AUTHORS}") if target_of(name) else name


def roots_of(root: Path, name: str | None = None) -> list[Path]:
    """Return the folders whose runs are compared together: those of a table's protocols.

    Args:
        root: the folder of an experiment.
        name: the experiment's; None: that of the folder.

    >>> [path.name for path in roots_of(Path("outputs/table3"))], [path.name for path in roots_of(Path("outputs/demo"))]
    (['table3', 'table3_authors'], ['demo'])
    """
    name = family(name or root.name)
    target = target_of(name)
    has_authors = target is not None and bool(target.authors) and not _is_former(name)
    names = [name, f"{name}_{AUTHORS}"] if has_authors else [name]
    return [root.with_name(each.rpartition("/")[2]) for each in names]


def _all(panel: Panel) -> list[Condition]:
    return [*panel.conditions, *panel.lost]


def _is_former(name: str) -> bool:
    return name.endswith(f"_{FORMER}")


def _begun(root: Path, target: Target) -> frozenset[tuple[str, str]]:
    titles = {data: title for title, data in target.data.items()}
    rows = {ours: row for row, ours in target.authors.items()}
    places = [folder.path.relative_to(root).parts for folder in unfinished(root)]  # data, architecture, router, seed
    known = [place for place in places if len(place) == 4 and place[0] in titles]
    return frozenset((rows.get(place[2], place[2]), titles[place[0]]) for place in known)
