"""Median, smallest and largest of what was measured several times."""

from __future__ import annotations

from skip2lora.spread import Spread


def test_median_smallest_largest():
    assert Spread.of([5.0, 1.0, 9.0, 4.0, 2.0]) == Spread(4.0, 1.0, 9.0)
    assert Spread.of(iter([3, 1, 2, 9])) == Spread(2.5, 1, 9)


def test_for_a_person():
    assert Spread.of([3.14159, 1, 10]).text(2) == "3.14\n1.00 to 10.00"
