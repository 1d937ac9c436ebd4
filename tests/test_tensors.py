"""The bytes of ``.safetensors`` files, beside the package of that name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from skip2lora.tensors import read, read_about, write

TENSORS = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "é": np.float32([1e-45, -0.0]),
    "a": np.zeros((0, 4), np.float32),
    "Z": np.array(2.5, np.float32),
}
ABOUT = {"skip2lora": 'a "quoted" \\ line\n\t\x01\x7f ü 漢 \U0001f600'}


def laid_out(header: object, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(start: int, end: int, **other: Any) -> dict[str, Any]:
    size = (end - start) // 4
    return {"dtype": "F32", "shape": [size], "data_offsets": [start, end], **other}


@pytest.mark.parametrize("names", [[], ["a"], ["b.weight", "é"], sorted(TENSORS)])
def test_same_bytes_as_the_package(names: list[str]) -> None:
    tensors = {name: TENSORS[name] for name in names}
    assert write(tensors, ABOUT) == save(tensors, metadata=ABOUT)


def test_each_reads_the_other(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(save(TENSORS, metadata=ABOUT))
    tensors, about = read(file)
    assert about == ABOUT == read_about(file)
    theirs = load(write(TENSORS, ABOUT))
    assert set(tensors) == set(theirs) == set(TENSORS)
    for name, array in TENSORS.items():
        for other in (tensors[name], theirs[name]):
            assert (other.dtype, other.shape) == (array.dtype, array.shape)
            assert other.tobytes() == array.tobytes()


def test_no_words(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(save({"a": TENSORS["Z"]}))
    assert read(file)[1] == {}


BAD = {
    "a list": ([], "has no list of tensors"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "has no list of tensors"),
    "no tensor": ({}, "its tensors have 0 bytes, but 8 follow"),
    "words": ({"__metadata__": {"a": 1}, "a": entry(0, 8)}, "description is not text"),
    "not words": ({"__metadata__": [], "a": entry(0, 8)}, "description is not text"),
    "twice": (b'{"a":{},"a":{}}', "comes twice"),
    "no place": ({"a": {"dtype": "F32", "shape": [2]}}, "no type, shape and place"),
    "a number": ({"a": 1}, "no type, shape and place"),
    "more": ({"a": entry(0, 8, more=1)}, "no type, shape and place"),
    "type": ({"a": entry(0, 8, dtype="F64")}, "tensor a is F64, expected F32"),
    "type a list": ({"a": entry(0, 8, dtype=[])}, "expected F32"),
    "negative": ({"a": entry(0, 8, shape=[-1, -2])}, "no shape and place"),
    "fraction": ({"a": entry(0, 8, shape=[2.0])}, "no shape and place"),
    "truth": ({"a": entry(0, 4, shape=[True]), "b": entry(4, 8)}, "no shape and place"),
    "33 axes": ({"a": entry(0, 8, shape=[2] + [1] * 32)}, "no shape and place"),
    "an axis of 2^48": ({"a": entry(0, 0, shape=[0, 1 << 48])}, "no shape and place"),
    "huge axis": ({"a": entry(0, 0, shape=[0, 1 << 63])}, "no shape and place"),
    "three offsets": ({"a": entry(0, 8, data_offsets=[0, 4, 8])}, "no shape and place"),
    "four bytes more": ({"a": entry(0, 8, shape=[1])}, "another size than its shape [1]"),
    "one offset": ({"a": entry(0, 8, data_offsets=[8])}, "no shape and place"),
    "size": ({"a": entry(0, 8, shape=[3])}, "another size than its shape [3]"),
    "backwards": ({"a": entry(0, 8, data_offsets=[8, 0])}, "another size"),
    "hole": ({"a": entry(4, 8)}, "does not begin where"),
    "overlap": ({"a": entry(0, 8), "b": entry(4, 8)}, "does not begin where"),
    "too few": ({"a": entry(0, 4)}, "its tensors have 4 bytes, but 8 follow"),
    "beyond": ({"a": entry(0, 1 << 40)}, "but 8 follow"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_file_of_the_format(tmp_path: Path, case: str) -> None:
    header, said = BAD[case]
    file = tmp_path / "a.safetensors"
    file.write_bytes(laid_out(header))
    with pytest.raises(ValueError, match=r"tensor|description") as error:
        read(file)
    assert said in str(error.value)
    with pytest.raises(ValueError, match=r"tensor|description"):
        read_about(file)


def test_no_arrays_of_too_many_axes_or_bytes(tmp_path: Path) -> None:
    """Each axis is small enough: NumPy refuses the product, of which none is allocated."""
    file = tmp_path / "a.safetensors"
    file.write_bytes(laid_out({"a": entry(0, 0, shape=[0, 1 << 47, 1 << 47])}, b""))
    with pytest.raises(ValueError, match=r"big|large"):
        read(file)


def test_a_length_that_the_file_does_not_have(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    for data in (b"", b"\1", b"\0" * 8, b"\xff" * 64, (9).to_bytes(8, "little") + b"{}"):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=r"ends within|Expecting"):
            read(file)


def test_the_package_itself_is_not_needed() -> None:
    code = "import sys, tempfile; sys.modules['safetensors'] = None\nimport skip2lora as s2\n"
    code += "with tempfile.TemporaryDirectory() as f:\n"
    code += (
        "    s2.MLP.create([4, 5, 3]).save(f + '/m.safetensors'); s2.load(f + '/m.safetensors')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_as_many_axes_and_numbers_as_there_may_be(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(laid_out({"a": entry(0, 8, shape=[1] * 31 + [2])}))
    assert read(file)[0]["a"].shape == (*[1] * 31, 2)
    file.write_bytes(laid_out({"a": entry(0, 0, shape=[0, (1 << 48) - 1])}, b""))
    assert read(file)[0]["a"].shape == (0, (1 << 48) - 1)


def test_a_list_of_tensors_as_long_as_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.safetensors"
    content = write({"a": np.float32([1, 2])}, {})
    file.write_bytes(content)
    size = int.from_bytes(content[:8], "little")
    monkeypatch.setattr("skip2lora.tensors._MOST_HEADER", size)
    assert read(file)[0]["a"].tolist() == [1, 2]
    monkeypatch.setattr("skip2lora.tensors._MOST_HEADER", size - 1)
    with pytest.raises(ValueError, match=f"list of tensors has {size} bytes, expected {size - 1}"):
        read(file)


def test_a_list_of_tensors_that_is_all_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(laid_out({"__metadata__": {"a": "b"}}, b""))
    assert read(file) == ({}, {"a": "b"})
    for size in (3, 1 << 62):
        file.write_bytes(size.to_bytes(8, "little") + b"{}")
        with pytest.raises(ValueError, match="ends within its list of tensors"):
            read(file)


def test_numbers_that_are_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    content = write({"a": np.float32([1, 2])}, {})
    for n_bytes in (1, 4, 8):
        file.write_bytes(content[:-n_bytes])
        with pytest.raises(ValueError, match=f"have 8 bytes, but {8 - n_bytes} follow"):
            read(file)
