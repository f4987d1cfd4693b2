"""An experiment's table: our accuracy beside the paper's, how sure the differences are, and what it cost."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from capsbench.reports.comparison import COMPARED_WITH, Comparison, Condition, Panel
from capsbench.reports.formats import NOTHING, narrow
from capsbench.reports.paper import Number, Target, router_title
from capsbench.reports.runs import Run, accuracies
from capsbench.reports.statistics import Welch, welch


@dataclass(frozen=True)
class Row:
    """A row: a condition of ours, the paper's number, or both.

    Attributes:
        router: the label.
        data: title of the data set that the row is about.
        stand_in: title of the set that was used in its place, if one was.
        runs: ours, one per seed.
        missing, expected: seeds still to be run, out of how many; 0 where none are expected.
        begun: whether at least one run of the row was begun, or failed.
        paper: the paper's number.
        welch: against FM; None for FM itself and where either side has fewer than two seeds.
        paper_parameters: as the paper prints them, where the row is a method of others.
    """

    router: str
    data: str
    stand_in: str | None = None
    runs: tuple[Run, ...] = ()
    missing: int = 0
    expected: int = 0
    begun: bool = False
    paper: Number | None = None
    welch: Welch | None = None
    paper_parameters: str | None = None

    @property
    def accuracy(self) -> pd.Series:
        """Of each seed, in percent."""
        return accuracies(list(self.runs))

    @property
    def difference(self) -> float:
        """Our mean less the paper's, in percentage points; NaN where one of them is missing."""
        return float(self.accuracy.mean() - self.paper.mean) if self.paper else float("nan")

    def mean(self, metric: str) -> float:
        """Average a metric over seeds; NaN without runs or where one lacks it."""
        return float(pd.Series([run.result.metrics.get(metric) for run in self.runs], dtype=float).mean(skipna=False))

    @property
    def seconds(self) -> float:
        """Of training, mean over seeds."""
        return float(pd.Series([run.result.wall_time_s for run in self.runs], dtype=float).mean())


def rows(comparison: Comparison) -> list[Row]:
    """List the rows of a comparison; those of the paper that are missing too.

    The paper's rows come first, in its order, each followed by our other conditions of the same router; then all the
    rest.
    """
    pairs = [(panel, condition) for panel in comparison.panels for condition in panel.conditions]
    if comparison.target is None:
        return [_row(*pair, None) for pair in pairs]
    return list(_paper_rows(pairs, comparison.target, comparison.begun))


def _paper_rows(
    left: list[tuple[Panel, Condition]], target: Target, begun: frozenset[tuple[str, str]]
) -> Iterator[Row]:
    for data in target.data:
        for router in target.routers:
            here = [pair for pair in left if pair[0].data == data and pair[1].router == router]
            here.sort(key=lambda pair: (not pair[1].as_in_paper, pair[0].stand_in is not None))
            if not any(condition.as_in_paper for _, condition in here):
                yield Row(
                    router_title(router),
                    data,
                    missing=target.expected_seeds,
                    expected=target.expected_seeds,
                    begun=(router, data) in begun,
                    paper=target.numbers.get((router, data)),
                )
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


def _row(panel: Panel, condition: Condition, target: Target | None) -> Row:
    repeated = target if condition.as_in_paper else None
    expected = repeated.expected_seeds if repeated else 0
    fm = panel.fm_like(condition) if condition.router != COMPARED_WITH else None
    return Row(
        router=condition.label,
        data=panel.data if target else panel.title,
        stand_in=panel.stand_in,
        runs=tuple(condition.runs),
        missing=max(0, expected - len(condition.runs)),
        expected=expected,
        begun=True,
        paper=repeated.numbers.get((condition.router, panel.data)) if repeated else None,
        welch=welch(accuracies(condition.runs), accuracies(fm.runs)) if fm else None,
    )


def begun_rows(found: list[Row]) -> list[Row]:
    """Leave out the rows of the paper that nobody began; a reference stays where its data set has a row of ours."""
    data = {row.data for row in found if row.begun}
    return [row for row in found if row.begun or (not row.expected and row.data in data)]


def numbers(comparison: Comparison) -> pd.DataFrame:
    """Make the table for machines: one column per quantity, accuracies in percent, times in seconds and ms."""
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
        for row in rows(comparison)
    ).convert_dtypes()


def cells(comparison: Comparison) -> pd.DataFrame:
    """Make the table for readers, every cell a text, with the paper's numbers where it has such a table."""
    found = rows(comparison)
    return pd.DataFrame([_cells(row, any(row.paper for row in found)) for row in found])


def concise_cells(comparison: Comparison) -> tuple[pd.DataFrame, str]:
    """Make the table for a page that shows what was run: without rows of the paper that nobody began.

    Returns:
        The table, and a caption that says once what all its rows share.
    """
    found = rows(comparison)
    kept = begun_rows(found)
    shared = () if any(row.expected and not row.runs for row in kept) else comparison.shared
    if shared:
        kept = begun_rows(rows(comparison.without_shared()))
    stand_ins = {row.stand_in for row in kept if row.runs}
    stand_in = stand_ins.pop() if len(stand_ins) == 1 else None
    if stand_in:
        kept = [replace(row, stand_in=None) for row in kept]
    table = pd.DataFrame([_cells(row, any(row.paper for row in found)) for row in kept])
    table = table.loc[:, (table != NOTHING).any()]
    data = table["Data"].unique()
    told = [f"Data: {', '.join(data)}."] if len(data) == 1 else []
    if stand_in:
        told = [f"Data: {stand_in}, in place of {', '.join(data)}."]
    if shared:
        told.append(f"Every run of ours differs from the paper's in: {', '.join(shared)}.")
    if comparison.target and any(condition.differences for condition in comparison.conditions):
        more = "what else differs" if shared else "what differs"
        if any("[" in row.router for row in kept):
            told.append(f"In brackets: {more} from the paper's protocol.")
    return narrow(table), " ".join(told)


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
    """Write a time as "45 s", "12 min" or "3:07 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"
