"""What a backbone must say, and what is answered where it does not."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.backbones import base
from skip2lora.backbones.base import SUFFIXES
from skip2lora.backbones.recipe import ANY_MODEL
from skip2lora.errors import ParameterError
from skip2lora.tasks.task import CLASSIFICATION


class Least(s2.Backbone):
    """The four members that a backbone must define."""

    tap_widths, n_outputs, fingerprint = (4, 3), 2, "least"

    def forward(self, x: np.ndarray) -> s2.Taps:
        return s2.Taps((x, x[:, :3] * 2), x[:, :2] + 1)


def test_defaults_of_the_four_members() -> None:
    model = Least()
    assert model.learned is CLASSIFICATION
    assert (model.class_names, model.path) == (None, None)
    assert model.classes_.tolist() == [0, 1]
    assert model.recipe is ANY_MODEL
    assert model.base is model
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert model.logits(x).tolist() == (x[:, :2] + 1).tolist()
    assert model.predict(x).tolist() == [1, 1, 1]


def test_logits_of_many_samples_are_those_of_each() -> None:
    """The taps of few samples are in memory at a time."""
    most: list[int] = []

    class Counted(Least):
        def forward(self, x: np.ndarray) -> s2.Taps:
            most.append(len(x))
            return super().forward(x)

    x = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    assert Counted().logits(x).tobytes() == (x[:, :2] + 1).tobytes()
    assert (sum(most), max(most)) == (1000, 256)


@pytest.mark.parametrize("missing", ["tap_widths", "n_outputs", "fingerprint"])
def test_a_member_that_is_missing_is_named(missing: str) -> None:
    members = {name: vars(Least)[name] for name in ("tap_widths", "n_outputs", "fingerprint")}
    del members[missing]
    model = type("Lacking", (s2.Backbone,), members | {"forward": Least.forward})()
    with pytest.raises(s2.ModelError, match=f"Lacking has no {missing}, expected"):
        getattr(model, missing)


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


def test_threads_of_a_module() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra torch)")
    seen: list[int] = []

    class Counting(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            seen.append(torch.get_num_threads())
            return super().forward(x)

    x, before = np.zeros((2, 4), np.float32), torch.get_num_threads()
    model = s2.TorchBackbone(torch.nn.Sequential(Counting(4, 3)), example=x, threads=before + 1)
    seen.clear()
    model.forward(x)
    model.logits(x)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
    seen.clear()
    s2.TorchBackbone(torch.nn.Sequential(Counting(4, 3)), example=x).forward(x)
    assert set(seen) == {before}


def test_every_runtime_loads_by_the_same_options() -> None:
    wanted = inspect.signature(base.load).parameters
    for where in base.SUFFIXES.values():
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


def test_what_a_model_without_masks_and_shapes_answers(refused: Any) -> None:
    model = Least()
    assert model.with_shapes((("x", (4,), "float32"),)) is model
    assert model.with_mask("none") is model
    assert "no input that says what counts" in refused(ParameterError, model.with_mask, "pad=x")
    assert "start at every layer" in refused(ParameterError, model.with_taps, 1)
    assert [(tap.layer, tap.kind, tap.shape) for tap in model.taps] == [
        ("layers.0", "vector", (4,)), ("layers.1", "vector", (3,)),
    ]  # fmt: skip


def test_names_of_its_own_are_not_replaced(refused: Any) -> None:
    class Named(Least):
        @property
        def class_names(self) -> tuple[str, ...]:
            return ("a", "b")

    model = Named()
    assert model.named(None) is model
    assert "Named takes none as it computes its own" in refused(
        ParameterError, model.named, ("c", "d")
    )
    plain = Least()
    assert plain.named(("c", "d")).class_names == ("c", "d")
    assert plain.class_names is None


def test_one_output_unless_there_is_none() -> None:
    class Encoder(Least):
        n_outputs = 0

    assert Least().output == "output"
    assert [(of.name, of.shape) for of in Least().outputs] == [("output", (2,))]
    assert (Encoder().output, Encoder().outputs) == (None, ())
