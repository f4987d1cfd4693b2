"""What may be said of a difference, at any numbers."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from capsbench.reports.statistics import Paired, compare, estimate

ACCURACIES = st.dictionaries(st.integers(0, 9), st.integers(0, 1000).map(lambda n: n / 10), max_size=8).map(
    lambda found: pd.Series(found, dtype=float)
)
PAIRS = st.lists(st.tuples(ACCURACIES, ACCURACIES), max_size=6)


def one(ours: list[float], theirs: list[float]) -> Paired:
    (found,) = compare([(pd.Series(ours, dtype=float), pd.Series(theirs, dtype=float))])
    return found


def test_a_mean_has_students_interval() -> None:
    found = estimate(pd.Series([93.0, 94.0, 93.5]))
    half = stats.t.ppf(0.975, 2) * 0.5 / math.sqrt(3)
    assert (found.mean, found.low, found.high) == pytest.approx((93.5, 93.5 - half, 93.5 + half))


def test_one_value_has_no_interval_and_equal_values_have_one_of_no_width() -> None:
    single, equal = estimate(pd.Series([90.0])), estimate(pd.Series([90.0, 90.0]))
    assert (single.mean, single.n) == (90.0, 1)
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    assert (equal.low, equal.high) == (90.0, 90.0)
    assert math.isnan(estimate(pd.Series([], dtype=float)).mean)


def test_a_difference_is_taken_seed_by_seed() -> None:
    """Seeds differ by 10 points, routers by 1: unpaired, nothing could be told."""
    found = one([61.0, 71.1, 80.9, 91.0], [60.0, 70.0, 80.0, 90.0])
    assert found.p == pytest.approx(stats.ttest_rel([61.0, 71.1, 80.9, 91.0], [60.0, 70.0, 80.0, 90.0]).pvalue)
    assert found.verdict == "better"
    assert one([60.0, 70.0, 80.0, 90.0], [61.0, 71.1, 80.9, 91.0]).verdict == "worse"


def test_only_seeds_that_both_finished_count() -> None:
    ours, theirs = pd.Series({1: 90.0, 2: 91.5, 4: 0.0}), pd.Series({2: 90.0, 1: 89.5, 3: 0.0})
    (found,) = compare([(ours, theirs)])
    assert (found.n, found.difference.mean) == (2, 1.0)
    assert math.isnan(found.improvement)
    assert found.verdict == "too few seeds"
    assert math.isnan(found.p)


def test_the_probability_of_improvement_is_over_all_pairs_of_runs() -> None:
    assert one([1.0, 3.0, 5.0], [2.0, 3.0, 4.0]).improvement == (0 + 1.5 + 3) / 9


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([10.0] * 3, [10.0] * 3, "cannot be told apart"),
        ([20.0] * 3, [10.0] * 3, "better"),
        ([10.0] * 3, [20.0] * 3, "worse"),
        ([90.0] * 2, [10.0] * 2, "too few seeds"),
        ([], [], "too few seeds"),
        ([80.0, 81.0, 82.0], [81.0, 79.0, 83.0], "cannot be told apart"),
    ],
)
def test_verdicts(ours: list[float], theirs: list[float], verdict: str) -> None:
    assert one(ours, theirs).verdict == verdict


def test_p_is_adjusted_for_the_whole_table() -> None:
    rng = np.random.default_rng(0)
    pairs = [(pd.Series(rng.normal(shift, 1, 5)), pd.Series(rng.normal(0, 1, 5))) for shift in (1, 3, 9)]
    raw = [stats.ttest_rel(ours, theirs).pvalue for ours, theirs in pairs]
    low, middle, high = np.argsort(raw)
    found = [each.p for each in compare(pairs)]
    assert found[low] == pytest.approx(3 * raw[low])
    assert found[middle] == pytest.approx(max(3 * raw[low], 2 * raw[middle]))
    assert found[high] == pytest.approx(max(found[middle], raw[high]))


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_interval_p_and_verdict_never_contradict_each_other(pairs: list[tuple[pd.Series, pd.Series]]) -> None:
    for found in compare(pairs):
        if found.n < 3:
            assert found.verdict == "too few seeds"
            assert math.isnan(found.p)
            assert math.isnan(found.difference.low)
            continue
        holds_0 = found.difference.low <= 0 <= found.difference.high
        assert holds_0 == (found.p >= 0.05) == (found.verdict == "cannot be told apart")
        assert found.difference.low <= found.difference.mean <= found.difference.high
        assert (found.verdict == "better") == (found.p < 0.05 and found.difference.mean > 0)


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_an_interval_is_never_narrower_than_95_percent(pairs: list[tuple[pd.Series, pd.Series]]) -> None:
    for (ours, theirs), found in zip(pairs, compare(pairs), strict=True):
        if found.n >= 3:
            alone = estimate((ours - theirs).dropna())
            assert found.difference.low <= alone.low + 1e-9
            assert found.difference.high >= alone.high - 1e-9


@settings(max_examples=40, deadline=None)
@given(ACCURACIES, ACCURACIES)
def test_the_other_way_round_it_is_the_opposite(ours: pd.Series, theirs: pd.Series) -> None:
    opposite = {"better": "worse", "worse": "better"}
    (there,), (back,) = compare([(ours, theirs)]), compare([(theirs, ours)])
    assert back.verdict == opposite.get(there.verdict, there.verdict)
    assert back.difference.mean == pytest.approx(-there.difference.mean, nan_ok=True)
    assert back.improvement == pytest.approx(1 - there.improvement, nan_ok=True)
