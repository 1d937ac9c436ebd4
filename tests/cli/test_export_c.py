"""``export --to c`` as a user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c_folders import make, ran, rows_of
from desk import Answer, refused

Type = Callable[..., Answer]


def test_from_a_network_to_a_program(desk: Path, type_in: Type) -> None:
    made = type_in("export", "model.safetensors", "--to", "c", "-o", "board")
    assert made.code == 0, made.err
    assert "files of C" in made.out
    assert "make -C board && board/example < data.csv" in made.out
    data = np.load(desk / "field.npz")
    names = np.array(["stop", "normal", "damaged"])[data["y"]]
    said = ran(make(desk / "board"), given=rows_of(data["X"], names))
    assert said.startswith("60 samples, 0 rejected\nbefore: ")


def test_what_is_said_in_json(desk: Path, type_in: Type) -> None:
    words = ("export", "model.safetensors", "--adapter", "adapter", "--to", "c", "-o", "board")
    made = type_in(*words, "--data", "test.npz", "--weights", "int8", "--blob", "--json")
    assert made.code == 0, made.err
    facts = made.json
    assert facts["agreement"] == 1.0
    assert facts["arena_bytes"] == facts["choices"]["float32"]
    sizes = dict(zip(facts["output"], facts["bytes"], strict=True))
    assert sizes["board/model.bin"] == facts["model_bytes"]
    refused(type_in(*words), "board exists already", "--force")
    assert type_in(*words, "--force").code == 0


def test_a_projection_from_data_and_from_a_lab_set(desk: Path, type_in: Type) -> None:
    words = ("export", "model.safetensors", "--to", "c", "--projection", 4, "--cache-dtype", "int8")
    refused(type_in(*words, "-o", "a"), "projection is 4 without samples", "pass --data")
    made = type_in(*words, "-o", "a", "--data", "lab.npz", "--json")
    assert made.code == 0, made.err
    again = ("pretrain", "lab.npz", "--hidden", "16,16", "--epochs", 1, "-o", "model.safetensors")
    assert type_in(*again, "--lab-set", 5, "--force").code == 0
    made = type_in(*words, "-o", "b", "--json")
    assert made.code == 0, made.err


def test_help_tells_the_defaults_of_a_board(type_in: Type) -> None:
    said = " ".join(type_in("export", "--help").out.split())
    assert "Passes over the data. [default: 300]" in said
    assert "Step size. [default: 0.01]" in said
    assert "--cache-dtype [float32|float16|int8]" in said


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--to onnx --adapter adapter --blob -o x.onnx", ("--blob is set with --to onnx",)),
        ("--to onnx --adapter adapter --rank 4 -o x.onnx", ("--rank is set with --to onnx",)),
        ("--to c --adapter nowhere -o x", ("nowhere is not an adapter folder",)),
        ("--to c --capacity 0 -o x", ("capacity is 0",)),
        ("--to c --cache-dtype int4 -o x", ("'int4' is not", "float16")),
        ("--to c --rank 99 -o x", ("rank is 99",)),
        ("--to c --data test.npz -o nowhere/x", ("nowhere is not a folder",)),
        ("--to c -o adapter --force", ("adapter exists and holds",)),
    ],
)
def test_bad_input(words: str, parts: tuple[str, ...], desk: Path, type_in: Type) -> None:
    refused(type_in("export", "model.safetensors", *words.split()), *parts)
    assert not (desk / "x").exists()
    assert not (desk / "x.onnx").exists()
    assert (desk / "adapter" / "adapter_config.json").exists()
