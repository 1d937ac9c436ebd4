"""Windows of the raw signals of UCI HAR beside its 561 ready features, by the command line.

    git clone https://github.com/mokch/0814_edu  # whose data/ holds 2,400 of the 7,352 windows
    python bench/motion.py "0814_edu/data/UCI HAR Dataset/train" [--data ../shared/data]

FOLDER is a ``train`` of the data set, whole or an extract: ``Inertial Signals`` and the file of
answers beside it. Rows of ready features and people are those of ``har.npz``, found again by their
means and deviations, whose scale is found as well: features are scaled, signals are not. Windows of
one person in four are tried on a network from those of the others, each quarter once.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from harness import command, environment

ROWS, FOLDS = 128, 4
SIGNALS = {"body_acc": "tBodyAcc", "body_gyro": "tBodyGyro", "total_acc": "tGravityAcc"}
CHANNELS = [f"{signal}_{axis}" for signal in SIGNALS for axis in "xyz"]
RAW = ("statistics,spectrum", "statistics", "spectrum")
STREAM = ("--window", str(ROWS), "--group", "user,session", "--target", "activity")


class Windows(NamedTuple):
    """``signals`` (n, 128, 9), ``ready`` (n, 561), names of ``activities`` and ``people``, n."""

    signals: np.ndarray
    ready: np.ndarray
    activities: np.ndarray
    people: np.ndarray

    def of(self, chosen: np.ndarray) -> Windows:
        return Windows(*(each[chosen] for each in self))


def summaries(signals: np.ndarray) -> dict[str, np.ndarray]:
    """The features that are the means and deviations of signals, not yet scaled."""
    columns = {}
    for number, channel in enumerate(CHANNELS):
        signal, axis = channel.rsplit("_", 1)
        values, name = signals[:, :, number], SIGNALS[signal]
        if signal == "total_acc":  # gravity is what the body's own is taken off
            values = values - signals[:, :, CHANNELS.index(f"body_acc_{axis}")]
        columns[f"{name}-mean()-{axis.upper()}"] = values.mean(axis=1)
        if signal != "total_acc":
            columns[f"{name}-std()-{axis.upper()}"] = values.std(axis=1)
    return columns


def nearest(of: np.ndarray, among: np.ndarray, classes: tuple[np.ndarray, np.ndarray]) -> tuple:
    """The nearest rows of the same class, and how far each is."""
    at, distance = np.empty(len(of), int), np.empty(len(of))
    for each in np.unique(classes[0]):
        here, there = np.flatnonzero(classes[0] == each), np.flatnonzero(classes[1] == each)
        distance[here], close = cKDTree(among[there]).query(of[here])
        at[here] = there[close]
    return at, distance


def lines_to(rows: np.ndarray, columns: np.ndarray) -> list[np.ndarray]:
    """The line from each of ``columns`` that fits ``rows`` best."""
    return [np.polyfit(*pair, 1) for pair in zip(columns.T, rows.T, strict=True)]


def matched(signals: np.ndarray, y: np.ndarray, har: dict[str, np.ndarray]) -> np.ndarray:
    """The row of ``har`` of each window: first by quantiles, then by what is nearest."""
    names = list(har["feature_names"])
    features = summaries(signals)
    columns = np.stack(list(features.values()), axis=1)
    rows = har["X"][:, [names.index(name) for name in features]].astype(float)
    rows = rows / rows.std(axis=0)
    shares = np.linspace(0.02, 0.98, 49)
    lines = lines_to(np.quantile(rows, shares, axis=0), np.quantile(columns, shares, axis=0))
    for _ in range(10):
        placed = np.stack(
            [np.polyval(*pair) for pair in zip(lines, columns.T, strict=True)], axis=1
        )
        at, distance = nearest(placed, rows, (y, har["y"]))
        near = distance <= np.median(distance)
        lines = lines_to(rows[at[near]], columns[near])
    if len(set(at)) < len(at) or distance.max() > 0.01:
        raise SystemExit("some windows have no row of features of their own in har.npz")
    return at


def read(folder: Path, har: dict[str, np.ndarray]) -> Windows:
    part = folder.name
    files = [folder / "Inertial Signals" / f"{channel}_{part}.txt" for channel in CHANNELS]
    signals = np.stack([np.loadtxt(file) for file in files], axis=2)
    y = np.loadtxt(folder / f"y_{part}.txt").astype(int) - 1
    at = matched(signals, y, har)
    names = np.array([str(name).lower() for name in har["activity_names"]])
    return Windows(signals, har["X"][at], names[y], har["subject"][at])


def write(windows: Windows, file: Path) -> None:
    """``file``.npz of ready features, and ``file``.csv of rows of signals, a session a window."""
    np.savez(file.with_suffix(".npz"), X=windows.ready, y=windows.activities)
    with file.with_suffix(".csv").open("w", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow([*CHANNELS, "user", "session", "activity"])
        for number, (signals, _, activity, person) in enumerate(zip(*windows, strict=True)):
            rows.writerows([*row, person, number, activity] for row in signals.tolist())


def one_fold(windows: Windows, number: int, folder: Path) -> dict[str, tuple[int, int]]:
    """How many of the windows of a quarter of the people are right, and of how many."""
    away = np.isin(windows.people, np.unique(windows.people)[number::FOLDS])
    write(windows.of(~away), folder / "train")
    write(windows.of(away), folder / "test")
    model, right = str(folder / "model.safetensors"), {}
    kinds = {"ready": ("npz", ())} | {kind: ("csv", (*STREAM, "--features", kind)) for kind in RAW}
    for name, (suffix, words) in kinds.items():
        command("pretrain", str(folder / f"train.{suffix}"), *words, "-o", model, "--force")
        facts = command("evaluate", model, str(folder / f"test.{suffix}"))
        n_samples = int(facts["n_samples"])
        right[name] = (round(float(facts["accuracy"]) * n_samples), n_samples)
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    with np.load(options.data / "har" / "har.npz") as opened:
        har = dict(opened)
    windows, folds = read(options.folder, har), []
    print(f"{len(windows.people):,} windows of {len(np.unique(windows.people))} people")
    for number in range(FOLDS):
        with tempfile.TemporaryDirectory() as folder:
            folds.append(one_fold(windows, number, Path(folder)))
    for name in folds[0]:
        counts = np.array([fold[name] for fold in folds])
        shares = counts[:, 0] / counts[:, 1]
        print(
            f"{name}: {counts[:, 0].sum() / counts[:, 1].sum():.1%}, quarters "
            f"{shares.min():.1%} to {shares.max():.1%}"
        )
    print(json.dumps({"folds": folds, "environment": environment()}))


if __name__ == "__main__":
    main()
