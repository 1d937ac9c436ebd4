"""What ``.onnx`` files are refused for: one line, and never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")


import onnx

import onnx_models as nets
import skip2lora as s2
from skip2lora.backbones.onnx.backbone import OnnxBackbone, prepare
from skip2lora.backbones.onnx.file import MOST_BYTES
from skip2lora.errors import FileError, ModelError

Refused = Callable[..., str]


def test_files_that_are_no_models(tmp_path: Path, refused: Refused) -> None:
    path = nets.save(nets.mlp(), tmp_path / "m.onnx")
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-1], b"\x00" * 100):
        path.write_bytes(content)
        assert str(path) in refused(ModelError, OnnxBackbone.load, path)
    missing = tmp_path / "none.onnx"
    assert "does not exist" in refused(FileError, s2.load, missing)
    assert "cannot read" in refused(FileError, OnnxBackbone.load, missing)


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
