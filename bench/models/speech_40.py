"""As speech_10, with four times the samples to adapt to."""

from __future__ import annotations

from models import About, Job, speech_10

ABOUT = About("speech, 40 a class", "audio", speech_10.ABOUT.model, "as above")


def make(seed: int) -> Job:
    return speech_10.voices(seed, 40)
