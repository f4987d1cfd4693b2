"""How sure a mean is, and a difference of two routers.

Routers are compared over the seeds that both finished: a seed is the same data, order and initial weights for both, so
differences are taken seed by seed. A verdict looks at p, adjusted by Holm for all comparisons of a table. The interval
beside it is wider than 95 % by as much as Holm raises p: it is the interval of level 1 - 0.05 p / p_Holm. So it leaves
out 0 exactly where the adjusted p is below 0.05, and both always say the same. Its level is never below 95 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

ALPHA = 0.05
"""How often a table may call routers different that are not."""
PERCENT = 100
MIN_PAIRS = 3
"""Fewer are not tested."""

Verdict = Literal["better", "worse", "cannot be told apart", "too few seeds"]


@dataclass(frozen=True)
class Estimate:
    """A mean and its t-interval, whose ends are NaN where there is no spread to judge by: from one value, or none.

    Attributes:
        mean, low, high: in the unit of the values.
        n: how many they are.
    """

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Paired:
    """A router against the baseline, over the seeds that both finished.

    Attributes:
        difference: ours less the baseline's; without an interval below `MIN_PAIRS` seeds.
        p: of the paired t-test, two-sided, adjusted by Holm over the table; NaN below `MIN_PAIRS` seeds.
        improvement: the share of all pairs of one run of ours and one of the baseline's in which ours is better, ties
            by half: Mann and Whitney's U (the probability of improvement of Agarwal et al., arXiv 2108.13264); NaN
            below `MIN_PAIRS` seeds.
    """

    difference: Estimate
    p: float
    improvement: float

    @property
    def n(self) -> int:
        """Seeds that both finished."""
        return self.difference.n

    @property
    def verdict(self) -> Verdict:
        """What may be said of our router; "better" and "worse" where the adjusted p is below 0.05."""
        if self.n < MIN_PAIRS:
            return "too few seeds"
        if self.p >= ALPHA:
            return "cannot be told apart"
        return "better" if self.difference.mean > 0 else "worse"


@dataclass(frozen=True)
class Share:
    """So many of so many, with Wilson's interval of 95 %.

    >>> print(Share(81, 100))
    81.00 % [72.22, 87.49] of 100
    """

    number: int
    of: int

    @property
    def value(self) -> float:
        """A share of 1."""
        return self.number / self.of

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return float(proportion_confint(self.number, self.of, ALPHA, method="wilson")[0])

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return float(proportion_confint(self.number, self.of, ALPHA, method="wilson")[1])

    @property
    def interval(self) -> str:
        """In percent, for readers."""
        return f"[{PERCENT * self.low:.2f}, {PERCENT * self.high:.2f}]"

    def __str__(self) -> str:
        return f"{PERCENT * self.value:.2f} % {self.interval} of {self.of:,}"


def estimate(values: pd.Series, alpha: float = ALPHA) -> Estimate:
    """Estimate the mean of what values like these are drawn from, with the t-interval of level 1 - `alpha`.

    >>> round(estimate(pd.Series([1.0, 2.0, 3.0])).high, 2)
    4.48
    """
    n = len(values)
    low, high = DescrStatsW(values).tconfint_mean(alpha) if n > 1 else (math.nan, math.nan)
    return Estimate(float(values.mean()), float(low), float(high), n)


def estimate_accuracy(percent: pd.Series) -> Estimate:
    """Estimate a mean accuracy; its interval ends where accuracies do, at 0 and 100 %."""
    found = estimate(percent)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 100.0)) if found.n > 1 else found


def compare(pairs: Sequence[tuple[pd.Series, pd.Series]]) -> list[Paired]:
    """Compare the routers of a table with their baselines.

    Seeds that only one side has are left out. Where all differences are 0, p is 1; where all are one other number, it
    is 0, the limit for small spreads.

    Args:
        pairs: for each comparison the accuracies of ours and of the baseline, indexed by seed.
    """
    shared = [tuple(side.align(other, join="inner")) for side, other in pairs]
    differences = [ours - theirs for ours, theirs in shared]
    p = np.array([_p(difference) for difference in differences])
    tested = np.isfinite(p)
    holm = p.copy()
    if tested.any():
        holm[tested] = multipletests(p[tested], ALPHA, method="holm")[1]
    found = []
    for (ours, theirs), difference, raw, adjusted in zip(shared, differences, p, holm, strict=True):
        if len(difference) < MIN_PAIRS:
            judged = Estimate(float(difference.mean()), math.nan, math.nan, len(difference))
        else:
            judged = estimate(difference, ALPHA * (raw / adjusted if adjusted > 0 else 1 / tested.sum()))
        found.append(Paired(judged, float(adjusted), _improvement(ours, theirs)))
    return found


def _p(difference: pd.Series) -> float:
    if len(difference) < MIN_PAIRS:
        return math.nan
    if (difference == 0).all():
        return 1.0
    with np.errstate(divide="ignore"):  # no spread: t is infinite
        return float(DescrStatsW(difference).ttest_mean(0)[1])


def _improvement(ours: pd.Series, theirs: pd.Series) -> float:
    if len(ours) < MIN_PAIRS:
        return math.nan
    return float(stats.mannwhitneyu(ours, theirs, method="exact").statistic) / (len(ours) * len(theirs))
