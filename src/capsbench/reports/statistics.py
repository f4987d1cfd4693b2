"""How sure a difference of two routers is."""

from dataclasses import dataclass

import pandas as pd
from scipy import stats


@dataclass(frozen=True)
class Welch:
    """Welch's t-test against FM, two-sided.

    Attributes:
        p: the p-value.
        n, n_fm: seeds of either side.
    """

    p: float
    n: int
    n_fm: int


def welch(ours: pd.Series, fm: pd.Series) -> Welch | None:
    """Test the difference of two means; None where a side has fewer than two seeds or neither has any spread."""
    if min(len(ours), len(fm)) < 2 or ours.var() == fm.var() == 0:
        return None
    sides = (statistic for side in (ours, fm) for statistic in (side.mean(), side.std(), len(side)))
    return Welch(float(stats.ttest_ind_from_stats(*sides, equal_var=False).pvalue), len(ours), len(fm))
