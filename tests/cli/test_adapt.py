"""The commands in the order a user types them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from desk import NAMES


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


def test_adapt_json_holds_what_the_design_names(desk, type_in):
    facts = type_in(
        "adapt", "model.safetensors", "field.npz", "--epochs", 7, "--json", "-o", "other"
    ).json
    assert 0 <= facts["accuracy"] <= 1
    assert set(facts["timing"]) == {"cache_fill_ms", "training_ms", "total_ms"}
    assert facts["timing"]["total_ms"] >= facts["timing"]["training_ms"] > 0
    assert facts["n_batches"] == 7 * 3
    assert facts["trainable_parameters"] == 4 * (12 + 16 + 16) + 3 * 4 * 3
    assert facts["cache_bytes"] == 60 * (16 + 16 + 3) * 4
    assert facts["cache_overhead_bytes"] > 0


@pytest.mark.parametrize("method", ["skip2-lora", "skip-lora", "lora-last", "lora-all"])
def test_each_method_is_saved_and_loaded(desk, type_in, method):
    made = type_in(
        "adapt", "model.safetensors", "field.npz", "--method", method, "--rank", 2,
        "--batch-size", 16, "--learning-rate", 0.02, "--seed", 3, "--epochs", 40, "-o", "m",
        "--json",
    )  # fmt: skip
    again = type_in("evaluate", "model.safetensors", "field.npz", "--adapter", "m", "--json")
    assert again.json["accuracy"] == pytest.approx(made.json["accuracy"])
    assert type_in("inspect", "m", "--json").json["method"] == method


def test_the_command_line_and_python_give_the_same_bytes(desk, type_in):
    data = np.load("field.npz")
    model = s2.load("model.safetensors")
    s2.adapt(model, data["X"], data["y"], epochs=60).save("python")
    assert (
        Path("python/adapter_model.safetensors").read_bytes()
        == Path("adapter/adapter_model.safetensors").read_bytes()
    )
    assert (
        Path("python/adapter_config.json").read_bytes()
        == Path("adapter/adapter_config.json").read_bytes()
    )


def test_a_folder_serves_as_model(desk, type_in):
    Path("folder").mkdir()
    Path("model.safetensors").rename("folder/model.safetensors")
    assert type_in("evaluate", "folder", "test.npz", "--adapter", "adapter").code == 0
    assert type_in("inspect", "folder", "--json").json["kind"] == "model"


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


def test_predict_needs_no_labels(desk, type_in):
    np.savez("new.npz", X=np.load("test.npz")["X"])
    done = type_in("predict", "model.safetensors", "new.npz", "-o", "p.csv", "--json")
    assert done.code == 0
    assert sum(done.json["predicted"].values()) == 60


def test_inspect_tells_model_adapter_and_data_apart(desk, type_in):
    model = type_in("inspect", "model.safetensors", "--json").json
    assert model["widths"] == [12, 16, 16, 3]
    assert model["cache_bytes_a_sample"] == (16 + 16 + 3) * 4
    adapter = type_in("inspect", "adapter", "--json").json
    assert adapter["base_fingerprint"] == model["fingerprint"]
    data = type_in("inspect", "field.npz", "--json").json
    assert data["samples_a_class"] == dict.fromkeys(NAMES, 20)
    assert "12-16-16-3" in type_in("inspect", "model.safetensors").out


def test_force_replaces_and_nothing_is_left_over(desk, type_in):
    before = sorted(path.name for path in Path().iterdir())
    for words in (
        ("pretrain", "lab.npz", "--hidden", "16,16", "--epochs", 5, "-o", "model.safetensors"),
        ("adapt", "model.safetensors", "field.npz", "--epochs", 5, "-o", "adapter"),
    ):
        assert type_in(*words).code == 2
        assert type_in(*words, "--force").code == 0
    assert sorted(path.name for path in Path().iterdir()) == before
    assert sorted(path.name for path in Path("adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_saved_tensors_hold_no_date_path_or_duration(desk):
    raw = Path("adapter/adapter_model.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    description = json.loads(header["__metadata__"]["skip2lora"])
    assert set(description) == {"kind", "version", "method", "rank", "base_fingerprint", "sha256"}


def test_help_names_every_command_and_python_m_works(type_in):
    listed = type_in("--help").out
    for command in ("demo", "dataset", "pretrain", "adapt", "evaluate", "predict", "inspect"):
        assert command in listed
        assert type_in(command, "--help").code == 0
    assert type_in().out == listed
    done = subprocess.run(
        [sys.executable, "-m", "skip2lora", "--version"], capture_output=True, text=True
    )
    assert done.stdout.strip() == f"skip2lora {s2.__version__}"


def test_dataset_simulated_feeds_the_rest(type_in):
    made = type_in("dataset", "simulated", "-o", "data", "--json")
    assert made.code == 0
    assert set(made.json["files"]) == {"pretrain.npz", "finetune.npz", "test.npz"}
    arrays = np.load("data/test.npz")
    assert arrays["X"].dtype == np.float32
    assert arrays["y"].dtype == np.int64
    assert tuple(arrays["class_names"]) == NAMES
