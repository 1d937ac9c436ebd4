"""A time or rate that was measured several times."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of the repetitions."""

    median: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of at least one value."""
        measured = list(values)
        return cls(statistics.median(measured), min(measured), max(measured))

    def text(self, digits: int = 1) -> str:
        """For a person: the median, and below it smallest and largest."""
        low, high = f"{self.smallest:.{digits}f}", f"{self.largest:.{digits}f}"
        return f"{self.median:.{digits}f}\n{low} to {high}"
