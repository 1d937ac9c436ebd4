"""Tapped copies: what they say of themselves, and the model they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx

import onnx_models as nets
from skip2lora.backbones.onnx.tapped import (
    Description,
    metadata_of,
    strip,
    tap_model,
    understand,
)
from skip2lora.errors import ModelError

PATH = Path("m.onnx")


def tapped(model: Any, **options: Any) -> Description:
    return tap_model(model, PATH, **{"taps": None, "grid": 4, "keep_outputs": True} | options)


def test_a_tapped_copy_describes_itself() -> None:
    model = nets.cnn()
    described = tapped(model, taps=["/conv0", "/fc"], grid=2)
    assert [tap.layer for tap in described.taps] == ["/conv0", "/fc"]
    assert [tap.layer for tap in described.layers] == ["/conv0", "/depthwise", "/conv1", "/fc"]
    assert (described.n_outputs, described.grid, described.size) == (4, 2, None)
    outputs = {value.name: value for value in model.graph.output}
    assert list(outputs) == ["probabilities", *described.outputs, described.logits]
    widths = [outputs[name].type.tensor_type.shape.dim[1].dim_value for name in described.outputs]
    assert widths == [tap.width for tap in described.taps]
    assert Description.from_json(str(metadata_of(model)), PATH) == described
    onnx.checker.check_model(model)


def test_outputs_of_the_model_may_go() -> None:
    model = nets.cnn()
    described = tapped(model, keep_outputs=False)
    names = [value.name for value in model.graph.output]
    assert names == [*described.outputs, described.logits]


def test_stripping_gives_the_model_back() -> None:
    model = nets.cnn()
    for key in ("author", "zoo"):  # in the order of the alphabet before and behind ours
        model.metadata_props.add(key=key, value="someone")
    before = model.SerializeToString(deterministic=True)
    tapped(model)
    assert model.SerializeToString(deterministic=True) != before
    strip(model)
    assert model.SerializeToString(deterministic=True) == before
    assert metadata_of(model) is None


def test_tapping_again_keeps_the_fingerprint_of_the_base() -> None:
    model = nets.cnn(size="s")
    first = tapped(model)
    again = tapped(model, taps=["/fc"], size=(14, 14))
    assert again.fingerprint == first.fingerprint
    assert (again.size, first.size) == ((14, 14), None)
    assert Description.from_json(again.to_json(), PATH) == again
    assert understand(model, PATH, grid=4)[2] == first.fingerprint


@pytest.mark.parametrize(
    ("end", "task"), [("Sigmoid", "multi-label"), ("Softmax", "classification"), (None, None)]
)
def test_the_end_of_the_graph_tells_the_task(end: str | None, task: str | None) -> None:
    assert tapped(nets.mlp(end=end)).task == (task or "classification")
    assert tapped(nets.transformer(encoder=True)).task == "classification"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1],
        lambda text: "[]",
        lambda text: text.replace('"layers"', '"lairs"'),
        lambda text: text.replace('"grid": 4', '"grid": 4, "more": 1'),
        lambda text: text.replace('"size": null', '"size": ["a", 1]'),
    ],
)
def test_damaged_descriptions(damage: Any) -> None:
    text = tapped(nets.cnn()).to_json()
    assert damage(text) != text
    with pytest.raises(ModelError, match=r"m\.onnx .*its taps are described wrongly"):
        Description.from_json(damage(text), PATH)


def test_descriptions_of_another_version() -> None:
    text = tapped(nets.mlp()).to_json().replace('"version": 1', '"version": 2')
    with pytest.raises(ModelError, match="prepared by another version"):
        Description.from_json(text, PATH)
