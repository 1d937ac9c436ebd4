"""The ``.safetensors`` format: named float32 arrays and words about them, without pickle.

A file is 8 bytes, the little-endian length of a header; the header, JSON with the shape and the
place of each array; then the numbers. The package of that name, which has no wheel for 32-bit
ARM, writes the same bytes, as a test checks.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

#: Bytes of names, shapes and description at the head of a file of ours; 100 tensors take 10,000.
_MOST_HEADER = 1 << 24
_ABOUT = "__metadata__"


def write(tensors: Mapping[str, NDArray[np.float32]], about: Mapping[str, str]) -> bytes:
    """The bytes of a file, of arrays by name, in the order of names."""
    header: dict[str, Any] = {_ABOUT: dict(about)}
    parts, start = [], 0
    for name in sorted(tensors, key=str.encode):
        part = np.ascontiguousarray(tensors[name], "<f4").tobytes()
        shape, end = list(np.shape(tensors[name])), start + len(part)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
        parts.append(part)
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def read_about(path: str | os.PathLike[str]) -> dict[str, str]:
    """The words of a file, as :func:`read` gives them, without its arrays."""
    with Path(path).open("rb") as file:
        return _header(file)[0]


def read(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """The arrays and the words of a file.

    Raises:
        ValueError: the file is not of the format, says more of its arrays than their place, or
            holds other than float32; before memory is taken for arrays that it does not hold.
    """
    with Path(path).open("rb") as file:
        about, shapes = _header(file)
        tensors = {}
        for name, shape in shapes.items():
            array = np.empty(shape, "<f4")
            if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
                raise ValueError(f"it ends within tensor {name}")
            tensors[name] = array.astype(np.float32, copy=False)
    return tensors, about


def _header(file: BinaryIO) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Words and shapes of a file, the latter in the order of the numbers, which come next."""
    file_size = os.fstat(file.fileno()).st_size
    size = int.from_bytes(file.read(8), "little")
    if size > file_size - 8:
        raise ValueError("it ends within its list of tensors")
    if size > _MOST_HEADER:
        raise ValueError(f"its list of tensors has {size:,} bytes, expected {_MOST_HEADER:,}")
    try:
        header = json.loads(file.read(size).decode(), object_pairs_hook=_once)
    except RecursionError:
        header = None
    if not isinstance(header, dict):
        raise ValueError("it has no list of tensors")
    about = header.pop(_ABOUT, {})
    if not isinstance(about, dict) or not all(isinstance(text, str) for text in about.values()):
        raise ValueError("its description is not text")
    return about, dict(_shapes(header, file_size - 8 - size))


def _shapes(header: Mapping[str, Any], size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each array, of which each begins where the one before ends."""
    places = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"tensor {name} has no type, shape and place")
        if entry["dtype"] != "F32":
            raise ValueError(f"tensor {name} is {entry['dtype']}, expected F32")
        shape, place = entry["shape"], entry["data_offsets"]
        if not _counts(shape) or not _counts(place) or len(shape) > 32 or len(place) != 2:
            raise ValueError(f"tensor {name} has no shape and place")
        if place[1] - place[0] != 4 * math.prod(shape):
            raise ValueError(f"tensor {name} has another size than its shape {shape}")
        places.append((*place, name, tuple(shape)))
    end = 0
    for start, stop, name, shape in sorted(places):
        if start != end:
            raise ValueError(f"tensor {name} does not begin where the one before ends")
        end = stop
        yield name, shape
    if end != size:
        raise ValueError(f"its tensors have {end:,} bytes, but {size:,} follow")


def _counts(numbers: object) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in numbers)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(entries := dict(pairs)) != len(pairs):
        raise ValueError("a name comes twice in its list of tensors")
    return entries
