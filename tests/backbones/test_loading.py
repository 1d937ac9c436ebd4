"""Models are read by their files, with the same options for every runtime."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import skip2lora as s2
from skip2lora.backbones.loading import SUFFIXES
from skip2lora.errors import ParameterError

Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"taps": ["layers.1"]}, "whose adapters start at every layer: leave taps out"),
        ({"grid": 2}, "whose adapters start at every layer: leave grid out"),
        ({"size": (8, 8)}, "whose adapters start at every layer: leave size out"),
        ({"threads": 2}, "which runs on one thread: leave threads out"),
        ({"output": "logits"}, "expected 'output', as it has one output: leave output out"),
        ({"class_names": ["a", "b"]}, "expected 3 distinct names"),
    ],
)
@pytest.mark.parametrize("load", [s2.load, s2.MLP.load])
def test_a_network_of_ours(
    load: Any, options: dict[str, Any], said: str, tmp_path: Path, refused: Refused
) -> None:
    s2.MLP.create([4, 5, 3]).save(tmp_path / "m.safetensors")
    assert said in refused(ParameterError, load, tmp_path / "m.safetensors", **options)
    assert load(tmp_path / "m.safetensors", class_names=["a", "b", "c"])


def test_names_replace_those_of_the_file(tmp_path: Path) -> None:
    s2.MLP.create([4, 5, 3], class_names=["a", "b", "c"]).save(tmp_path / "m.safetensors")
    assert s2.load(tmp_path / "m.safetensors").class_names == ("a", "b", "c")
    named = s2.load(tmp_path / "m.safetensors", class_names=["x", "y", "z"])
    assert named.class_names == ("x", "y", "z")


def test_a_tflite_has_its_size(tmp_path: Path, refused: Refused) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")
    from tflite_models import mlp

    (tmp_path / "m.tflite").write_bytes(mlp([4, 5, 3], 0).content())
    said = refused(ParameterError, s2.load, tmp_path / "m.tflite", size=(8, 8))
    assert "size is (8, 8)" in said
    assert "whose sizes are fixed: leave size out" in said
    model = s2.load(tmp_path / "m.tflite", threads=2, class_names=["a", "b", "c"])
    assert model.class_names == ("a", "b", "c")
    assert "leave size out" in refused(ParameterError, model.with_taps, None, size=(8, 8))


def test_an_onnx_chooses_its_output(tmp_path: Path, refused: Refused) -> None:
    pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    import onnx_models as nets

    path = nets.save(nets.mlp(), tmp_path / "m.onnx")
    assert "leave output out" in refused(ParameterError, s2.load, path, output="logits")


def test_every_runtime_loads_by_the_same_options() -> None:
    wanted = inspect.signature(s2.load).parameters
    for where in SUFFIXES.values():
        module, _, name = where.partition(":")
        given = inspect.signature(getattr(importlib.import_module(module), name).load).parameters
        assert list(given) == list(wanted)
        assert [(of.kind, of.default) for of in given.values()] == [
            (of.kind, of.default) for of in wanted.values()
        ]


def test_the_folder_of_a_model_serves_as_its_file(tmp_path: Path) -> None:
    model = s2.MLP.create([5, 4, 3], seed=2)
    model.save(tmp_path / "model.safetensors")
    assert s2.load(tmp_path).fingerprint == model.fingerprint
    assert s2.load(str(tmp_path / "model.safetensors")).fingerprint == model.fingerprint


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.pt").touch()
    (tmp_path / "bare").touch()
    said = r"expected a model as \.safetensors, \.onnx"
    with pytest.raises(s2.ModelError, match=rf"m\.pt ends in \.pt, {said}"):
        s2.load(tmp_path / "m.pt")
    with pytest.raises(s2.ModelError, match=rf"bare ends in nothing, {said}"):
        s2.load(tmp_path / "bare")
    for missing in (tmp_path / "none.onnx", tmp_path / "none"):
        with pytest.raises(s2.FileError, match="does not exist, expected a model"):
            s2.load(missing)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_suffix_has_its_class(suffix: str) -> None:
    module, _, name = SUFFIXES[suffix].partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except s2.MissingExtraError as error:
        pytest.skip(str(error))
    assert issubclass(kind, s2.Backbone)
