"""What a file is that is no model of the runtime that its suffix names, by its first bytes.

Also options that a format has no use for.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skip2lora.errors import ModelError, ParameterError
from skip2lora.files import unreadable

_HEAD_BYTES = 4096
_CHAIN = b"[[model]]"
_LITERT = re.compile(rb"""^\s*path\s*=\s*["'].*\.tflite["']""", re.MULTILINE)
_TORCH = (
    "build its nn.Module in Python, load the weights into it and pass TorchBackbone(module), or "
    "export it with torch.onnx.export"
)
_KERAS = "load it with Keras and convert it with model.export(..., format='onnx') or to .tflite"
_SAVED = "convert it with tf2onnx, or to .tflite with tf.lite.TFLiteConverter.from_saved_model"
_PICKLE = (
    "load it where it was made and export the model as .onnx (torch.onnx.export, skl2onnx.to_onnx)"
)
_UNPACK = "unpack it, and give the model inside"
_DATA = "give the model, and this as data"

#: What stands in the first bytes of a file, from which byte on: what that is, and what helps.
_BYTES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the model that it stands for",
     "get the model with `git lfs pull`"),
    (4, b"TFL3", "a .tflite model", "give it the suffix .tflite"),
    (4, b"ORTM", "an ONNX model in the format of ONNX Runtime (.ort), which cannot be changed",
     "use the .onnx that it was made from"),
    (0, b"\x89HDF", "a Keras model or weights as HDF5", _KERAS),
    (0, b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (0, b"BZh", "compressed with bzip2", _UNPACK),
    (0, b"\xfd7zXZ", "compressed with xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (0, b"7z\xbc\xaf", "an archive (7z)", _UNPACK),
    (257, b"ustar", "an archive (tar)", _UNPACK),
    (0, b"\x93NUMPY", "an array of NumPy", _DATA),
    (0, b"GGUF", "a model as GGUF", "use the one that it was made from"),
    (0, b"\x89PNG", "an image", _DATA),
    (0, b"\xff\xd8\xff", "an image", _DATA),
    (0, b"%PDF", "a PDF", "check the path"),
    (0, b"\x7fELF", "a program or library", "check the path; of Edge Impulse's .eim the network is "
     "to be had as TensorFlow Lite"),
)  # fmt: skip
_ZIP, _PICKLES = b"PK\x03\x04", (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_OPENING = (b"\x95", b"c", b"}", b"]", b"(", b"\x8a")  # a frame, a class, a list or dict, a number
#: Suffixes that tell more than the bytes: what such a file is, and what helps.
_SUFFIXES = {
    ".ort": _BYTES[2][2:],
    ".h5": ("a Keras model or weights", _KERAS),
    ".hdf5": ("a Keras model or weights", _KERAS),
    ".keras": ("a Keras model", _KERAS),
    ".pb": ("a graph of TensorFlow", _SAVED),
    ".pt": ("a file of PyTorch", _TORCH),
    ".pth": ("a file of PyTorch", _TORCH),
    ".ckpt": ("a file of PyTorch or TensorFlow with weights alone", _TORCH),
    ".pt2": ("a program of torch.export", _TORCH),
    ".pte": ("a program of ExecuTorch, which gives its outputs alone", _TORCH),
    ".pkl": ("a pickle", _PICKLE),
    ".pickle": ("a pickle", _PICKLE),
    ".joblib": ("a pickle", _PICKLE),
    ".mlmodel": ("a model of Core ML", "use the one that it was made from"),
    ".mlpackage": ("a model of Core ML", "use the one that it was made from"),
    ".engine": ("a model of TensorRT", "use the .onnx that it was made from"),
    ".trt": ("a model of TensorRT", "use the .onnx that it was made from"),
    ".pdmodel": ("a model of Paddle", "convert it with paddle2onnx"),
    ".caffemodel": ("weights of Caffe", "convert it to .onnx"),
    ".mnn": ("a model of MNN", "use the one that it was made from"),
    ".param": ("a model of ncnn", "use the one that it was made from"),
    ".gguf": ("a model as GGUF", "use the one that it was made from"),
    ".bin": ("weights alone", "give the .xml, .onnx or module that they belong to"),
    ".zip": ("an archive", _UNPACK),
}


def suffix_of(file: Path) -> str:
    """The suffix by which a model is read: of a ``.toml`` that names a ``.tflite``, that."""
    if file.suffix == ".toml" and _LITERT.search(_head(file)):
        return ".tflite"
    return file.suffix


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError as error:
        raise unreadable(file, error) from error


def refuse_stranger(file: Path, *, readable: bool) -> None:
    """Refuse a file that shows by its first bytes what else it is than its suffix says.

    Where none of that suffix is ``readable``, the suffix alone tells as well.

    Raises:
        FileError: it cannot be read.
        ModelError: what it is, and what to do.
    """
    head = _head(file)
    if not head or (file.suffix == ".toml" and _CHAIN in head):
        return
    stranger = _by_content(file, head)
    if stranger is None and not readable:
        stranger = _SUFFIXES.get(file.suffix.lower())
    if stranger is not None:
        what, help_text = stranger
        raise ModelError(f"{file} is {what}, expected a model that can be tapped: {help_text}")


def refuse_folder(folder: Path) -> None:
    """Refuse a folder that holds a model in another format.

    Raises:
        ModelError: what it is, and what to do.
    """
    if (folder / "saved_model.pb").exists():
        what, help_text = "a SavedModel of TensorFlow", _SAVED
    elif folder.suffix == ".mlpackage":
        what, help_text = _SUFFIXES[".mlpackage"]
    elif (folder / "config.json").exists() and (
        any(folder.glob("*.safetensors")) or (folder / "pytorch_model.bin").exists()
    ):
        what = "a model of Hugging Face, weights and a description of the network"
        help_text = (
            "load it with transformers and pass TorchBackbone(module), or export it to .onnx"
        )
    elif (folder / "data.pkl").exists():
        what, help_text = "a file of PyTorch that was unpacked", _TORCH
    else:
        return
    raise ModelError(f"{folder} is {what}, expected a model that can be tapped: {help_text}")


def _by_content(file: Path, head: bytes) -> tuple[str, str] | None:
    suffix = file.suffix.lower()
    for at, mark, what, help_text in _BYTES:
        if head[at:].startswith(mark):
            return None if (mark, suffix) == (b"TFL3", ".tflite") else (what, help_text)
    if head.startswith(_ZIP):
        return _zipped(file)
    if head.startswith(_PICKLES) and head[2:3] in _OPENING:
        return "a pickle", _PICKLE
    if head[6:9] == b"\0\0{":
        return None if b"skip2lora" in head else ("weights alone (safetensors)", _TORCH)
    return _text(head, suffix)


def _zipped(file: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "the beginning of an archive (zip)", "copy it again whole, then unpack it"
    inner = {name.partition("/")[2] for name in names} | set(names)
    if "archive_format" in inner or any(name.startswith("models/") for name in inner):
        return "a program of torch.export (.pt2)", _TORCH
    if "data.pkl" in inner and "constants.pkl" in inner:
        return (
            "a TorchScript module, whose layers call no hooks",
            "pass the nn.Module that it was made from as TorchBackbone(module), or export that "
            "with torch.onnx.export",
        )
    if "data.pkl" in inner:
        return "what torch.save wrote, weights (a state dict) or a pickled module", _TORCH
    if "model.weights.h5" in inner:
        return "a Keras model (.keras)", _KERAS
    if names and all(name.endswith(".npy") for name in names):
        return "arrays of NumPy (.npz)", _DATA
    return "an archive (zip)", _UNPACK


def _text(head: bytes, suffix: str) -> tuple[str, str] | None:
    """What a text is; None for what may be a model, as XML may be one of OpenVINO."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page, as of a failed download", "download the model itself"
    if start.startswith((b"<?xml", b"<")) and suffix != ".xml":
        return (
            ("a model of OpenVINO", "give it the suffix .xml, with its .bin beside it")
            if b"<net " in start
            else ("XML, as of a failed download", "download the model itself")
        )
    if suffix == ".xml" and (not start or start.startswith(b"<")):
        return None
    if suffix == ".toml" and (start.startswith(b"[") or b"=" in start):
        return None  # one with a mistake, perhaps, which the reader of chains says
    if start.startswith((b"{", b"[")) and _is_text(head):
        return "JSON, as of a failed download", "download the model itself"
    if not head.strip(b"\0"):
        return "empty but for zeros, as of an interrupted download", "copy or download it again"
    if len(head) >= 8 and _is_text(head):
        return "a text", "check the path"
    return None


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode("utf-8")
    return all(letter.isprintable() or letter in "\n\r\t" for letter in text)


@contextmanager
def told_apart(file: Path) -> Iterator[None]:
    """What is refused is looked at once more: it may be something else than its suffix says."""
    try:
        yield
    except ModelError:
        refuse_stranger(file, readable=True)
        raise


def refuse(path: object, reason: str, **asked: object) -> None:
    """Raise ParameterError for the first option that is not None."""
    for name, value in asked.items():
        if value is not None:
            raise ParameterError(
                f"{name} is {value!r} for {path}, expected none, {reason}: leave {name} out"
            )
