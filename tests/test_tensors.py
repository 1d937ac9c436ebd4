"""Named tensors as .safetensors: equal content gives equal bytes, and damage is named."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from skip2lora.errors import FileError, ModelError
from skip2lora.tensors import canonical, digest, read_tensors, take, to_bytes

TENSORS = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.array([0.5, -0.0], np.float32),
}
DESCRIPTION = {"kind": "thing", "version": 1, "names": ["ä", "b"], "none": None, "eps": 1e-5}


def write_with_header(path: Path, header: dict[str, Any], data: bytes = b"") -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_with_text(path: Path, text: str) -> None:
    path.write_bytes(save(TENSORS, metadata={"skip2lora": text}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(to_bytes(TENSORS, DESCRIPTION))
    return path


def test_round_trip(file: Path) -> None:
    tensors, description = read_tensors(file, kind="thing")
    assert description == DESCRIPTION
    assert set(tensors) == set(TENSORS)
    for name, array in TENSORS.items():
        assert tensors[name].dtype == np.float32
        assert tensors[name].shape == array.shape
        assert tensors[name].tobytes() == array.tobytes()


def test_equal_content_gives_equal_bytes(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.safetensors"
    other.write_bytes(
        to_bytes(dict(reversed(TENSORS.items())), dict(reversed(DESCRIPTION.items())))
    )
    assert other.read_bytes() == file.read_bytes()
    other.write_bytes(to_bytes(TENSORS, DESCRIPTION | {"eps": 2e-5}))
    assert other.read_bytes() != file.read_bytes()


def test_any_memory_order_is_written_as_rows(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.safetensors"
    other.write_bytes(to_bytes({k: np.asfortranarray(v) for k, v in TENSORS.items()}, DESCRIPTION))
    assert other.read_bytes() == file.read_bytes()


def test_one_metadata_key(file: Path) -> None:
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert list(header["__metadata__"]) == ["skip2lora"]
    said = {**DESCRIPTION, "sha256": digest(TENSORS, DESCRIPTION)}
    assert header["__metadata__"]["skip2lora"] == canonical(said)


def test_digest_ignores_order_and_layout() -> None:
    same = digest({k: np.asfortranarray(v) for k, v in reversed(TENSORS.items())}, DESCRIPTION)
    assert same == digest(TENSORS, dict(reversed(DESCRIPTION.items())))
    assert same.startswith("sha256:")
    assert len(same) == len("sha256:") + 64


@pytest.mark.parametrize(
    ("tensors", "description"),
    [
        ({"a.bias": np.array([0.5, 0.0], np.float32)}, {}),
        ({"a.bias": np.array([0.5, np.nextafter(np.float32(0), np.float32(1))], np.float32)}, {}),
        ({"a.bias": np.array([[0.5, -0.0]], np.float32)}, {}),
        ({"c": np.array([1], np.float32)}, {}),
        ({}, {"eps": 2e-5}),
        ({}, {"more": 1}),
    ],
    ids=["sign of zero", "last bit", "shape", "another tensor", "number", "key"],
)
def test_digest_changes_with_content(
    tensors: dict[str, np.ndarray], description: dict[str, Any]
) -> None:
    assert digest(TENSORS | tensors, DESCRIPTION | description) != digest(TENSORS, DESCRIPTION)


def test_digest_changes_with_a_name() -> None:
    renamed = {"b.weight": TENSORS["b.weight"], "a.bia": TENSORS["a.bias"]}
    assert digest(renamed, DESCRIPTION) != digest(TENSORS, DESCRIPTION)


def test_no_file(tmp_path: Path, refused: Callable[..., str]) -> None:
    for path in (tmp_path, tmp_path / "none"):
        message = refused(FileError, read_tensors, path, kind="thing")
        assert f"{path} is not a file, expected a thing" in message


def test_every_truncation_is_refused(file: Path, refused: Callable[..., str]) -> None:
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        message = refused(ModelError, read_tensors, file, kind="thing")
        assert f"{file} is not a readable .safetensors file" in message
        assert "copy it again" in message


@pytest.mark.parametrize(
    "data",
    [b"hello", b"\0" * 8, b"\xff" * 64, b"PK\3\4" + b"\0" * 60, b'{"a": 1}'],
    ids=["text", "zeros", "ones", "zip", "json"],
)
def test_another_format(file: Path, refused: Callable[..., str], data: bytes) -> None:
    file.write_bytes(data)
    message = refused(ModelError, read_tensors, file, kind="thing")
    assert "is not a readable .safetensors file" in message
    assert "expected a thing written by skip2lora" in message


def test_longer_than_its_header_says(file: Path, refused: Callable[..., str]) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    assert "not a readable" in refused(ModelError, read_tensors, file, kind="thing")


def test_another_program_wrote_it(file: Path, refused: Callable[..., str]) -> None:
    for metadata in (None, {"format": "pt"}):
        file.write_bytes(save(TENSORS, metadata=metadata))
        message = refused(ModelError, read_tensors, file, kind="thing")
        assert f"{file} was not written by skip2lora, expected a thing of it" in message


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '"thing"', "[" * 100_000, '{"version": ' + "1" * 5000 + "}"],
    ids=["empty", "open", "list", "null", "number", "text", "deep", "long number"],
)
def test_damaged_description(file: Path, refused: Callable[..., str], text: str) -> None:
    write_with_text(file, text)
    message = refused(ModelError, read_tensors, file, kind="thing")
    assert f"{file} was not written by skip2lora" in message
    assert len(message) < 1000


def test_another_kind_or_version(file: Path, refused: Callable[..., str]) -> None:
    message = refused(ModelError, read_tensors, file, kind="stuff")
    assert f"{file} is a thing, expected a stuff" in message
    for version in (0, 2, None, "1"):
        file.write_bytes(to_bytes(TENSORS, DESCRIPTION | {"version": version}))
        message = refused(ModelError, read_tensors, file, kind="thing")
        assert f"format version {version}, this program reads version 1: update" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(file: Path, refused: Callable[..., str], bad: float) -> None:
    file.write_bytes(to_bytes(TENSORS | {"a.bias": np.array([0, bad], np.float32)}, DESCRIPTION))
    message = refused(ModelError, read_tensors, file, kind="thing")
    assert "tensor a.bias" in message
    assert "expected finite float32" in message


@pytest.mark.parametrize(
    ("dtype", "n_bytes"),
    [("F64", 8), ("F16", 2), ("I32", 4), ("BOOL", 1), ("BF16", 2), ("F8_E4M3", 1)],
)
def test_other_types_of_number(
    file: Path, refused: Callable[..., str], dtype: str, n_bytes: int
) -> None:
    header = {
        "__metadata__": {"skip2lora": canonical(DESCRIPTION)},
        "a": {"dtype": dtype, "shape": [1], "data_offsets": [0, n_bytes]},
    }
    write_with_header(file, header, bytes(n_bytes))
    message = refused(ModelError, read_tensors, file, kind="thing")
    assert str(file) in message
    assert "expected" in message


def test_take(file: Path, refused: Callable[..., str]) -> None:
    tensors = dict(TENSORS)
    assert take(file, tensors, "b.weight", (2, 3)) is TENSORS["b.weight"]
    assert set(tensors) == {"a.bias"}  # what is left over can be named
    message = refused(ModelError, take, file, tensors, "b.weight", (2, 3))
    assert f"{file}: tensor b.weight is missing, expected shape (2, 3)" in message
    message = refused(ModelError, take, file, tensors, "a.bias", (3,))
    assert f"{file}: tensor a.bias has shape (2,), expected (3,)" in message
