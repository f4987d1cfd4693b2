"""An experiment's table for machines: exact numbers, a row per condition."""

import pandas as pd

from capsbench.reports.cells import TIMES, accuracies_of_parts, mean_of, outcomes_of
from capsbench.reports.comparison import Comparison, Condition
from capsbench.reports.rows import Row, parts
from capsbench.reports.runs import accuracies
from capsbench.reports.statistics import Paired, estimate_accuracy

TIME_NAMES = ("training_s", "training_images_per_s", "inference_ms_per_batch")


def numbers(comparison: Comparison) -> pd.DataFrame:
    """Make the table for machines: a row per condition; accuracies in percent, times in seconds and ms."""
    records = []
    for part in parts(comparison):
        for row in part.rows:
            for protocol, condition in row.conditions.items() or [("", None)]:
                paired = part.paired.get(id(condition))
                records.append(_record(row, protocol, condition, paired, comparison.baseline))
    return pd.DataFrame(records).convert_dtypes()


def _record(
    row: Row, protocol: str, condition: Condition | None, paired: Paired | None, baseline: str
) -> dict[str, object]:
    runs = condition.runs if condition else []
    mean, learned = (
        estimate_accuracy(accuracies(runs)),
        estimate_accuracy(accuracies(run for run in runs if run.learned)),
    )
    of_parts = {
        name.removesuffix(" %").lower().replace(" ", "_"): percent.mean()
        for name, percent in accuracies_of_parts(runs).items()
    }
    timed = bool(runs) and all(run.is_timed for run in runs)
    outcomes = outcomes_of(condition) if condition else {}
    return {
        "router": row.router,
        **row.settings,
        "protocol": protocol,
        "data": row.data,
        "stand_in": row.stand_in,
        "metric": runs[0].metric if runs else None,
        "identity_version": runs[0].result.identity_version if runs else None,
        "n": len(runs),
        **{name.lower().replace(" ", "_"): outcomes.get(name, 0) for name in ("Crashed", "Did not learn", "Learned")},
        "seeds_missing": row.missing(protocol),
        "mean": mean.mean,
        "low": mean.low,
        "high": mean.high,
        "std": accuracies(runs).std(),
        "learned_mean": learned.mean,
        "learned_low": learned.low,
        "learned_high": learned.high,
        **of_parts,
        "paper_mean": row.paper.mean if row.paper else None,
        "paper_std": row.paper.std if row.paper else None,
        "baseline": baseline if paired else None,
        "pairs": paired.n if paired else None,
        "difference": paired.difference.mean if paired else None,
        "difference_low": paired.difference.low if paired else None,
        "difference_high": paired.difference.high if paired else None,
        "p_holm": paired.p if paired else None,
        "probability_of_improvement": paired.improvement if paired else None,
        "verdict": paired.verdict if paired else None,
        "parameters": runs[0].result.parameters if runs else None,
        **{
            name: mean_of(runs, metric) if timed else None
            for name, metric in zip(TIME_NAMES, TIMES.values(), strict=True)
        },
    }
