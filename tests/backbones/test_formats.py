"""A file that is something else than a model is told what it is."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.backbones.loading import SUFFIXES
from skip2lora.errors import FileError, ModelError

Refused = Callable[..., str]


def _zip(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"))
    return stream.getvalue()


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


def _safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
CONTENTS = {
    "lfs": (POINTER, "a pointer of Git LFS"),
    "page": (b"\n<!DOCTYPE html>\n<html><body>404", "a web page, as of a failed download"),
    "page without a type": (b"<html lang='en'>", "a web page"),
    "answer": (b'{"message": "Not Found"}', "JSON, as of a failed download"),
    "text": (b"404: Not Found\n", "a text"),
    "zeros": (bytes(5000), "empty but for zeros"),
    "gzip": (gzip.compress(b"model"), "compressed with gzip"),
    "zip": (_zip(model_dot_onnx=b"x"), "an archive (zip)"),
    "half a zip": (_zip(model_dot_onnx=bytes(99))[:60], "the beginning of an archive"),
    "tar": (_tar(), "an archive (tar)"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "a Keras model or weights as HDF5"),
    "keras": (_zip(config_dot_json=b"{}", model_dot_weights_dot_h5=b"x"), "a Keras model (.keras)"),
    "torch.save": (
        _zip(archive__data_dot_pkl=b"x", archive__version=b"3"),
        "what torch.save wrote, weights (a state dict) or a pickled module",
    ),
    "TorchScript": (
        _zip(m__data_dot_pkl=b"x", m__constants_dot_pkl=b"x", m__code__a_dot_py=b""),
        "a TorchScript module",
    ),
    "pt2": (_zip(m__archive_format=b"pt2", m__data_dot_pkl=b"x"), "a program of torch.export"),
    "pickle": (pickle.dumps({"w": [1.0]}), "a pickle"),
    "old pickle": (pickle.dumps({"w": [1.0]}, protocol=2), "a pickle"),
    "npy": (_npy(), "an array of NumPy"),
    "ort": (b"\x20\0\0\0ORTM" + bytes(40), "an ONNX model in the format of ONNX Runtime"),
    "weights": (_safetensors(), "weights alone (safetensors)"),
    "gguf": (b"GGUF\3\0\0\0" + bytes(30), "a model as GGUF"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(30), "an image"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".pt", ".bin", ""])
@pytest.mark.parametrize("name", CONTENTS)
def test_the_content_tells_whatever_the_suffix(
    name: str, suffix: str, tmp_path: Path, refused: Refused
) -> None:
    content, said = CONTENTS[name]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    if suffix == ".xml":
        path.with_suffix(".bin").touch()
    assert f"{path} is {said}" in refused(ModelError, s2.load, path)


@pytest.mark.parametrize(
    ("suffix", "said"),
    [
        (".h5", "a Keras model"), (".keras", "a Keras model"), (".pb", "a graph of TensorFlow"),
        (".pt", "a file of PyTorch"), (".pth", "a file of PyTorch"), (".ckpt", "PyTorch"),
        (".pt2", "torch.export"), (".pte", "ExecuTorch"), (".ort", "use the .onnx"),
        (".pkl", "skl2onnx"), (".joblib", "a pickle"), (".mlmodel", "Core ML"),
        (".engine", "TensorRT"), (".pdmodel", "paddle2onnx"), (".bin", "weights alone"),
        (".caffemodel", "Caffe"), (".gguf", "GGUF"), (".zip", "archive"), (".xyz", "ends in .xyz"),
    ],
)  # fmt: skip
def test_a_suffix_that_no_runtime_reads_tells_where_the_content_does_not(
    suffix: str, said: str, tmp_path: Path, refused: Refused
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"\x01\xfe\x02\xff" * 100)
    assert said in refused(ModelError, s2.load, path)


@pytest.mark.parametrize("content", [b"ab]cd", b"\x80\x04\x00cd", b"\x80\x01]cd"])
def test_what_begins_a_little_like_a_pickle_is_none(
    content: bytes, tmp_path: Path, refused: Refused
) -> None:
    path = tmp_path / "model.xyz"
    path.write_bytes(content + b"\xfe\x02\xff" * 100)
    assert "pickle" not in refused(ModelError, s2.load, path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["saved_model.pb"], "a SavedModel of TensorFlow"),
        (["config.json", "model.safetensors"], "a model of Hugging Face"),
        (["config.json", "pytorch_model.bin"], "a model of Hugging Face"),
        (["data.pkl"], "a file of PyTorch that was unpacked"),
    ],
)
def test_a_folder_with_another_model(
    files: list[str], said: str, tmp_path: Path, refused: Refused
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"{}")
    assert f"{tmp_path} is {said}" in refused(ModelError, s2.load, tmp_path)


def test_a_folder_without_a_model_is_missing_one(tmp_path: Path, refused: Refused) -> None:
    assert "does not exist" in refused(FileError, s2.load, tmp_path)


def test_a_torch_file_is_no_model_under_any_name(tmp_path: Path, refused: Refused) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 2))
    torch.save(module.state_dict(), tmp_path / "weights.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(module, torch.zeros(1, 3)).save(tmp_path / "traced.onnx")
    said = refused(ModelError, s2.load, tmp_path / "weights.onnx")
    assert "is what torch.save wrote" in said
    assert "TorchBackbone(module)" in said
    assert "is a TorchScript module" in refused(ModelError, s2.load, tmp_path / "traced.onnx")


def test_a_model_that_is_refused_for_another_reason_keeps_that(
    tmp_path: Path, refused: Refused
) -> None:
    model = s2.MLP.create([5, 4, 3], seed=2)
    model.save(tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:-4])
    said = refused(ModelError, s2.load, tmp_path / "model.safetensors")
    assert "is not a readable .safetensors file" in said


def test_a_package_of_core_ml(tmp_path: Path, refused: Refused) -> None:
    folder = tmp_path / "model.mlpackage"
    folder.mkdir()
    assert f"{folder} is a model of Core ML" in refused(ModelError, s2.load, folder)


def test_text_may_be_cut_within_a_letter(tmp_path: Path, refused: Refused) -> None:
    """What is read of a long file may end in one; other bytes are no text."""
    path = tmp_path / "model.bin"
    for length in (4095, 4094, 8191, 8190, 65535, 65534):
        path.write_bytes(b"a" * length + "\u00f6".encode() * 9)
        assert "is a text" in refused(ModelError, s2.load, path)
    path.write_bytes(b"aaaa\xff" + b"a" * 9000)
    assert "is a text" not in refused(ModelError, s2.load, path)


def test_a_network_of_openvino_of_another_suffix(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "model.txt"
    path.write_bytes(b'<?xml version="1.0"?><net name="m" version="11"></net>')
    assert "is a model of OpenVINO" in refused(ModelError, s2.load, path)
    path.write_bytes(b"<error>not found</error>")
    assert "is XML, as of a failed download" in refused(ModelError, s2.load, path)
