"""The gate: McNemar against SciPy, what is adopted, what the guard refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from skip2lora.serve.gate import FIRST, LATER, kept_lab_set, mcnemar, verdict


@pytest.mark.parametrize(("fixed", "broke"), [(0, 0), (5, 0), (0, 5), (14, 2), (30, 31), (300, 1)])
def test_mcnemar_is_the_binomial_test(fixed: int, broke: int) -> None:
    n = fixed + broke
    expected = binomtest(fixed, n, 0.5, alternative="greater").pvalue if n else 1.0
    assert mcnemar(fixed, broke) == pytest.approx(expected, rel=1e-9)


def answers(fixed: int, broke: int, same: int = 10) -> tuple[np.ndarray, ...]:
    """Labels, answers in use and of the candidate; those it broke come first."""
    labels = np.zeros(fixed + broke + same, np.int64)
    now, then = labels.copy(), labels.copy()
    then[:broke] = 1
    now[broke : broke + fixed] = 2
    return labels, now, then


def test_the_first_needs_five_percent_and_a_later_one_twenty() -> None:
    labels, now, then = answers(fixed=3, broke=0)  # p = 0.125
    first = verdict(labels, now, then, first=True)
    assert (first.fixed, first.broke, first.n, first.p) == (3, 0, 13, 0.125)
    assert not first.adopt
    assert "not proved better" in first.reason
    assert verdict(labels, now, then, first=False).adopt
    assert verdict(*answers(fixed=5, broke=0), first=True).adopt  # p = 0.031


def test_both_wrong_in_another_way_counts_for_neither() -> None:
    labels = np.zeros(20, np.int64)
    judged = verdict(labels, np.full(20, 1), np.full(20, 2))
    assert (judged.fixed, judged.broke, judged.adopt) == (0, 0, False)


def test_earlier_labels_may_lose_one_and_not_two() -> None:
    labels, now, then = answers(fixed=12, broke=2)
    old = np.zeros(len(labels), np.bool_)
    old[[0, -1]] = True
    assert verdict(labels, now, then, old=old, first=False).adopt
    old[1] = True
    judged = verdict(labels, now, then, old=old, first=False)
    assert not judged.adopt
    assert "loses 2 of 3 earlier labels" in judged.reason
    assert verdict(labels, now, then, old=old, first=True).adopt  # none were adopted before


def test_of_many_earlier_labels_two_percent_may_be_lost() -> None:
    labels, now, then = answers(fixed=20, broke=4, same=200)
    old = np.ones(len(labels), np.bool_)
    old[4:24] = False  # what is fixed is new
    assert old.sum() == 204  # of which 4 may go
    assert verdict(labels, now, then, old=old, first=False).adopt
    labels, now, then = answers(fixed=20, broke=5, same=199)
    old = np.ones(len(labels), np.bool_)
    old[5:25] = False
    assert not verdict(labels, now, then, old=old, first=False).adopt


@pytest.mark.parametrize("limit", [FIRST, LATER])
def test_a_candidate_that_is_no_better_passes_no_more_often_than_the_limit_says(
    limit: float,
) -> None:
    for n in range(1, 60):
        passes = [fixed for fixed in range(n + 1) if mcnemar(fixed, n - fixed) < limit]
        assert binom.pmf(passes, n, 0.5).sum() < limit


@pytest.mark.parametrize(("n", "lost", "kept"), [(30, 1, True), (30, 2, False), (150, 3, True),
                                                 (150, 4, False)])  # fmt: skip
def test_of_the_lab_set_one_or_two_percent_may_be_lost(n: int, lost: int, kept: bool) -> None:
    judged = verdict(*answers(fixed=9, broke=0))
    labels = np.zeros(n, np.int64)
    now, then = labels.copy(), labels.copy()
    then[:lost] = 1
    after = kept_lab_set(judged, labels, now, then)
    assert after.adopt == kept
    assert (after.fixed, after.p) == (judged.fixed, judged.p)
    assert (after == judged) == kept
    if not kept:
        assert f"proved better, but loses {lost} of {n} samples of the lab set" in after.reason
    now[-lost:] = 2  # which the version in use had wrong
    assert kept_lab_set(judged, labels, now, then) == judged
