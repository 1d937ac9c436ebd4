"""What ``.onnx`` files are refused for: one line, and never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")


from typing import Any

import numpy as np
import onnx
import pytest

import onnx_models as nets
import skip2lora as s2
from skip2lora.backbones.onnx import OnnxBackbone, prepare
from skip2lora.backbones.onnx.file import MOST_BYTES
from skip2lora.errors import FileError, ModelError

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

from onnx import helper, numpy_helper

from skip2lora.backbones.onnx.file import fault_of, without_weights

Refused = Callable[..., str]


def test_files_that_are_no_models(tmp_path: Path, refused: Refused) -> None:
    path = nets.save(nets.mlp(), tmp_path / "m.onnx")
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-1], b"\x00" * 100):
        path.write_bytes(content)
        assert str(path) in refused(ModelError, OnnxBackbone.load, path)
    missing = tmp_path / "none.onnx"
    assert "does not exist" in refused(FileError, s2.load, missing)
    assert "does not exist" in refused(FileError, OnnxBackbone.load, missing)


def test_what_is_handed_over_beside_a_copy() -> None:
    """Large weights of numbers that NumPy has; all else stays as it is, and so does the model."""
    random, net = np.random.default_rng(0), nets.Net()
    large = {kind: random.normal(size=(50, 50)).astype(kind) for kind in ("f4", "f8", "f2", "i8")}
    for name, values in large.items():
        net.constants.append(numpy_helper.from_array(values, name))
    net.constants.append(helper.make_tensor("listed", 1, [2000], np.ones(2000)))
    net.constants.append(numpy_helper.from_array(np.ones(9, np.float32), "small"))
    net.constants.append(helper.make_tensor("packed", 16, [4000], bytes(8000), raw=True))
    net.node("Identity", ["x"], "y")
    model = net.model([nets.value("x", ["n", 3])], [nets.value("y", ["n", 3])])
    model.metadata_props.add(key="a", value="b")
    before = model.SerializeToString(deterministic=True)
    bare, weights = without_weights(model)
    assert model.SerializeToString(deterministic=True) == before
    assert weights.keys() == large.keys()
    for name, values in large.items():
        np.testing.assert_array_equal(weights[name], values)
    inside = [each.name for each in bare.graph.initializer if not each.external_data]
    assert inside == ["listed", "small", "packed"]
    assert (bare.metadata_props, bare.graph.node) == (model.metadata_props, model.graph.node)
    assert (bare.ir_version, bare.opset_import) == (model.ir_version, model.opset_import)


def test_over_two_gigabytes(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)  # sparse
    message = refused(ModelError, OnnxBackbone.load, path)
    assert "2.15 GB" in message
    assert "external data" in message


def test_external_data(tmp_path: Path, refused: Refused) -> None:
    inside = OnnxBackbone.load(nets.save(nets.cnn(), tmp_path / "a.onnx"))
    path = nets.save(nets.cnn(), tmp_path / "b.onnx", external=True)
    outside = OnnxBackbone.load(path)
    x = nets.images(3)
    assert outside.fingerprint == inside.fingerprint
    assert outside.logits(x).tobytes() == inside.logits(x).tobytes()
    prepare(path, tmp_path / "elsewhere.onnx")
    data = tmp_path / "b.data"
    data.write_bytes(data.read_bytes()[:-40])
    assert "b.data is truncated" in refused(ModelError, OnnxBackbone.load, path)
    data.unlink()
    assert "b.data, which is not beside it" in refused(FileError, OnnxBackbone.load, path)
    assert OnnxBackbone.load(tmp_path / "elsewhere.onnx").fingerprint == inside.fingerprint


def test_external_data_outside_its_folder(tmp_path: Path, refused: Refused) -> None:
    path = nets.save(nets.mlp(), tmp_path / "m.onnx", external=True)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../m.data"
    path.write_bytes(model.SerializeToString())
    assert "lies outside its folder" in refused(ModelError, OnnxBackbone.load, path)


def test_fingerprint(tmp_path: Path) -> None:
    model = nets.mlp()
    made = OnnxBackbone.load(nets.save(model, tmp_path / "a.onnx"))
    model.producer_name, model.doc_string, model.graph.node[0].doc_string = "x", "y", "z"
    model.metadata_props.add(key="date", value="today")
    assert OnnxBackbone.load(nets.save(model, tmp_path / "b.onnx")).fingerprint == made.fingerprint
    assert made.with_taps([0]).fingerprint == made.fingerprint
    other = nets.mlp(seed=1)
    assert OnnxBackbone.load(nets.save(other, tmp_path / "c.onnx")).fingerprint != made.fingerprint
    model.graph.node[1].op_type = "Sigmoid"
    assert OnnxBackbone.load(nets.save(model, tmp_path / "d.onnx")).fingerprint != made.fingerprint


def changed(old: bytes, new: bytes) -> Callable[[Any], bytes]:
    """The bytes of a model with some of them changed, as in a damaged file."""

    def change(model: Any) -> bytes:
        content = model.SerializeToString()
        assert content.count(old) >= 1
        return bytes(content.replace(old, new, 1))

    return change


def tensor_with(**fields: Any) -> Callable[[Any], bytes]:
    def change(model: Any) -> bytes:
        tensor = model.graph.initializer[0]
        for name, field in fields.items():
            if name == "dims":
                tensor.dims[:] = field
            else:
                setattr(tensor, name, field)
        return bytes(model.SerializeToString())

    return change


def with_floats(model: Any) -> bytes:
    tensor = model.graph.initializer[0]
    values = np.frombuffer(tensor.raw_data, np.float32)
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values[:-1])
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(b"/fc1", b"/\xff\xfec"), "NodeProto.name is no text"),
        (changed(b"Relu", b"R\xfflu"), "NodeProto.op_type is no text"),
        (changed(b"transB", b"tr\xffnsB"), "AttributeProto.name is no text"),
        (tensor_with(name="w"), "cannot run the model"),
        (tensor_with(dims=[9, 17]), "tensor w0 has 576 bytes, expected 612"),
        (tensor_with(dims=[-9, -16]), "tensor w0 has shape [-9, -16]"),
        (tensor_with(data_type=65), "tensor w0 has the unknown type 65"),
        (tensor_with(data_type=0), "tensor w0 has the unknown type 0"),
        (with_floats, "tensor w0 has values that do not fit its shape"),
    ],
)
def test_damaged_inside(
    change: Callable[[Any], bytes], said: str, tmp_path: Path, refused: Refused
) -> None:
    model = nets.mlp()
    model.graph.node[0].attribute.append(helper.make_attribute("transB", 0))
    path = tmp_path / "m.onnx"
    path.write_bytes(change(model))
    message = refused(ModelError, OnnxBackbone.load, path)
    assert said in message


def test_whole_models_have_no_fault() -> None:
    for model in (nets.mlp(), nets.cnn(), nets.transformer()):
        assert fault_of(onnx, model) is None


def test_values_in_other_fields_and_files() -> None:
    """Numbers as text or in another file are counted by what the tensor says of them."""
    texts = onnx.helper.make_tensor("t", onnx.TensorProto.STRING, [2], [b"a", b"b"])
    outside = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    outside.ClearField("raw_data")
    outside.data_location = onnx.TensorProto.EXTERNAL
    many = onnx.helper.make_tensor("m", onnx.TensorProto.STRING, [30, 10], [b"a"] * 300)
    assert fault_of(onnx, texts) is None
    assert fault_of(onnx, many) is None
    assert fault_of(onnx, outside) is None
    del texts.string_data[1:]
    assert fault_of(onnx, texts) == "tensor t has 1 values, expected 2"
    outside.data_location = onnx.TensorProto.DEFAULT
    assert str(fault_of(onnx, outside)).startswith("tensor w has values that do not fit its shape")


def test_faults_of_inner_graphs_are_found() -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32))
    tensor.dims[:] = [5]
    node = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    branch = onnx.helper.make_graph([node], "b", [], [nets.value("c", None)])
    outer = onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    assert fault_of(onnx, outer) == "tensor (without a name) has 16 bytes, expected 20"
