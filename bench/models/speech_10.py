"""Google's speech embedding, which openWakeWord ships in ONNX; new classes are voices.

The recordings are telephone prompts at 8 kHz. English and Spanish are by one speaker, so that these
two differ by the language alone. A sample is one window of one recording: none is in two parts.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
from scipy.signal import resample_poly

from models import About, Job, of_each, package

VOICES = {"en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "ru": "Russian"}
RATE, FRAMES, N_TEST = 16_000, 76, 120
WINDOW = 160 * FRAMES + 480  # samples of sound that give as many frames as the model takes
STEP = 160
ABOUT = About(
    "speech, 10 a class", "audio",
    "Google's speech embedding without classes of its own (ONNX as openWakeWord ships it)",
    "5 new classes instead: which voice speaks in 0.79 s of a telephone prompt, French, Italian, "
    "Russian, English and Spanish (these two by one speaker); other recordings to test on",
)  # fmt: skip


def loudest(file: Path) -> np.ndarray | None:
    """The window of a recording with the most energy, 16 kHz, in the numbers of 16 bits."""
    heard, rate = soundfile.read(file, dtype="int16")
    sound = resample_poly(heard.astype(np.float32), RATE // rate, 1).astype(np.float32)
    if len(sound) < WINDOW:
        return None
    energy = np.concatenate([[0], np.cumsum(sound.astype(np.float64) ** 2)])
    start = STEP * int((energy[WINDOW:] - energy[:-WINDOW])[::STEP].argmax())
    return sound[start : start + WINDOW]


@functools.cache
def samples() -> tuple[np.ndarray, np.ndarray]:
    """Mel spectra (n, 76, 32, 1) by the network that belongs before the model, and voices."""
    sounds: dict[bytes, tuple[np.ndarray, str]] = {}
    for language, voice in VOICES.items():
        for file in sorted(package(f"asterisk-core-sounds-{language}-wav").rglob("*.wav")):
            window = None if file.parent.name == "silence" else loudest(file)
            if window is not None:
                sounds.setdefault(window.tobytes(), (window, voice))
    (file,) = package("openwakeword").rglob("melspectrogram.onnx")
    spectra = onnxruntime.InferenceSession(file)
    x = [spectra.run(None, {"input": window[None]})[0][0, 0] for window, _ in sounds.values()]
    return (np.stack(x) / 10 + 2)[..., None], np.array([voice for _, voice in sounds.values()])


def voices(seed: int, n_field: int) -> Job:
    (model,) = package("openwakeword").rglob("embedding_model.onnx")
    x, y = samples()
    field, test = of_each(y, n_field, N_TEST, seed)
    return Job(model, x[field], y[field], x[test], y[test], keep_outputs=False)


def make(seed: int) -> Job:
    return voices(seed, 10)
