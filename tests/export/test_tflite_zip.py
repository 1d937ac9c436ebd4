"""Names of classes inside a .tflite file follow what was learned, or the export is refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert: group runtimes")

import tflite_models as nets
from onnx_exports import random_adapters
from skip2lora.errors import ModelError
from skip2lora.export.tflite import export_tflite
from skip2lora.export.tflite_zip import moved, with_labels

Refused = Callable[..., str]


def with_zip(content: bytes, **files: str) -> bytes:
    buffer = io.BytesIO(content)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.txt", text)
    return buffer.getvalue()


def files_of(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_names_of_classes_are_replaced(tmp_path: Path, refused: Refused) -> None:
    content = with_zip(nets.cnn().content(), labels="a\nb\nc\n", about="two\nlines\n")
    model = nets.loader(tmp_path)(content)
    adapters, out = random_adapters(model, new=1), tmp_path / "a.tflite"
    message = refused(ModelError, export_tflite, model, adapters, out)
    assert (
        "has names of its 3 classes inside (labels.txt), expected names of the classes" in message
    )
    assert not out.exists()
    export_tflite(model, adapters, out, class_names="wxyz")
    assert files_of(out) == {"labels.txt": "w\nx\ny\nz\n", "about.txt": "two\nlines\n"}
    nets.LiteRTBackbone.load(out)


def test_texts_of_as_many_lines_stay(tmp_path: Path) -> None:
    """A licence is no list of labels, unless it alone could be one."""
    three = "a\nb\nc\n"
    for files, want in (
        ({"about": three, "labels": three}, {"about.txt": three, "labels.txt": "w\nx\ny\n"}),
        ({"one": three, "two": three}, {"one.txt": three, "two.txt": three}),
        ({"birds": three, "two": "a\nb\n"}, {"birds.txt": "w\nx\ny\n", "two.txt": "a\nb\n"}),
    ):  # fmt: skip
        content = with_labels(with_zip(b"TFL3", **files), 3, "wxy", "m.tflite")
        (tmp_path / "m.zip").write_bytes(content)
        assert files_of(tmp_path / "m.zip") == want


def test_what_is_no_zip_stays(tmp_path: Path) -> None:
    content = nets.cnn().content() + b"PK\x05\x06 by chance"
    assert moved(content, 64) == content
