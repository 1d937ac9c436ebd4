"""``prepare`` as a user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import json

import onnxruntime

import onnx_models as nets
import skip2lora as s2
from desk import Answer

Type = Callable[..., Answer]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("prepare base.onnx -o t.bin", "t.bin ends in .bin, expected .onnx"),
        ("prepare field.npz -o t.onnx", "field.npz ends in .npz, expected .onnx"),
        (
            "prepare m.tflite -o t.tflite",
            "which needs no preparing, as LiteRT alone gives its taps",
        ),
        ("prepare none.onnx -o t.onnx", "none.onnx does not exist"),
        ("prepare base.onnx -o base.onnx", "base.onnx exists already"),
        ("prepare base.onnx -o t.onnx --taps fc9", 'taps has "fc9", which fits no layer'),
        ("prepare base.onnx -o t.onnx --grid 0", "grid is 0, expected a whole number"),
    ],
)
def test_bad_input(words: str, said: str, base: Path, type_in: Type) -> None:
    x = np.load(base / "field.npz")["X"]
    nets.save(nets.mlp([x.shape[1], 16, 8, 3], seed=9), base / "other.onnx")
    answer = type_in(*words.split())
    assert answer.code == 2
    assert answer.out == ""
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not (base / "t.onnx").exists()


def test_prepare_adapt_export(base: Path, type_in: Type) -> None:
    made = type_in("prepare", "base.onnx", "-o", "tapped.onnx", "--json")
    assert made.code == 0, made.err
    facts = json.loads(made.out)
    assert [tap["layer"] for tap in facts["taps"]] == ["/fc0", "/fc1", "/fc2"]
    assert facts["fingerprint"] == s2.load(base / "base.onnx").fingerprint
    widths = [tap["width"] for tap in facts["taps"]]
    assert facts["bytes_a_sample"] == 4 * (sum(widths) + facts["n_outputs"])
    shown = type_in("prepare", "base.onnx", "-o", "tapped.onnx", "--force", "--taps", "2")
    assert "2 of 3 layers tapped" in shown.out
    exported = type_in(
        "export", "base.onnx", "--adapter", "adapter", "--to", "onnx", "-o", "all.onnx", "--json"
    )
    assert exported.code == 0, exported.err
    x = np.load(base / "field.npz")["X"].astype(np.float32)
    adapted = s2.AdaptedModel.load(s2.load(base / "base.onnx"), base / "adapter")
    [logits] = onnxruntime.InferenceSession(base / "all.onnx").run(None, {"x": x})
    np.testing.assert_allclose(logits, adapted.logits(x), rtol=1e-4, atol=1e-5)
    assert json.loads(exported.out)["bytes"] == [(base / "all.onnx").stat().st_size]
    again = type_in(
        "export", "base.onnx", "--adapter", "adapter", "--to", "onnx-adapter", "-o", "swap.onnx"
    )
    assert again.code == 0, again.err
    assert (base / "swap.onnx_adapter").is_file()
    assert "swap.onnx_adapter:" in again.out


def test_facts_are_those_of_the_file(base: Path, type_in: Type) -> None:
    nets.save(nets.cnn(size="s"), base / "open.onnx")
    made = type_in("prepare", "open.onnx", "-o", "t.onnx", "--size", "16", "--grid", 2, "--json")
    assert made.code == 0, made.err
    backbone = s2.load(base / "t.onnx")
    assert [tap["width"] for tap in made.json["taps"]] == list(backbone.tap_widths)
    assert made.json["bytes_a_sample"] == 4 * (sum(backbone.tap_widths) + 4)
    assert (backbone.grid, backbone.size) == (2, (16, 16))
