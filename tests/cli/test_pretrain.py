"""``pretrain`` as a user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import skip2lora as s2
from desk import NAMES, Answer, refused

Type = Callable[..., Answer]
QUICK = ("--epochs", 2, "-o", "new.safetensors")


def test_a_network_of_the_data(desk: Path, type_in: Type) -> None:
    words = ("pretrain", "lab.npz", "--hidden", "7,5", "--no-batch-norm", *QUICK)
    made = type_in(*words, "--seed", 3, "--json")
    model = s2.load(desk / "new.safetensors")
    assert made.json["widths"] == list(model.widths) == [12, 7, 5, 3]
    assert made.json["fingerprint"] == model.fingerprint
    assert made.json["n_parameters"] == model.n_parameters == 12 * 7 + 7 + 7 * 5 + 5 + 5 * 3 + 3
    assert (model.batch_norm, model.class_names) == (False, NAMES)
    data = np.load(desk / "lab.npz")
    fresh = s2.MLP.create([12, 7, 5, 3], seed=3, batch_norm=False, class_names=NAMES)
    same = s2.pretrain(fresh, data["X"], data["y"], epochs=2, learning_rate=0.01, seed=3)
    assert same.fingerprint == model.fingerprint
    assert made.json["accuracy"] == model.score(data["X"], data["y"])


def test_no_hidden_layer(desk: Path, type_in: Type) -> None:
    assert type_in("pretrain", "lab.npz", "--hidden", "", *QUICK, "--json").json["widths"] == [
        12,
        3,
    ]


def test_one_class_alone(desk: Path, type_in: Type) -> None:
    x = np.load(desk / "lab.npz")["X"]
    np.savez(desk / "one.npz", X=x, y=np.zeros(len(x), int))
    refused(type_in("pretrain", "one.npz", *QUICK), "one.npz", "one class only")
    assert not (desk / "new.safetensors").exists()
