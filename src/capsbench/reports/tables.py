"""An experiment's table: our accuracy beside the paper's, how sure the differences are, and what it cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from scipy import stats

from capsbench.reports.comparison import COMPARED_WITH, Line, Panel, Run, accuracies, load_runs, panels
from capsbench.reports.paper import Number, Target, targets

NOTHING = "–"


@dataclass(frozen=True)
class Welch:
    """Welch's t-test, two-sided: p-value and the number of seeds on either side."""

    p: float
    n: int
    n_fm: int


@dataclass(frozen=True)
class Row:
    """A row: a line of ours, the paper's number, or both.

    Attributes:
        router: the label.
        data: title of the set the row is about.
        stand_in: title of the set that was used in its place, if one was.
        runs: ours, one per seed.
        missing, expected: seeds still to be run, out of how many; 0 where nothing is expected.
        paper: the paper's number.
        welch: of this row against FM's; None for FM itself and where either side has fewer than two seeds.
        paper_parameters: as the paper prints them, where the row is a method of others.
    """

    router: str
    data: str
    stand_in: str | None = None
    runs: tuple[Run, ...] = ()
    missing: int = 0
    expected: int = 0
    paper: Number | None = None
    welch: Welch | None = None
    paper_parameters: str | None = None

    @property
    def accuracy(self) -> pd.Series:
        """Of each seed, in percent."""
        return accuracies(list(self.runs))

    @property
    def difference(self) -> float:
        """Our mean less the paper's, in percentage points; NaN where one of them is not there."""
        return float(self.accuracy.mean() - self.paper.mean) if self.paper else float("nan")

    def mean(self, metric: str) -> float:
        """Of a metric over seeds; NaN without runs or where one lacks it."""
        return float(pd.Series([run.result.metrics.get(metric) for run in self.runs], dtype=float).mean(skipna=False))

    @property
    def seconds(self) -> float:
        """Of training, mean over seeds."""
        return float(pd.Series([run.result.wall_time_s for run in self.runs], dtype=float).mean())


@dataclass(frozen=True)
class Comparison:
    """The finished runs of an experiment, compared.

    Attributes:
        name: of the experiment, and of its folder.
        target: the paper's table or figure of that name, if it is one.
        runs, panels, rows: what was found, sorted into panels, and as a table.
    """

    name: str
    target: Target | None
    runs: list[Run]
    panels: list[Panel]
    rows: list[Row]

    @classmethod
    def of(cls, root: Path) -> "Comparison":
        """Compare the finished runs below an experiment's folder.

        Raises:
            ValueError: there are none.
        """
        target = targets().get(root.name)
        runs = load_runs(root)
        found = panels(runs, target)
        rows = list(_paper_rows(found, target) if target else _plain_rows(found))
        return cls(root.name, target, runs, found, rows)

    @property
    def title(self) -> str:
        """For readers."""
        return self.target.title if self.target else self.name


def welch(line: Line, panel: Panel) -> Welch | None:
    """Welch's test between a line and FM's line in the same panel, if both have two seeds or more.

    FM's is the one most like it: it differs from the paper (or the others) in nothing in which this line does not,
    and it trained as long.
    """
    if line.router == COMPARED_WITH:
        return None
    alike = [
        other
        for other in panel.lines
        if other.router == COMPARED_WITH
        and set(other.differences) <= set(line.differences)
        and _budget(other) == _budget(line)
    ]
    if not alike:
        return None
    ours, fm = accuracies(line.runs), accuracies(max(alike, key=lambda other: len(other.differences)).runs)
    if min(len(ours), len(fm)) < 2 or ours.var() == fm.var() == 0:
        return None
    return Welch(float(stats.ttest_ind(ours, fm, equal_var=False).pvalue), len(ours), len(fm))


def _budget(line: Line) -> tuple[int, int, int]:
    result = line.runs[0].result
    return result.epochs, result.steps, result.train_examples


def _plain_rows(found: list[Panel]) -> Iterator[Row]:
    for panel in found:
        for line in panel.lines:
            yield Row(line.label, panel.title, panel.stand_in, tuple(line.runs), welch=welch(line, panel))


