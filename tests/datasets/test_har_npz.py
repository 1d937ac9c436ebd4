"""HAR as one ``.npz``: what is refused."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from har_files import (
    FEATURES,
    TRAIN,
    arrays,
    write_npz,
)
from skip2lora.datasets import har
from skip2lora.errors import DataError

Refused = Callable[..., str]


def with_value(name: str, at: Any, value: float) -> np.ndarray:
    array = arrays()[name].copy()
    array[at] = value
    return array


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"X": None}, "has no array X, expected X, y, subject, feature_names, activity_names"),
        ({"subject": None}, "has no array subject"),
        ({"activity_names": None}, "has no array activity_names"),
        ({"X": np.zeros((len(TRAIN["X"]), 560))}, f"shape ({len(TRAIN['X'])}, 560), expected num"),
        ({"X": np.zeros(561)}, "shape (561,), expected numbers of shape (561, 561)"),
        ({"X": np.float32(1)}, "shape (), expected numbers of shape (0, 561)"),
        ({"X": np.full((9, 561), "1")}, "X is <U1 of shape (9, 561), expected numbers"),
        ({"y": TRAIN["y"][:5]}, "y is int64 of shape (5,), expected whole numbers of shape"),
        ({"y": arrays()["y"] / 1.0}, "y is float64 of shape"),
        ({"subject": TRAIN["subject"][:5]}, "subject is int64 of shape (5,), expected whole"),
        ({"feature_names": np.array(FEATURES[:9])}, "feature_names is <U"),
        ({"activity_names": np.arange(6)}, "activity_names is int64 of shape (6,), expected text"),
        ({"X": with_value("X", (3, 7), np.nan)}, "X has nan at row 3, column 7 (from 0)"),
        ({"X": np.full(arrays()["X"].shape, -1e39)}, "X has -inf at row 0, column 0"),
        ({"y": with_value("y", 4, 6)}, "y has 6 at row 4 (from 0), expected 0..5"),
        ({"y": with_value("y", 4, -1)}, "y has -1 at row 4"),
        ({"subject": with_value("subject", 4, 0)}, "subject has 0 at row 4 (from 0), expected 1"),
        ({"subject": with_value("subject", 4, 31)}, "subject has 31 at row 4"),
    ],
)
def test_npz_refused(
    refused: Refused, tmp_path: Path, changed: dict[str, np.ndarray], said: str
) -> None:
    path = write_npz(tmp_path, **changed)
    message = refused(DataError, har.load_task, path)
    assert message.startswith(f"{path}: ")
    assert said in message


def test_damaged_npz(refused: Refused, tmp_path: Path) -> None:
    path = write_npz(tmp_path)
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[5000] ^= 1
    for content in (whole[:-100], whole[: len(whole) // 2], b"", b"hello", bytes(changed)):
        path.write_bytes(content)
        assert f"{path}: it is damaged" in refused(DataError, har.load_task, path)
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    assert "has no array X" in refused(DataError, har.load_task, path)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': (",
        "{'descr': 'f4,(f4', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{[]: 1}",
    ],
)
def test_damaged_array_in_an_npz(refused: Refused, tmp_path: Path, header: str) -> None:
    content = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode()
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", content)
    assert f"{path}: it is damaged" in refused(DataError, har.load_task, path)


def test_npz_with_a_file_that_is_no_array(refused: Refused, tmp_path: Path) -> None:
    path = write_npz(tmp_path, X=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("X", "1 2 3")
    assert "X is |S5 of shape (), expected numbers" in refused(DataError, har.load_task, path)


def test_npz_with_objects_is_never_unpickled(refused: Refused, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    path = write_npz(tmp_path, y=np.array([Trap()], object))
    assert "it is damaged or no .npz (Object arrays" in refused(DataError, har.load_task, path)
    assert not (tmp_path / "sprung").exists()
