"""Times that nobody measured, for the tables made of them."""

from __future__ import annotations

from skip2lora.paper import timings
from skip2lora.paper.timings import Run

MACHINE = {"processor": "Abacus", "kernels": "wooden"}
WIDTHS = (256, 96, 96, 3)


def made_up_run(base: float) -> Run:
    """Phases of 1, 2, 3, 4 and 10 times base, 19 % above a run without marks."""
    phases = dict(zip(timings.PHASES, (base, 2 * base, 3 * base, 4 * base, 10 * base), strict=True))
    return Run(20 * base / 1.19, phases, 7 * base, 100)