def _paper_rows(found: list[Panel], target: Target) -> Iterator[Row]:
    """The paper's rows in its order, found or missing; after each what else was run of it; then all the rest."""
    left = [(panel, line) for panel in found for line in panel.lines]
    for data in target.data:
        for router, title in target.routers.items():
            here = [pair for pair in left if pair[0].data == data and pair[1].router == router]
            here.sort(key=lambda pair: (not pair[1].as_in_paper, pair[0].stand_in is not None))
            paper = target.numbers.get((router, data))
            if not any(line.as_in_paper for _, line in here):
                yield Row(title, data, missing=target.expected_seeds, expected=target.expected_seeds, paper=paper)
            for pair in here:
                left.remove(pair)
                yield _row(*pair, target)
        for pair in [pair for pair in left if pair[0].data == data]:
            left.remove(pair)
            yield _row(*pair, target)
        for other in target.references:
            if data in other.numbers:
                yield Row(other.title, data, paper=other.numbers[data], paper_parameters=other.parameters)
    for pair in left:
        yield _row(*pair, target)


def _row(panel: Panel, line: Line, target: Target) -> Row:
    expected = target.expected_seeds if line.as_in_paper else 0
    return Row(
        router=line.label,
        data=panel.data,
        stand_in=panel.stand_in,
        runs=tuple(line.runs),
        missing=max(0, expected - len(line.runs)),
        expected=expected,
        paper=target.numbers.get((line.router, panel.data)) if line.as_in_paper else None,
        welch=welch(line, panel),
    )


def numbers(comparison: Comparison) -> pd.DataFrame:
    """The table for machines: one column per quantity, accuracies in percent, times in seconds and ms."""
    return pd.DataFrame(
        {
            "router": row.router,
            "data": row.data,
            "stand_in": row.stand_in,
            "n": len(row.runs),
            "seeds_missing": row.missing,
            "mean": row.accuracy.mean(),
            "std": row.accuracy.std(),
            "paper_mean": row.paper.mean if row.paper else None,
            "paper_std": row.paper.std if row.paper else None,
            "difference": row.difference,
            "welch_p": row.welch.p if row.welch else None,
            "welch_n_fm": row.welch.n_fm if row.welch else None,
            "parameters": row.runs[0].result.parameters if row.runs else None,
            "training_s": row.seconds,
            "training_images_per_s": row.mean("train/images_per_second"),
            "inference_ms_per_batch": row.mean("inference/ms_per_batch"),
        }
        for row in comparison.rows
    ).convert_dtypes()


def cells(comparison: Comparison) -> pd.DataFrame:
    """The table for readers, every cell a text; beside the paper's numbers where it is one of its tables."""
    beside_paper = any(row.paper for row in comparison.rows)
    return pd.DataFrame([_cells(row, beside_paper) for row in comparison.rows])


def _cells(row: Row, beside_paper: bool) -> dict[str, str]:
    shown = {"Router": row.router, "Data": row.data}
    shown["Ours %" if beside_paper else "Accuracy %"] = _ours(row)
    shown["n"] = str(len(row.runs)) if row.runs else NOTHING
    if beside_paper:
        shown["Paper %"] = _number(row.paper) if row.paper else NOTHING
        shown["Difference"] = f"{row.difference:+.2f}".replace("-", "−") if row.runs and row.paper else NOTHING
    shown["p against FM"] = _p(row.welch) if row.welch else NOTHING
    shown["Parameters"] = f"{row.runs[0].result.parameters:,}" if row.runs else row.paper_parameters or NOTHING
    shown["Training"] = _duration(row.seconds) if row.runs else NOTHING
    if not beside_paper:
        shown["Training images/s"] = _rounded(row.mean("train/images_per_second"), 0)
        shown["Inference ms/batch"] = _rounded(row.mean("inference/ms_per_batch"), 1)
    return shown


def _ours(row: Row) -> str:
    std = float(row.accuracy.std()) if len(row.runs) > 1 else None
    text = _number(Number(float(row.accuracy.mean()), std)) if row.runs else NOTHING
    if row.stand_in:
        text += f" [{row.stand_in}]"
    if row.missing:
        of = f"{row.missing} of {row.expected}" if row.runs else f"{row.missing}"
        text += f" ({of} seed{'s' if row.expected > 1 else ''} missing)"
    return text


def _number(number: Number) -> str:
    return f"{number.mean:.2f}" + (f" ± {number.std:.2f}" if number.std is not None else "")


def _p(test: Welch) -> str:
    p = "< 0.001" if test.p < 0.001 else f"{test.p:.3f}"
    return f"{p} (n = {test.n}, {test.n_fm})"


def _rounded(value: float, digits: int) -> str:
    return NOTHING if pd.isna(value) else f"{value:,.{digits}f}"


def _duration(seconds: float) -> str:
    """A time as people say it: "45 s", "12 min", "3:07 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"
