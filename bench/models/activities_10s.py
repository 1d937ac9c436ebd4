"""As activities_3s, with more to adapt to."""

from __future__ import annotations

from models import About, Job, activities_3s

ABOUT = About(
    "activities, 10 s a class", "motion", activities_3s.ABOUT.model,
    "as above, 7 windows of one recording each (10.2 s)",
)  # fmt: skip


def make(seed: int) -> Job:
    return activities_3s.left_out(seed, 10)
