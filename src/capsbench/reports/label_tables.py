"""How well each label is predicted where images have any number of them, from the counts that runs keep."""

import pandas as pd

from capsbench.reports.runs import PERCENT, Run

F1 = "F1 %"
COUNTS = ["true_positives", "false_negatives", "false_positives"]


def label_table(runs: list[Run]) -> pd.DataFrame | None:
    """Tabulate what was measured of each label, counts summed over runs; NaN where nothing was there to measure.

    Returns:
        A row for each label: how many images have it, F1, precision, recall and average precision in percent; None if
        no run has counts.
    """
    split = runs[0].metric.partition("/")[0]
    frames = [
        pd.DataFrame([dict(row) for row in found], run.result.class_names).reindex(
            columns=[*COUNTS, "average_precision"]
        )
        for run in runs
        if (found := run.result.by_label.get(split))
    ]
    if not frames:
        return None
    stacked = pd.concat(frames)
    summed = stacked[COUNTS].groupby(level=0, sort=False).sum()
    right, missed, wrong = (summed[name] for name in COUNTS)
    average = stacked["average_precision"].groupby(level=0, sort=False).mean()
    images = stacked[COUNTS[:2]].sum(axis=1).groupby(level=0, sort=False).max()
    return pd.DataFrame(
        {
            "Images": images.astype(int),
            F1: PERCENT * 2 * right / (2 * right + missed + wrong),
            "Precision %": PERCENT * right / (right + wrong),
            "Recall %": PERCENT * right / (right + missed),
            "Average precision %": PERCENT * average,
        }
    )
