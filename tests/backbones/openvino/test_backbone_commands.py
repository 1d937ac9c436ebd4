"""Every command that takes a model takes an .xml, by the table of suffixes alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import openvino_models as nets
from desk import Answer

TypeIn = Callable[..., Answer]


@pytest.fixture
def folder(type_in: TypeIn, tmp_path: Path) -> Path:
    """The folder with model.xml, data.npz and an adapter."""
    nets.save(nets.mlp(end="Softmax"), tmp_path / "model.xml")
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 60)
    x = random.normal(size=(3, 9))[y] + random.normal(size=(60, 9))
    np.savez(tmp_path / "data.npz", X=x.astype(np.float32), y=y)
    done = type_in("adapt", "model.xml", "data.npz", "--epochs", 60, "-o", "adapter")
    assert done.code == 0, done.err
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_commands(type_in: TypeIn) -> None:
    bare, adapted = (
        json.loads(type_in("evaluate", "model.xml", "data.npz", *adapter, "--json").out)
        for adapter in ((), ("--adapter", "adapter"))
    )
    assert adapted["accuracy"] > bare["accuracy"] + 0.2
    done = type_in("predict", "model.xml", "data.npz", "--adapter", "adapter", "-o", "y.csv")
    assert done.code == 0, done.err
    facts = json.loads(type_in("inspect", "model.xml", "--json").out)
    assert [layer["layer"] for layer in facts["layers"]] == ["x", "relu0", "relu1"]
    assert facts["notes"] is None
    facts = json.loads(type_in("plan", "model.xml", "data.npz", "--json").out)
    assert facts["n_samples"] == 60
    done = type_in("bench", "model.xml", "--samples", 40, "--rounds", 1, "--json")
    assert done.code == 0, done.err


def test_commands_for_graphs_of_onnx(type_in: TypeIn, folder: Path) -> None:
    for words in (
        ("prepare", "model.xml", "-o", "out.onnx"),
        ("export", "model.xml", "--adapter", "adapter", "--to", "onnx", "-o", "out.onnx"),
    ):
        done = type_in(*words)
        assert done.code == 2
        assert "model.xml ends in .xml, expected .onnx" in done.err
    assert not (folder / "out.onnx").exists()


@pytest.mark.filterwarnings("default:.*is quantised")
def test_a_quantised_model_is_noted(type_in: TypeIn, tmp_path: Path) -> None:
    nets.save(nets.residual(), tmp_path / "model.xml")
    done = type_in("inspect", "model.xml", "--json")
    assert done.err.startswith("skip2lora: model.xml is quantised and runs in floats")
    assert done.err.count("\n") == 1
    [note] = json.loads(done.out)["notes"]
    assert note.startswith("is quantised and runs in floats")
