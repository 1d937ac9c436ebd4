"""The gate of numbers, against counts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skip2lora.serve.nearness import contradicted, kept_lab_set, verdict


def errors(nearer: int, farther: int, same: int = 0, far: float = 2.0) -> list[np.ndarray]:
    """Labels, numbers in use 1 off each, and a candidate's: nearer by a half, or ``far`` off."""
    n = nearer + farther + same
    labels = np.linspace(-3, 3, n)
    off = np.array([0.5] * nearer + [far] * farther + [1.0] * same)
    sign = np.where(np.arange(n) % 2, 1, -1)
    return [labels, labels + sign, labels - sign * off]


@pytest.mark.parametrize(("nearer", "farther", "first", "adopt"), [
    (5, 0, True, True), (4, 0, True, False), (4, 0, False, True), (8, 2, True, False),
    (9, 1, True, True), (3, 0, False, True), (2, 0, False, False), (0, 0, True, False),
    (0, 9, True, False),
])  # fmt: skip
def test_the_sign_test_is_the_binomial_sum(
    nearer: int, farther: int, first: bool, adopt: bool
) -> None:
    judged = verdict(*errors(nearer, farther, same=3), first=first)
    n = nearer + farther
    ways = sum(math.comb(n, at) for at in range(nearer, n + 1))
    assert judged.p == pytest.approx(ways / 2**n)
    assert (judged.fixed, judged.broke, judged.n) == (nearer, farther, n + 3)
    assert judged.adopt == adopt
    assert judged.reason.startswith(f"nearer in {nearer}, farther in {farther} of {n + 3}, mean")


def test_it_is_not_adopted_where_few_are_much_farther() -> None:
    judged = verdict(*errors(40, 2, far=30.0))
    assert judged.p < 1e-9
    assert not judged.adopt
    assert "the mean error grows" in judged.reason
    assert "mean error 1 to 1.9" in judged.reason


@pytest.mark.parametrize(("lost", "adopt"), [(1, True), (2, False)])
def test_earlier_labels_may_be_farther_in_one_or_two_per_cent(lost: int, adopt: bool) -> None:
    parts = errors(30, lost)
    old = np.arange(30 + lost) >= 30
    judged = verdict(*parts, old=old, first=False)
    assert judged.adopt == adopt
    assert verdict(*parts, old=old, first=True).adopt
    if not adopt:
        assert "farther in 2 more of 2 earlier labels (at most 1)" in judged.reason


def test_later_labels_prove_the_one_before_better() -> None:
    labels, now, before = errors(9, 0)
    assert contradicted(labels, now, before) == (
        True, "nearer in 9, farther in 0 of 9, mean error 1 to 0.5, p = 0.002",
    )  # fmt: skip
    assert not contradicted(labels, before, now)[0]
    assert not contradicted(labels[:3], now[:3], before[:3])[0]


@pytest.mark.parametrize(("more", "adopt"), [(0.0199, True), (0.021, False), (-0.01, True)])
def test_the_lab_set_may_lose_two_per_cent_of_its_spread(more: float, adopt: bool) -> None:
    labels = np.array([-5.0, 5.0] * 20) + 3
    now = labels + 0.1
    judged = verdict(labels, now, labels)
    kept = kept_lab_set(judged, labels, now, now + 5 * more)
    assert kept.adopt == adopt
    if not adopt:
        assert kept.reason.endswith(
            "but the mean error of the lab set grows from 0.1 to 0.205 (at most 2% of what its "
            "labels differ, 0.1): adopt it by hand, or check the labels"
        )
