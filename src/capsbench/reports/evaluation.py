"""A page on what one network says of one data set, class by class, as reports show it."""

from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from capsbench.data.files import written_atomically
from capsbench.reports.classes import confusions
from capsbench.reports.formats import NOTHING, to_html
from capsbench.reports.statistics import Share


def class_accuracies(counts: pd.DataFrame) -> pd.DataFrame:
    """Say of each class that has images how many are named rightly, and what the others are taken for most often.

    Args:
        counts: images of a class (row) that were taken for each (column).
    """
    rows = []
    names = list(map(str, counts.index))
    for number, row in enumerate(counts.to_numpy()):
        if not row.any():
            continue
        wrong = np.where(np.arange(len(row)) == number, 0, row)
        most = f"{names[wrong.argmax()]} {wrong.max()}" if wrong.any() else NOTHING
        share = Share(int(row[number]), int(row.sum()))
        rows.append((names[number], str(share.of), f"{100 * share.value:.2f}", share.interval, most))
    return pd.DataFrame(rows, columns=["Class", "Images", "Accuracy %", "95 % interval", "Most taken for"])


def write_evaluation(path: Path, title: str, said: str, counts: pd.DataFrame) -> None:
    """Write a page: the accuracy, that of each class, and the confusion matrix.

    Args:
        path: of the page.
        title: its heading.
        said: the accuracy, in words.
        counts: see `class_accuracies`.
    """
    loader = jinja2.PackageLoader("capsbench.reports", package_path="")
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template(
        "evaluation.html.jinja"
    )
    page = template.render(
        title=title, said=said, accuracies=to_html(class_accuracies(counts)), confusions=confusions(counts)
    )
    with written_atomically(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
