"""The rows of a table: conditions of ours, the paper's numbers, or both."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from capsbench.reports.comparison import Comparison, Condition, Panel
from capsbench.reports.labels import short_names
from capsbench.reports.paper import Number, Target, router_title
from capsbench.reports.runs import TEST, accuracies
from capsbench.reports.statistics import Paired, compare


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        router: the label; where settings have columns, the router alone.
        data: title of the data set that the row is about, or of its panel.
        stand_in: title of the set that was used in the place of the paper's, if one was.
        conditions: ours, by the protocol that they are set against; "" where there is none.
        expected: seeds in each of them that stands beside the paper's number; 0 where that is not known.
        begun: whether at least one run of the row was begun, or failed.
        paper: the paper's number.
        paper_parameters: as the paper prints them, where the row is a method of others.
        settings: those that have a column, by its name.
    """

    router: str
    data: str
    stand_in: str | None = None
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    expected: int = 0
    begun: bool = False
    paper: Number | None = None
    paper_parameters: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def as_the_papers(self) -> "Row":
        """Return the paper's number alone, of which no run of ours is expected."""
        return replace(self, router=f"{self.router}, the paper's", expected=0)

    def missing(self, protocol: str) -> int:
        """Seeds still to be run in a protocol."""
        condition = self.conditions.get(protocol)
        if condition is None:
            return self.expected
        done = len(condition.runs) + len(condition.crashed)
        return max(0, self.expected - done) if condition.as_in_paper else 0


@dataclass(frozen=True)
class Part:
    """What belongs into one table: panels with the same kind of accuracy and the same meaning of settings.

    Attributes:
        panels: of the part.
        rows: of the table; in the first part of a table of the paper also those that nobody ran.
        paired: each condition against its baseline, by the condition's identity in memory; p is adjusted over these.
    """

    panels: Sequence[Panel]
    rows: Sequence[Row]
    paired: Mapping[int, Paired]

    @property
    def conditions(self) -> list[tuple[Row, str, Condition]]:
        """Those of all rows, with row and protocol."""
        return [(row, protocol, condition) for row in self.rows for protocol, condition in row.conditions.items()]


def parts(comparison: Comparison) -> list[Part]:
    """Divide a comparison into tables, and list the rows of each.

    The paper's rows come first, in its order, each followed by our other conditions of the same router; then all the
    rest. An experiment that repeats nothing of the paper has a column for each setting that varies.
    """
    found = []
    kinds = groupby(comparison.panels, key=lambda panel: (panel.version, panel.metric))
    for number, ((_, metric), group) in enumerate(kinds):
        panels = list(group)
        pairs = [(panel, condition) for panel in panels for condition in (*panel.conditions, *panel.lost)]
        if comparison.target is None:
            names = _columns(condition for _, condition in pairs)
            rows = [_row_of_settings(panel, condition, names) for panel, condition in pairs]
        elif metric != TEST:
            rows = [_row([pair], None) for pair in pairs]
        else:
            begun = comparison.begun if number == 0 else None
            seeds = 0 if comparison.is_former else comparison.target.expected_seeds
            rows = list(_paper_rows(pairs, replace(comparison.target, expected_seeds=seeds), begun))
        found.append(Part(panels, rows, _paired(panels, comparison.baseline)))
    return found


def _columns(conditions: Iterable[Condition]) -> dict[str, str]:
    """Name the columns of settings, by the settings' dotted names."""
    found = list(conditions)
    names = short_names(condition.settings for condition in found)
    return {key: names[key] for key in sorted({key for condition in found for key in condition.varying})}


def _row_of_settings(panel: Panel, condition: Condition, names: Mapping[str, str]) -> Row:
    settings = {name: condition.settings[key] for key, name in names.items() if key in condition.settings}
    return replace(_row([(panel, condition)], None), router=condition.title, settings=settings)


def _paired(panels: Sequence[Panel], baseline: str) -> dict[int, Paired]:
    found = []
    for panel in panels:
        for condition in panel.conditions:
            other = panel.baseline_of(condition, baseline)
            if other is not None and baseline not in (condition.router, condition.row):
                found.append((condition, other))
    compared = compare([(accuracies(condition.runs), accuracies(other.runs)) for condition, other in found])
    return {id(condition): paired for (condition, _), paired in zip(found, compared, strict=True)}


def _paper_rows(
    pairs: list[tuple[Panel, Condition]], target: Target, begun: frozenset[tuple[str, str]] | None
) -> Iterator[Row]:
    """The rows of a table of the paper; `begun` is None where the paper's other rows stand in another part."""
    left: dict[tuple[str, str, str, bool, str], list[tuple[Panel, Condition]]] = {}
    for panel, condition in pairs:
        key = panel.data, condition.row, condition.label, condition.as_in_paper, panel.stand_in or ""
        left.setdefault(key, []).append((panel, condition))
    for data in target.data:
        for router in target.routers:
            here = [key for key in left if key[:2] == (data, router)]
            here.sort(key=lambda key: (not key[3], bool(key[4])))
            paper = target.numbers.get((router, data))
            if begun is not None and (paper or target.expected_seeds) and not any(key[3] for key in here):
                known = (router, data) in begun
                row = Row(router_title(router), data, expected=target.expected_seeds, begun=known, paper=paper)
                yield row if row.expected else row.as_the_papers()
            yield from (_row(left.pop(key), target) for key in here)
        yield from (_row(left.pop(key), target) for key in list(left) if key[0] == data)
        for other in target.references:
            if data in other.numbers and begun is not None:
                yield Row(other.title, data, paper=other.numbers[data], paper_parameters=other.parameters)
    yield from (_row(same, target) for same in left.values())


def _row(same: list[tuple[Panel, Condition]], target: Target | None) -> Row:
    panel, condition = same[0]
    repeated = target if target and any(other.as_in_paper for _, other in same) else None
    return Row(
        router=condition.label,
        data=panel.data if target else panel.title,
        stand_in=panel.stand_in if target else None,
        conditions={panel.protocol if target else "": condition for panel, condition in same},
        expected=repeated.expected_seeds if repeated else 0,
        begun=True,
        paper=repeated.numbers.get((condition.row, panel.data)) if repeated else None,
    )
