"""``evaluate`` as a user types it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from desk import NAMES, refused


def test_adaptation_helps_and_every_command_agrees(desk, type_in):
    before = type_in("evaluate", "model.safetensors", "test.npz", "--json").json
    after = type_in("evaluate", "model.safetensors", "test.npz", "--adapter", "adapter", "--json")
    assert after.json["accuracy"] > before["accuracy"] + 0.1
    assert after.json["n_samples"] == 60
    assert [of["class"] for of in after.json["classes"]] == list(NAMES)
    done = type_in(
        "predict", "model.safetensors", "test.npz", "--adapter", "adapter", "-o", "p.csv"
    )
    assert done.code == 0
    with Path("p.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    labels = np.load("test.npz")["y"]
    right = np.mean([int(row["prediction"]) == y for row, y in zip(rows, labels, strict=True)])
    assert right == pytest.approx(after.json["accuracy"])
    assert all(row["name"] == NAMES[int(row["prediction"])] for row in rows)
    total = [sum(float(row[f"p_{name}"]) for name in NAMES) for row in rows]
    np.testing.assert_allclose(total, 1, atol=1e-5)


def test_a_folder_serves_as_model(desk, type_in):
    Path("folder").mkdir()
    Path("model.safetensors").rename("folder/model.safetensors")
    assert type_in("evaluate", "folder", "test.npz", "--adapter", "adapter").code == 0
    assert type_in("inspect", "folder", "--json").json["kind"] == "model"


def test_an_adapter_finds_its_model_beside_it(desk, type_in):
    named = ("model.safetensors", "test.npz", "--adapter", "adapter", "--json")
    alone = type_in("evaluate", "adapter", "test.npz", "--json")
    assert alone.json == type_in("evaluate", *named).json
    assert alone.err == (
        f"skip2lora: adapter is an adapter, its model {desk / 'model.safetensors'} is taken\n"
    )
    Path("model.safetensors").rename("elsewhere.safetensors")
    said = "adapter is an adapter, expected the model that it was made for"
    refused(type_in("evaluate", "adapter", "test.npz"), said, "load that model")


def test_another_model_of_that_name_is_refused(desk, type_in):
    typed = ("test.npz", "--hidden", "7", "-o", "model.safetensors", "--epochs", 1, "--force")
    assert type_in("pretrain", *typed).code == 0
    answer = type_in("evaluate", "adapter", "test.npz")
    assert answer.code == 2
    assert "adapter was made for the model sha256:" in answer.err


def test_csv_with_names_gives_the_same_as_npz(desk, type_in):
    data = np.load("test.npz")
    with Path("test.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*(f"f{k}" for k in range(12)), "label"])
        for x, y in zip(data["X"], data["y"], strict=True):
            writer.writerow([*(repr(float(value)) for value in x), NAMES[y]])
    words = ("model.safetensors", "test.csv", "--adapter", "adapter", "--json")
    from_csv = type_in("evaluate", *words).json
    assert from_csv == type_in("evaluate", words[0], "test.npz", *words[2:]).json


def test_classes_are_measured_and_confused(desk, type_in):
    answer = type_in("evaluate", "model.safetensors", "test.npz", "--json").json
    assert {"accuracy", "balanced_accuracy", "f1_macro", "auroc"} < answer.keys()
    assert 0 <= answer["expected_calibration_error"] <= 1
    assert answer["confusion"]["classes"] == list(NAMES)
    matrix = np.array(answer["confusion"]["matrix"])
    assert matrix.sum() == answer["n_samples"]
    assert matrix.trace() / matrix.sum() == pytest.approx(answer["accuracy"])
    recalls = [of["recall"] for of in answer["classes"]]
    assert recalls == pytest.approx((matrix.diagonal() / matrix.sum(axis=1)).tolist())
    assert recalls == [of["accuracy"] for of in answer["classes"]]
    text = type_in("evaluate", "model.safetensors", "test.npz").out
    assert "samples of a class (rows) taken for (columns)" in text


def test_thresholds_of_the_adapter(desk, type_in):
    adapt = ("adapt", "model.safetensors", "field.npz", "--no-keep-outputs", "-o", "sure")
    answer = type_in(*adapt, "--precision", "0.9", "--json")
    told = answer.json["thresholds"]
    assert (told["precision"], told["too_few"]) == (0.9, {})
    assert set(told["of"]) == set(NAMES)
    assert type_in("adapt", *adapt[1:5], "other", "--json").json["thresholds"] is None
    model = s2.AdaptedModel.load(s2.load("model.safetensors"), "sure")
    test = np.load("test.npz")
    predictions, called = model.predict_index(test["X"]), model.predict(test["X"])
    done = type_in("evaluate", "model.safetensors", "test.npz", "--adapter", "sure", "--json").json
    at = done["at_thresholds"]
    assert at["none_of_these"] == pytest.approx((predictions == -1).mean())
    known = predictions != -1
    assert at["accuracy"] == pytest.approx((called == np.array(NAMES)[test["y"]])[known].mean())
    assert [of["class"] for of in at["classes"]] == sorted(NAMES)
    said = type_in("evaluate", "model.safetensors", "test.npz", "--adapter", "sure").out
    assert "by the thresholds of the adapter: none of these" in said
    predict = ("predict", "model.safetensors", "test.npz", "--adapter", "sure", "-o", "p.csv")
    facts = type_in(*predict, "--json").json
    assert facts["thresholds"] == done["thresholds"] == told["of"]
    with Path("p.csv").open(newline="") as stream:
        assert [int(row["prediction"]) for row in csv.DictReader(stream)] == predictions.tolist()
    plain = type_in("evaluate", "model.safetensors", "test.npz", "--adapter", "adapter", "--json")
    assert "at_thresholds" not in plain.json


def test_a_precision_that_is_none(desk, type_in):
    adapt = ("adapt", "model.safetensors", "field.npz", "-o", "sure")
    refused(type_in(*adapt, "--precision", "2"), "--precision is 2.0, expected more than 0, to 1")
    assert not Path("sure").exists()
    steps = type_in(*adapt, "--precision", "0.9", "--solver", "steps", "--epochs", "1")
    refused(
        steps,
        "no answers to samples held out are there",
        "adapt with --validation 0.25 or --validation-data",
    )
