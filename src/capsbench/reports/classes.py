"""Accuracy per class, and what classes are confused with, from the counts that runs keep."""

import functools
import html
from typing import NamedTuple

import numpy as np
import pandas as pd

from capsbench.reports.comparison import Panel
from capsbench.reports.figures import in_order, label_of
from capsbench.reports.label_tables import F1, label_table
from capsbench.reports.runs import PERCENT, Run
from capsbench.runs.measures import EXACT_MATCH

LARGEST_MATRIX = 20
"""Of more classes only the most frequent confusions are shown."""
SHOWN = 20
SMALLEST_SHARE = 0.05
"""In percent, of a cell that is not empty."""


class ClassTables(NamedTuple):
    """Elements of HTML.

    Attributes:
        accuracy: per class in percent, a row for each condition; of images with any number of labels F1.
        confusions: by label, either a matrix or a list, or what was measured of each class.
        by_label: whether images have any number of labels.
    """

    accuracy: str
    confusions: dict[str, str]
    by_label: bool = False


def class_tables(panel: Panel) -> ClassTables | None:
    """Make the tables of a panel, counts summed over seeds; None if its runs have no counts."""
    if panel.metric.endswith(EXACT_MATCH):
        of_labels = {
            label_of(label, runs): found for label, runs in in_order(panel) if (found := label_table(runs)) is not None
        }
        if not of_labels:
            return None
        f1 = pd.concat({label: found[F1] for label, found in of_labels.items()}, axis=1)
        each = {
            label: to_percent(found.rename_axis("Label").reset_index(allow_duplicates=True))
            for label, found in of_labels.items()
        }
        return ClassTables(
            to_percent(f1.T.rename_axis("Router").reset_index(allow_duplicates=True)), each, by_label=True
        )
    counts = {label_of(label, runs): found for label, runs in in_order(panel) if (found := confusion(runs)) is not None}
    if not counts:
        return None
    columns = [
        pd.Series(PERCENT * _shares(found).to_numpy().diagonal(), found.index, name=label)
        for label, found in counts.items()
    ]
    accuracy = pd.concat(columns, axis=1)
    shown = accuracy.T.rename_axis("Router").reset_index(allow_duplicates=True)
    return ClassTables(
        to_percent(shown),
        {label: confusions(found) for label, found in counts.items()},
    )


def to_percent(frame: pd.DataFrame) -> str:
    """Write a table of percentages."""
    return frame.to_html(index=False, border=0, float_format="{:.1f}".format, na_rep="–")


def confusion(runs: list[Run]) -> pd.DataFrame | None:
    """Sum the counts of runs: how many images of a class (row) were taken for each (column); None if no run has any.

    Counts are of the split that the runs' accuracy is of.
    """
    split = runs[0].metric.partition("/")[0]
    known = [run.result for run in runs if split in run.result.confusion]
    if not known:
        return None
    frames = []
    for result in known:
        counts = result.confusion[split]
        names = pd.Index(result.class_names or [str(number) for number in range(len(counts))])
        frames.append(pd.DataFrame(counts, names, names))
    return functools.reduce(lambda total, counts: total.add(counts, fill_value=0), frames).fillna(0).astype(int)


def confusions(counts: pd.DataFrame) -> str:
    """Write what images of a class (row) were taken for: a matrix, or of many classes a list of the most frequent."""
    return _matrix(counts) if len(counts) <= LARGEST_MATRIX else _frequent(counts)


def _shares(counts: pd.DataFrame) -> pd.DataFrame:
    """Each row as shares of the class's images; NaN for a class without images."""
    return counts.div(counts.sum(axis=1).replace(0, np.nan), axis=0)


def _matrix(counts: pd.DataFrame) -> str:
    """Write shares in percent, coloured by their square roots: small ones are seen too."""
    percent = PERCENT * _shares(counts).rename(index=html.escape, columns=html.escape)
    return percent.map(_cell).to_html(border=0, escape=False)


def _cell(share: float) -> str:
    return f'<b style="--color:{10 * share**0.5:.0f}%">{share:.1f}</b>' if share >= SMALLEST_SHARE else ""


def _frequent(counts: pd.DataFrame) -> str:
    """List the most frequent confusions of two classes."""
    shares, names = PERCENT * _shares(counts).to_numpy(), counts.index
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    most = np.argsort(-wrong, axis=None, kind="stable")[:SHOWN]
    pairs = [pair for pair in zip(*np.unravel_index(most, wrong.shape), strict=True) if wrong[pair]]
    rows = [(names[true], names[taken], f"{shares[true, taken]:.1f}") for true, taken in pairs]
    return pd.DataFrame(rows, columns=["Class", "Taken for", "% of the class"]).to_html(index=False, border=0)
