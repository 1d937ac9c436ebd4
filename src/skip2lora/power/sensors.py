"""A sensor: a name, what it measures, and a function that reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

#: What is measured, and in which unit ``read`` gives it. Counters only ever grow: what they tell
#: is the difference of two readings.
UNITS = {
    "power": "mW",
    "energy": "J",
    "temperature": "degC",
    "clock": "MHz",
    "cpu_time": "s",
}
COUNTERS = ("energy", "cpu_time")


def _nothing() -> None:
    """Most sensors have nothing to close."""


@dataclass(frozen=True)
class Sensor:
    """``read()`` gives a number in ``unit``; it raises OSError where it cannot."""

    name: str
    quantity: str
    read: Callable[[], float]
    close: Callable[[], None] = _nothing

    @property
    def unit(self) -> str:
        """Unit of what ``read`` gives."""
        return UNITS[self.quantity]

    @property
    def is_counter(self) -> bool:
        """A counter tells by differences: joules and seconds that have gone by."""
        return self.quantity in COUNTERS


@dataclass
class Found:
    """Sensors; what is not there, as (quantity, text); ``problems``: what is there and refused."""

    sensors: list[Sensor] = field(default_factory=list)
    absent: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def missing(self, quantity: str) -> str:
        """What was looked for and is not there; empty where nothing is missing."""
        return ", ".join(text for of, text in self.absent if of == quantity)

    def add(self, other: Found) -> None:
        """Take over everything of ``other``."""
        self.sensors += other.sensors
        self.absent += other.absent
        self.problems += other.problems
