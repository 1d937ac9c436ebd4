"""A new front part before an old .tflite file: what is new, what changed, what stays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert: group runtimes")

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

import tflite_models as nets
from skip2lora.errors import ModelError
from skip2lora.export.tflite_front import Front
from skip2lora.export.tflite_nodes import Nodes
from tflite_exports import Stock

Refused = Callable[..., str]


def packed(change: Callable[[Any], None]) -> bytes:
    """A small network whose file is changed field by field."""
    model = schema.ModelT.InitFromPackedBuf(nets.mlp([3, 4, 2]).content(), 0)
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_everything(model: Any) -> None:
    signature = schema.SignatureDefT()
    signature.signatureKey = "serving_default"
    signature.inputs, signature.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
    signature.inputs[0].name, signature.inputs[0].tensorIndex = "in", 0
    signature.outputs[0].name = "out"
    signature.outputs[0].tensorIndex = model.subgraphs[0].outputs[0]
    entry = schema.MetadataT()
    entry.name, entry.buffer = "min_runtime_version", len(model.buffers)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(b"1.14.0", np.uint8)
    model.buffers.append(buffer)
    model.signatureDefs, model.metadata = [signature], [entry]
    model.metadataBuffer, model.description = [len(model.buffers) - 1], "described"


def test_nothing_changed_is_the_same_model() -> None:
    content = packed(with_everything)
    made = Front(content, "a test").content()
    assert made.endswith(content)
    old, new = (schema.ModelT.InitFromPackedBuf(each, 0) for each in (content, made))
    assert new.description == old.description == b"described"
    assert list(new.metadataBuffer) == list(old.metadataBuffer)
    assert [each.name for each in new.metadata] == [b"min_runtime_version"]
    assert new.signatureDefs[0].signatureKey == b"serving_default"
    assert new.signatureDefs[0].outputs[0].name == b"out"
    for one, other in zip(old.subgraphs[0].tensors, new.subgraphs[0].tensors, strict=True):
        assert (one.name, list(one.shape), one.buffer) == (
            other.name,
            list(other.shape),
            other.buffer,
        )
    x = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    before, after = (next(iter(Stock(each).run(x).values())) for each in (content, made))
    assert before.tobytes() == after.tobytes()


def test_weights_stay_aligned() -> None:
    front = Front(packed(with_everything), "a test")
    n_old = schema.Model.GetRootAs(front.old).BuffersLength()
    for size in (1, 7, 16):
        front.tensor(f"t{size}", (size,), data=np.ones(size, np.float32))
    made = front.content()
    assert (len(made) - len(front.old)) % 64 == 0
    model = schema.Model.GetRootAs(made)
    places = [
        buffer._tab.Vector(buffer._tab.Offset(4)) % 16
        for buffer in map(model.Buffers, range(n_old, model.BuffersLength()))
    ]
    assert places == [0, 0, 0]


def test_an_output_of_its_own_joins_signatures() -> None:
    front = Front(packed(with_everything), "a test")
    old = front.outputs[0]
    twice = Nodes(front, behind=front.n_operators - 1)
    index = front.tensor("t", (1, 2))
    front.operator("ADD", [old, old], [index], behind=twice.behind)
    front.outputs.append(index)
    front.name_output(index, "twice")
    stock = Stock(front.content())
    x = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    given = stock.run(x)
    np.testing.assert_array_equal(given["twice"], 2 * given["probabilities"])
    runner = stock.interpreter.get_signature_runner("serving_default")
    assert set(runner(**{"in": x[:1]})) == {"out", "twice"}


def test_a_dropped_output_leaves_signatures() -> None:
    front = Front(packed(with_everything), "a test")
    index = front.tensor("t", (1, 2))
    front.operator("ADD", [front.outputs[0]] * 2, [index], behind=front.n_operators - 1)
    front.outputs = [index]
    front.name_output(index, "twice")
    runner = Stock(front.content()).interpreter.get_signature_runner("serving_default")
    assert list(runner(**{"in": np.ones((1, 3), np.float32)})) == ["twice"]


def test_metadata_is_replaced_by_name() -> None:
    front = Front(packed(with_everything), "a test")
    front.metadata("min_runtime_version", b"2")
    front.metadata("other", b"3")
    model = schema.ModelT.InitFromPackedBuf(front.content(), 0)
    entries = {each.name: bytes(model.buffers[each.buffer].data) for each in model.metadata}
    assert entries == {b"min_runtime_version": b"2", b"other": b"3"}


def test_opcodes_are_shared() -> None:
    front = Front(packed(with_everything), "a test")
    n_codes = len(schema.ModelT.InitFromPackedBuf(front.content(), 0).operatorCodes)
    at, behind = front.outputs[0], front.n_operators - 1
    front.operator("SOFTMAX", [at], [front.tensor("a", (1, 2))], behind=behind)
    for name in "bcd":
        front.operator("LOG", [at], [front.tensor(name, (1, 2))], behind=behind)
    codes = schema.ModelT.InitFromPackedBuf(front.content(), 0).operatorCodes
    assert len(codes) == n_codes + 1
    assert codes[-1].builtinCode == codes[-1].deprecatedBuiltinCode == schema.BuiltinOperator.LOG


def test_a_zip_behind_is_still_read() -> None:
    content = io.BytesIO(packed(with_everything))
    content.seek(0, io.SEEK_END)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("labels.txt", "a\nb\n")
        archive.writestr("more/readme.md", "text")
    made = Front(content.getvalue(), "a test").content()
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt") == b"a\nb\n"
        # As other readers have it, who do not look for where the zip starts.
        assert all(made[of.header_offset :].startswith(b"PK\x03\x04") for of in archive.infolist())
    central = made.rfind(b"PK\x01\x02")
    assert int.from_bytes(made[-6:-2], "little") < central


def test_weights_behind_the_tables_are_refused(refused: Refused) -> None:
    def outside(model: Any) -> None:
        model.buffers[1].offset, model.buffers[1].size = 4096, 16

    message = refused(ModelError, Front, packed(outside), "far.tflite")
    assert "far.tflite keeps weights outside of its tables" in message
