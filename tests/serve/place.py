"""A place in the field for the tests of serve: a model, samples there, a service in a folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import skip2lora as s2
from desk import NAMES, blobs
from skip2lora.serve.service import Service

SHIFT = 3.0


@cache
def model(seed: int = 0) -> s2.MLP:
    """One that knows three classes, of another place."""
    x, y = blobs(seed, n_samples=300)
    fresh = s2.MLP.create([12, 16, 16, 3], seed=seed, class_names=NAMES)
    return s2.pretrain(fresh, x, y, epochs=60)


def field(seed: int = 1, n_samples: int = 300) -> tuple[Any, list[str]]:
    """Samples of the new place, and what they are."""
    x, y = blobs(seed, n_samples=n_samples, shift=SHIFT)
    return x, [NAMES[label] for label in y]


@cache
def meter(seed: int = 0) -> s2.MLP:
    """One that gives a number, of another place."""
    x, y = readings(seed, n_samples=300, home=True)
    fresh = s2.MLP.create([6, 16, 16, 1], seed=seed, task="regression")
    return s2.pretrain(fresh, x, y, epochs=60)


def readings(seed: int = 1, n_samples: int = 300, *, home: bool = False) -> tuple[Any, Any]:
    """Samples of the new place, or at home, and their numbers."""
    x = np.random.default_rng(seed).normal(size=(n_samples, 6))
    y = x @ np.array([1.0, -0.5, 0.8, 0.3, -1.2, 0.6])
    if not home:
        x, y = 1.2 * x + 0.4, 1.5 * y + 2
    return x.astype(np.float32), y.astype(np.float32)


def service(store: Path, **options: Any) -> Service:
    return Service(model(), store, **{"learning": False, "lab_set": False, **options})


def teach(served: Service, n_labels: int, *, wrong: bool = False) -> list[int]:
    """Predict, and label every sample in turn; the numbers of the samples."""
    x, names = field(n_samples=n_labels)
    if wrong:
        names = [NAMES[(NAMES.index(name) + 1) % 3] for name in names]
    ids = list(served.predict(x).ids)
    for id, name in zip(ids, names, strict=True):
        served.label(id, name)
    return ids


def accuracy(served: Service, seed: int = 2) -> float:
    x, names = field(seed)
    return float(np.mean(np.array(served.predict(x).names) == np.array(names)))
