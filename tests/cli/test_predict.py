"""``predict`` as a user types it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

import skip2lora as s2
from desk import NAMES, Answer

Type = Callable[..., Answer]


def test_predict_needs_no_labels(desk, type_in):
    np.savez("new.npz", X=np.load("test.npz")["X"])
    done = type_in("predict", "model.safetensors", "new.npz", "-o", "p.csv", "--json")
    assert done.code == 0
    assert sum(done.json["predicted"].values()) == 60


def test_the_file_agrees_with_the_model(desk: Path, type_in: Type) -> None:
    done = type_in("predict", "model.safetensors", "test.npz", "-o", "p.csv", "--json")
    x = np.load(desk / "test.npz")["X"]
    model = s2.load(desk / "model.safetensors")
    with (desk / "p.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["prediction"]) for row in rows] == model.predict_index(x).tolist()
    probabilities = [[float(row[f"p_{name}"]) for name in NAMES] for row in rows]
    np.testing.assert_allclose(probabilities, model.predict_proba(x), rtol=1e-6)
    counts = np.bincount(model.predict_index(x), minlength=3).tolist()
    assert done.json["predicted"] == dict(zip(NAMES, counts, strict=True))
    assert (done.json["n_samples"], done.json["task"]) == (60, "classification")
