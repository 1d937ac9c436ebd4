"""Streams of sensors made up for tests: three motions of several people, as tables of rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

RATE = 50
HERTZ = {"run": 5.0, "sit": 0.0, "walk": 2.0}
CHANNELS = ("ax", "ay", "az")


def motion(label: str, n_rows: int, *, seed: int = 0) -> np.ndarray:
    """Three channels, (n_rows, 3), at 50 Hz."""
    random = np.random.default_rng([seed, len(label)])
    angle = 2 * np.pi * HERTZ[label] * np.arange(n_rows) / RATE + random.uniform(0, 6)
    clean = [np.sin(angle), np.cos(angle) / 2, np.full(n_rows, 1.0)]
    return (np.stack(clean, axis=1) + 0.2 * random.normal(size=(n_rows, 3))).astype(np.float32)


def table(path: Path, columns: dict[str, Sequence[object]], *, between: str = ",") -> Path:
    """A text table of these columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [between.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([between.join(columns), *rows]) + "\n")
    return path


def impulse(path: Path, label: str, *, n_rows: int = 200) -> Path:
    """A motion as a sample in Edge Impulse's data acquisition format, JSON."""
    payload = {
        "device_type": "TEST", "interval_ms": 1000 / RATE,
        "sensors": [{"name": name, "units": "g"} for name in CHANNELS],
        "values": motion(label, n_rows).tolist(),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"protected": {"ver": "v1", "alg": "none"}, "payload": payload}))
    return path


def walk_run_sit(path: Path, *, users: int = 4, n_rows: int = 200, seed: int = 0) -> Path:
    """One table of all: timestamp, user, session, three channels and the label of each row."""
    columns: dict[str, list[object]] = {
        name: [] for name in ("timestamp", "user", "session", *CHANNELS, "label")
    }
    start = 1.7e9
    for user in range(users):
        for session, label in enumerate(HERTZ):
            x = motion(label, n_rows, seed=seed + 10 * user + session)
            columns["timestamp"] += [f"{start + at / RATE:.3f}" for at in range(n_rows)]
            columns["user"] += [f"u{user}"] * n_rows
            columns["session"] += [session] * n_rows
            for name, values in zip(CHANNELS, x.T, strict=True):
                columns[name] += values.tolist()
            columns["label"] += [label] * n_rows
            start += 60
    return table(path, columns)
