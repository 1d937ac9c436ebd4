"""Sessions of onnxruntime: their inputs, their errors, and what is said without the package."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

from typing import Any

import numpy as np
import onnx

import onnx_models as nets
from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.onnx.file import without_weights
from skip2lora.backbones.onnx.session import adapter_writer, fixed_batch, open_session, specs_of
from skip2lora.errors import FileError, MissingExtraError, ModelError


def test_without_onnxruntime(tmp_path: Path) -> None:
    path = nets.save(nets.mlp(), tmp_path / "m.onnx")
    code = (
        "import sys; sys.modules['onnxruntime'] = None; import skip2lora as s2\n"
        f"try: s2.load({os.fspath(path)!r})\nexcept s2.MissingExtraError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "onnxruntime" in done.stdout
    assert "pip install 'skip2lora[onnx]'" in done.stdout
    assert MissingExtraError("x").args == ("x",)


def session_of(*inputs: Any, kind: str = "Identity") -> Any:
    net = nets.Net()
    outputs = []
    for value in inputs:
        name = net.node(kind, [value.name], f"{value.name}.same")
        shape = [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
        outputs.append(nets.value(name, shape, value.type.tensor_type.elem_type))
    return open_session(net.model(inputs, outputs).SerializeToString())


def test_inputs_without_the_axis_of_samples() -> None:
    session = session_of(
        nets.value("image", ["n", 3, "h", 5]),
        nets.value("ids", ["n"], nets.INT64),
        nets.value("real", [4, 2], onnx.TensorProto.DOUBLE),
    )
    assert specs_of(session, {}) == (
        InputSpec("image", (3, None, 5), "float32"),
        InputSpec("ids", (), "int64"),
        InputSpec("real", (2,), "float64"),
    )
    assert fixed_batch(session, {}) == 4
    assert fixed_batch(session_of(nets.value("x", ["n", 2])), {}) is None


def test_inputs_with_the_samples_along_another_axis() -> None:
    session = session_of(nets.value("x", [4, "n", 5]), nets.value("state", ["n", 3]))
    assert specs_of(session, {"x": 1})[0] == InputSpec("x", (4, 5), "float32")
    assert fixed_batch(session, {"x": 1}) is None
    assert fixed_batch(session, {}) == 4


def test_inputs_that_are_no_samples() -> None:
    with pytest.raises(ModelError, match=r"input x is tensor\(string\), expected numbers"):
        specs_of(session_of(nets.value("x", ["n"], onnx.TensorProto.STRING)), {})
    with pytest.raises(ModelError, match="input x is one number for all samples"):
        specs_of(session_of(nets.value("x", [])), {})


def test_what_onnxruntime_cannot_run(tmp_path: Path) -> None:
    model = nets.mlp()
    model.graph.node[1].op_type = "Nothing"
    path = nets.save(model, tmp_path / "m.onnx")
    for source, said in ((path, f"{path}: onnxruntime"), (path.read_bytes(), "onnxruntime")):
        with pytest.raises(ModelError) as caught:
            open_session(source)
        message = str(caught.value)
        assert message.startswith(said)
        assert "Nothing" in message
        assert "[ONNXRuntimeError]" not in message
        assert "\n" not in message


@pytest.mark.parametrize("optimised", [False, True])
@pytest.mark.parametrize("as_input", [False, True])
def test_weights_that_are_handed_over(optimised: bool, as_input: bool) -> None:
    """Also where nobody else keeps them, and of old files, which name weights as inputs."""
    model = nets.mlp((9, 600, 600, 3))
    if as_input:
        model.ir_version = 3
        shapes = {each.name: list(each.dims) for each in model.graph.initializer}
        model.graph.input.extend(nets.value(name, shape) for name, shape in shapes.items())
    x = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    [whole] = open_session(model.SerializeToString(), optimised=optimised).run(None, {"x": x})
    bare, weights = without_weights(model)
    assert {array.shape for array in weights.values()} == {(9, 600), (600, 600), (600, 3)}
    assert bare.ByteSize() < model.ByteSize() / 100
    session = open_session(bare.SerializeToString(), optimised=optimised, weights=weights)
    weights.clear()
    gc.collect()
    rest = [np.full((600, 600), np.nan, np.float32) for _ in range(9)]  # in the memory of others
    [made] = session.run(None, {"x": x})
    np.testing.assert_array_equal(made, whole)
    del rest
    with pytest.raises(ModelError, match="cannot run the model"):
        open_session(bare.SerializeToString())


def test_external_data_of_a_model_in_memory(tmp_path: Path) -> None:
    path = nets.save(nets.mlp(), tmp_path / "m.onnx", external=True)
    session = open_session(path.read_bytes(), folder=tmp_path)
    x = np.ones((2, 9), np.float32)
    [inside] = open_session(nets.mlp().SerializeToString()).run(None, {"x": x})
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], inside)


def test_an_adapter_at_a_path_that_is_no_text(tmp_path: Path) -> None:
    """onnxruntime's own error is a traceback of types."""
    write = adapter_writer({"a": np.zeros((2, 3), np.float32)})
    write(tmp_path / "größe.onnx_adapter")
    assert (tmp_path / "größe.onnx_adapter").stat().st_size
    with pytest.raises(FileError, match="takes paths of text alone, expected names in UTF-8"):
        write(tmp_path / os.fsdecode(b"\xff.onnx_adapter"))


@pytest.mark.parametrize("model_version", [1, 2**31 - 1])
def test_an_adapter_is_read_by_onnxruntime(model_version: int, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    tensors = {"a": np.ones((2, 3), np.float32), "b": np.arange(8, dtype=np.float32)[::2]}
    path = tmp_path / "m.onnx_adapter"
    adapter_writer(tensors, model_version=model_version)(path)
    read = onnxruntime.AdapterFormat.read_adapter(str(path))
    assert (read.get_adapter_version(), read.get_model_version()) == (1, model_version)
    values = read.get_parameters()
    assert values.keys() == tensors.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(value.numpy(), tensors[name])
