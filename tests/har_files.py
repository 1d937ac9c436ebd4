"""Small files as those of Human Activity Recognition Using Smartphones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skip2lora.datasets import Split

Refused = Callable[..., str]
Arrays = dict[str, np.ndarray]

ACTIVITIES = ("WALKING", "UPSTAIRS", "DOWNSTAIRS", "SITTING", "STANDING", "LAYING")
FEATURES = tuple("bands()-1,8" if n in (302, 316, 330) else f"f()-{n}" for n in range(561))
FIVE = (9, 14, 16, 19, 25)


def rows(subjects: tuple[int, ...], seed: int) -> Arrays:
    """Windows of ``subjects`` one after the other, each with its activities in two takes."""
    random = np.random.default_rng(seed)
    y, subject = [], []
    for person in subjects:
        takes = [np.repeat(np.arange(6), random.integers(1, 4, 6)) for _ in range(2)]
        y.append(np.concatenate(takes))
        subject.append(np.full(y[-1].size, person))
    labels = np.concatenate(y)
    x = random.uniform(-1, 1, (labels.size, 561)).astype(np.float32)
    return {"X": x, "y": labels, "subject": np.concatenate(subject)}


TRAIN = rows((1, 3, 14, 16, 17, 19, 25), seed=1)
TEST = rows((2, 9, 4), seed=2)


def write_original(folder: Path) -> Path:
    """Write TRAIN and TEST as the original has them: padded columns, exponents of three digits."""
    root = folder / "UCI HAR Dataset"
    for part, data in (("train", TRAIN), ("test", TEST)):
        (root / part).mkdir(parents=True)
        text = "\n".join("".join(f"{value:16.8e}" for value in row) for row in data["X"]) + "\n"
        text = text.replace("e-", "e-0").replace("e+", "e+0")
        (root / part / f"X_{part}.txt").write_text(text)
        np.savetxt(root / part / f"y_{part}.txt", data["y"] + 1, "%d")
        np.savetxt(root / part / f"subject_{part}.txt", data["subject"], "%d")
    for name, names in (("features", FEATURES), ("activity_labels", ACTIVITIES)):
        lines = "".join(f"{number} {text}\n" for number, text in enumerate(names, 1))
        (root / f"{name}.txt").write_text(lines)
    (root / "README.txt").write_text("not read")
    return root


def zipped(root: Path) -> bytes:
    """The original as a zip, with the hidden files that a Mac adds, as in the real one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*.txt")):
            name = f"{root.name}/{file.relative_to(root)}"
            archive.write(file, name)
            archive.writestr(f"__MACOSX/{Path(name).parent}/._{file.name}", b"\0\5\x16\7")
    return stream.getvalue()


def write_nested(path: Path, inner: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("UCI HAR Dataset.names", "not read")
        archive.writestr("UCI HAR Dataset.zip", inner)
    return path


def arrays() -> Arrays:
    nine = TEST["subject"] == 9
    joined = {name: np.concatenate([TRAIN[name], TEST[name][nine]]) for name in TRAIN}
    names = {"feature_names": np.array(FEATURES), "activity_names": np.array(ACTIVITIES)}
    return joined | names


def write_npz(folder: Path, **changed: Any) -> Path:
    content = {name: value for name, value in (arrays() | changed).items() if value is not None}
    path = folder / "har.npz"
    np.savez(path, **content)
    return path


def same(one: Split, other: Split) -> None:
    for part, twin in zip(one, other, strict=True):
        np.testing.assert_array_equal(part.x, twin.x)
        np.testing.assert_array_equal(part.y, twin.y)
        assert part.class_names == twin.class_names
        assert part.feature_names == twin.feature_names


def edit(file: Path, change: Callable[[list[str]], object]) -> None:
    lines = file.read_text().splitlines()
    change(lines)
    file.write_text("".join(f"{line}\n" for line in lines))
