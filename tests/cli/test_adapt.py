"""The commands in the order a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2


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


@pytest.mark.filterwarnings("default")
def test_a_class_without_samples_is_named(desk, type_in):
    data = np.load("field.npz")
    some = data["y"] == 1
    np.savez("some.npz", X=data["X"][some], y=data["y"][some], class_names=data["class_names"])
    done = type_in("adapt", "model.safetensors", "some.npz", "--epochs", 1, "-o", "one")
    assert done.code == 0
    assert done.err == (
        "skip2lora: y has samples of 1 of 3 classes (normal), expected some of all: stop, damaged "
        "may be forgotten, add samples of them, such as old ones with --keep\n"
    )
    done = type_in("adapt", "model.safetensors", "field.npz", "--epochs", 1, "-o", "all")
    assert (done.code, done.err) == (0, "")


def test_a_finished_run_gives_its_result_again(desk, type_in):
    words = ("adapt", "model.safetensors", "field.npz", "--epochs", 60, "--checkpoint", "kept")
    assert type_in(*words, "-o", "first", "--checkpoint-every", 0).code == 0
    refused = type_in(*words, "-o", "second")
    assert refused.code == 2
    assert "checkpoint.safetensors is there already" in refused.err
    assert "pass --resume to go on from it" in refused.err
    assert type_in(*words, "-o", "second", "--resume").code == 0
    expected = Path("adapter/adapter_model.safetensors").read_bytes()
    for folder in ("first", "second"):
        assert Path(folder, "adapter_model.safetensors").read_bytes() == expected
    other = type_in(*words, "-o", "third", "--resume", "--seed", 1)
    assert (other.code, "seed 0 in place of 1" in other.err) == (2, True)
    assert not Path("third").exists()


@pytest.mark.parametrize("words", [("--resume",), ("--checkpoint-every", 2)])
def test_options_of_a_checkpoint_need_one(desk, type_in, words):
    said = type_in("adapt", "model.safetensors", "field.npz", "-o", "other", *words)
    assert said.code == 2
    assert said.err.startswith(f"skip2lora: {words[0]} is set without --checkpoint, expected both")
