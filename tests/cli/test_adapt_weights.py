"""``--weight`` and ``--class-weight``, of ``adapt`` and of ``pretrain``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from desk import Answer, refused

Type = Callable[..., Answer]
CLASSES = np.array(("idle", "wave", "fall"))
QUICK = ("--epochs", 5)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type_in: Type) -> dict[str, Any]:
    """Samples with weights, some of them 0, and a model of x and y."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 15, 5])
    weights = np.round(random.uniform(0.5, 3, 60), 2)
    weights[[1, 50]] = 0
    numbers = np.round(np.eye(3)[labels][:, :2] + random.normal(0, 0.5, (60, 2)), 3)
    columns = {"x": numbers[:, 0], "w": weights, "y": numbers[:, 1], "label": CLASSES[labels]}
    write("field.csv", columns)
    np.savez("field.npz", X=numbers, y=columns["label"], w=weights)
    assert (
        type_in("pretrain", "field.csv", "-o", "m.safetensors", *QUICK, "--ignore", "w").code == 0
    )
    return columns


def write(name: str, columns: dict[str, Any]) -> None:
    lines = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    Path(name).write_text("\n".join([",".join(columns), *lines]))


def tensors(folder: str) -> bytes:
    return Path(folder, "adapter_model.safetensors").read_bytes()


def test_a_column_of_weights(desk: dict[str, Any], type_in: Type) -> None:
    adapted = type_in("adapt", "m.safetensors", "field.csv", "--weight", "w", "-o", "a", *QUICK)
    assert adapted.code == 0
    assert "58 samples" in adapted.out
    model = s2.load("m.safetensors")
    x = np.stack([desk["x"], desk["y"]], axis=1)
    s2.adapt(model, x, desk["label"], sample_weight=desk["w"], epochs=5).save("python")
    assert tensors("a") == tensors("python")
    of_arrays = ("field.npz", "--weight", "w", "-o", "b", *QUICK)
    assert type_in("adapt", "m.safetensors", *of_arrays).code == 0
    assert tensors("b") == tensors("a")
    assert type_in("adapt", "m.safetensors", "field.csv", "-o", "c", *QUICK).code == 0
    assert tensors("c") != tensors("a")


def test_it_is_no_feature_later_either(desk: dict[str, Any], type_in: Type) -> None:
    weighted = ("field.csv", "--weight", "w", "-o", "n.safetensors", "--json", *QUICK)
    made = type_in("pretrain", *weighted).json
    assert made["widths"][0] == 2
    assert made["n_samples"] == 58
    assert type_in("evaluate", "n.safetensors", "field.csv", "--json").json["n_samples"] == 60
    heavier = desk | {"w": desk["w"] + 1}
    write("other.csv", heavier)
    typed = ("other.csv", "--weight", "w", "-o", "o.safetensors", "--json", *QUICK)
    assert type_in("pretrain", *typed).json["n_samples"] == 60
    assert s2.load("o.safetensors").fingerprint != s2.load("n.safetensors").fingerprint


@pytest.mark.parametrize(
    ("given", "weights"),
    [("balanced", "balanced"), ("wave=3, fall=0.5", {"wave": 3, "fall": 0.5}), ("1=3", {1: 3})],
)
def test_weights_of_classes(desk: dict[str, Any], type_in: Type, given: str, weights: Any) -> None:
    typed = ("field.csv", "--class-weight", given, "-o", "a", *QUICK)
    assert type_in("adapt", "m.safetensors", *typed).code == 0
    model = s2.load("m.safetensors")
    x = np.stack([desk["x"], desk["y"]], axis=1)
    s2.adapt(model, x, desk["label"], class_weight=weights, epochs=5).save("python")
    assert tensors("a") == tensors("python")
    pretrained = ("field.csv", "--ignore", "w", "-o", "n.safetensors", *QUICK)
    assert type_in("pretrain", *pretrained, "--class-weight", given).code == 0
    assert s2.load("n.safetensors").fingerprint != model.fingerprint


def test_what_weights_of_classes_did_is_told(desk: dict[str, Any], type_in: Type) -> None:
    typed = ("adapt", "m.safetensors", "field.csv", "-o", "a", *QUICK)
    shares = []
    for adapter in ((), ("--adapter", "a")):
        line = type_in(*typed, "--class-weight", "balanced", "--force").out.splitlines()[-1]
        of = type_in("evaluate", "m.safetensors", "field.csv", *adapter, "--json").json
        shares.append(f"{100 * of['balanced_accuracy']:.1f} %")
    assert line == (
        f"balanced accuracy (every class counts the same) before {shares[0]}, after {shares[1]}"
    )
    assert "balanced" not in type_in(*typed, "--force").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--weight", "v"), '--weight names "v", it has columns x, w, y, label'),
        (("--weight", "x"), '--weight names "x", which is a feature of the model'),
        (("--weight", "w2"), '--weight names "w2"'),
        (("--class-weight", "dust=1"), "--class-weight names the class 'dust', expected one of"),
        (("--class-weight", "fall"), "class_weight is 'fall', expected 'balanced' or each class"),
        (("--class-weight", "fall=a"), "class_weight is 'fall=a', expected 'balanced'"),
        (("--class-weight", "fall=1,fall=2"), "class_weight is 'fall=1,fall=2', expected"),
        (("--class-weight", "fall=-1"), "class_weight of 'fall' is -1.0, expected a number from 0"),
        (("--class-weight", "fall=nan"), "class_weight of 'fall' is nan, expected a number"),
        (("--class-weight", "0=1,fall=2"), "--class-weight names the class 'fall' twice"),
    ],
    ids=str,
)
def test_what_is_no_weight_is_refused(
    desk: dict[str, Any], type_in: Type, words: Any, said: str
) -> None:
    refused(type_in("adapt", "m.safetensors", "field.csv", "-o", "a", *words), said)
    assert not Path("a").exists()


def test_a_cell_that_is_no_number_is_named(desk: dict[str, Any], type_in: Type) -> None:
    write("bad.csv", desk | {"w": ["2", "many", *desk["w"][2:]]})
    said = 'bad.csv: row 1 (from 0, line 3) has the weight "many", expected a number from 0'
    for words in (("adapt", "m.safetensors"), ("pretrain",)):
        output = ("-o", "n.safetensors")
        refused(type_in(*words, "bad.csv", "--weight", "w", *output), said, "--weight")
    write("none.csv", desk | {"w": [0] * 60})
    said = "none.csv: the weight is zero for all 60 samples, expected one above zero"
    refused(type_in("adapt", "m.safetensors", "none.csv", "--weight", "w", "-o", "a"), said)


def test_numbers_have_no_classes(desk: dict[str, Any], type_in: Type) -> None:
    typed = ("--target", "w", "--task", "regression", "--class-weight", "balanced")
    said = "class_weight is set with task regression, where a sample has numbers and no one class"
    refused(
        type_in(
            "adapt", "m.safetensors", "field.csv", *typed, "--no-keep-outputs", "--ignore",
            "label", "-o", "a",
        ),
        said, "weigh samples with --weight",
    )  # fmt: skip
