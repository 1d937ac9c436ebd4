"""Which of five voices speaks, by the command line from folders of recordings; several draws.

    python bench/models/fetch.py openwakeword asterisk-core-sounds-{en,es,fr,it,ru}-wav
    python bench/voices.py [--draws 5] [--each 40]

Each draw takes other recordings to learn from, ``--each`` of a voice, and 120 others of each to
test on. Beside it stands what others do: logistic regression on the last embedding alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skip2lora as s2
from harness import command, environment
from models import package
from models.speech_10 import N_TEST, VOICES, loudest
from skip2lora.data.recordings import read_recordings
from skip2lora.data.sound_options import Sound
from skip2lora.tasks.columns import Wanted

SHORTEST = 0.79  # seconds; shorter recordings are left out
OPTIONS = "--rate 16000 --gain 32768 --crop loudest"
TOML = """samples = 12640

[[model]]
path = "{folder}/melspectrogram.onnx"

[[model]]
path = "{folder}/embedding_model.onnx"
scale = 0.1
offset = 2.0
"""


def recordings() -> dict[str, list[Path]]:
    """Different ones by voice, long enough, without silence."""
    listed: dict[str, list[Path]] = {}
    seen: set[bytes] = set()
    for language, voice in VOICES.items():
        listed[voice] = []
        for file in sorted(package(f"asterisk-core-sounds-{language}-wav").rglob("*.wav")):
            window = None if file.parent.name == "silence" else loudest(file)
            if window is not None and window.tobytes() not in seen:
                seen.add(window.tobytes())
                listed[voice].append(file)
    return listed


def draw(listed: dict[str, list[Path]], n_each: int, seed: int, root: Path) -> None:
    """Links to recordings in ``field`` and ``test``, a folder a voice."""
    random = np.random.default_rng(seed)
    for voice, files in listed.items():
        order = random.permutation(len(files))
        for part, at in (("field", order[:n_each]), ("test", order[n_each : n_each + N_TEST])):
            (root / part / voice).mkdir(parents=True)
            for number in at:
                (root / part / voice / f"{number}.wav").symlink_to(files[number])


def one_draw(listed: dict[str, list[Path]], n_each: int, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw(listed, n_each, seed, root)
        (model_folder,) = {file.parent for file in package("openwakeword").rglob("embedding*.onnx")}
        toml = root / "voice.toml"
        toml.write_text(TOML.format(folder=model_folder))
        began = time.perf_counter()
        words = (*OPTIONS.split(), "--no-keep-outputs", "-o", str(root / "who"))
        adapted = command("adapt", str(toml), str(root / "field"), *words)
        seconds = time.perf_counter() - began
        said = command("evaluate", str(toml), str(root / "test"), "--adapter", str(root / "who"))
        return {
            "skip2lora": float(said["accuracy"]),
            "head": head(toml, root),
            "n_test": int(said["n_samples"]),
            "adapt_ms": float(adapted["timing"]["total_ms"]),
            "command_s": seconds,
        }


def head(toml: Path, root: Path) -> float:
    """Accuracy of logistic regression on the last embedding alone, scaled."""
    model, parts = s2.load(toml), {}
    for part in ("field", "test"):
        table = read_recordings(
            root / part,
            Sound(rate=16_000, gain=32_768.0, crop="loudest"),
            model.inputs,
            Wanted(),
        )
        embedded = model.logits(table.x)
        parts[part] = (embedded.reshape(len(embedded), -1), table.answers.values)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(*parts["field"])
    return float(fitted.score(*parts["test"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--each", type=int, default=40)
    options = parser.parse_args()
    listed = recordings()
    draws = [one_draw(listed, options.each, seed) for seed in range(options.draws)]
    for name in ("skip2lora", "head"):
        shares = np.array([each[name] for each in draws])
        print(
            f"{name}: {shares.mean():.1%}, {shares.min():.1%} to {shares.max():.1%}, deviation "
            f"{100 * shares.std(ddof=1):.1f} points, {len(draws)} draws of {options.each} a voice"
        )
    print(json.dumps({"draws": draws, "environment": environment()}))


if __name__ == "__main__":
    main()
