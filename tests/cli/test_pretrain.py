"""``pretrain`` as a user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

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


def test_a_column_that_counts_the_rows_is_told(desk: Path, type_in: Type) -> None:
    rows = [f"{at},{at % 7},{3 - at},{'ab'[at % 2]}" for at in range(22)]
    for n_rows, told in ((22, True), (20, False)):
        (desk / "t.csv").write_text("\n".join(["no of row,b,c,label", *rows[:n_rows]]))
        said = type_in("pretrain", "t.csv", *QUICK, "--force").err.splitlines()
        assert len(said) == 2 * told
        if told:
            assert said[0].startswith('skip2lora: t.csv: column "no of row" counts the rows')
            assert said[0].endswith("leave it out with --ignore 'no of row'")
            assert '"c" counts the rows' in said[1]
    assert not type_in("pretrain", "t.csv", *QUICK, "--force", "--ignore", "no of row,c").err


@pytest.mark.parametrize(("offset", "told"), [(1e9, True), (1e7, True), (1e5, False), (0, False)])
def test_numbers_that_float32_does_not_tell_apart_are_told(
    offset: float, told: bool, desk: Path, type_in: Type
) -> None:
    data = np.load(desk / "lab.npz")
    x = data["X"].astype(np.float64)
    x[:, 3] += offset
    names = np.array([f"f{at}" for at in range(12)])
    np.savez(desk / "far.npz", X=x, y=data["y"], feature_names=names)
    said = type_in("pretrain", "far.npz", *QUICK, "--force").err
    assert ('far.npz: column "f3" has numbers near 1' in said) == bool(said) == told


def test_outputs_without_samples_are_told(desk: Path, type_in: Type) -> None:
    x = np.load(desk / "lab.npz")["X"]
    np.savez(desk / "gaps.npz", X=x, y=np.arange(len(x)) % 2 * 3 + 1)
    said = type_in("pretrain", "gaps.npz", *QUICK).err
    assert said == (
        "skip2lora: gaps.npz: 3 of 5 outputs have no samples (0, 2, 3), as labels count outputs "
        "from 0\n"
    )


def test_a_class_for_each_sample_is_told(desk: Path, type_in: Type) -> None:
    for names, told in (("abcdefghi", True), ("abcdefgha", False)):
        rows = [f"{at % 5},{at % 7},{name}" for at, name in enumerate(names)]
        (desk / "t.csv").write_text("\n".join(["a,b,label", *rows]))
        said = type_in("pretrain", "t.csv", *QUICK, "--force").err
        expected = (
            "t.csv: each sample is a class of its own (a, b, c, d, e, f, g, h, ... (9 in all))"
        )
        assert (expected in said) == told
