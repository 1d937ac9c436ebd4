"""As text_direction, but hardly readable: 12 pixels high, with more noise."""

from __future__ import annotations

from models import About, Job, text_direction

ABOUT = About(
    "text direction, hard", "image", text_direction.ABOUT.model,
    "as above, 12 pixels high with nearly twice the noise: hardly readable",
)  # fmt: skip


def make(seed: int) -> Job:
    return text_direction.make(seed, height=12, noise=22.0)
