"""Large arrays of a ``.npz``: read from the file by samples, and checked as one that is read."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sample_files import refusal, write_npz
from skip2lora.arrays import first_not_finite
from skip2lora.data import lazy, stored
from skip2lora.data.lazy import LazySamples, digests_of
from skip2lora.data.reading import read_samples, read_table
from skip2lora.data.stored import CheckedHere, StoredArray
from skip2lora.errors import DataError, FileError

X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
Y = np.arange(50) % 3
IMAGES = np.random.default_rng(1).integers(0, 256, (50, 4, 3), np.uint8)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array is a large one, of which seven samples are read at a time."""
    monkeypatch.setattr(stored, "LEAST_BYTES", 1)
    monkeypatch.setattr(stored, "READ_BYTES", 7 * X[:1].nbytes)


def read(path: Path) -> LazySamples:
    x = read_table(path).x
    assert isinstance(x, LazySamples)
    assert isinstance(x.source, StoredArray)
    return x


KINDS = {
    "float32": X, "float64": X.astype(np.float64), "big-endian": X.astype(">f4"),
    "float16": X.astype(np.float16), "whole table": IMAGES[..., 0], "bool": X > 0,
    "images": IMAGES, "three axes": X.reshape(50, 2, 3),
}  # fmt: skip


@pytest.mark.parametrize("x", KINDS.values(), ids=KINDS)
def test_samples_are_those_of_the_array(
    x: NDArray[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path / "a.npz", X=x, y=Y)
    samples = read(path)
    monkeypatch.setattr(stored, "LEAST_BYTES", 1 << 60)
    whole = read_samples(path).x
    assert (samples.shape, samples.dtype) == (whole.shape, whole.dtype)
    for which in (slice(3, 9), np.array([4, 5, 6, 2, 2, 49, 0]), Y == 1, slice(0, 0), slice(None)):
        some = samples[which]
        assert some.read().dtype == whole.dtype
        np.testing.assert_array_equal(some.read(), whole[which])
        assert some.digests() == digests_of(whole[which])
    assert samples.read().flags.aligned


def test_what_cannot_be_read_by_samples_is_read_at_once(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "packed.npz", X=X, y=Y)
    write_npz(tmp_path / "columns.npz", X=np.asfortranarray(X), y=Y)
    for name in ("packed", "columns"):
        np.testing.assert_array_equal(read_table(tmp_path / f"{name}.npz").x, X)
    for array in (X[0], X.astype(str), X[:0], X[:, :0]):
        path = write_npz(tmp_path / "other.npz", X=array, y=Y)
        with pytest.raises(DataError):
            read_table(path)


def test_a_small_array_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert isinstance(read_table(write_npz(tmp_path / "a.npz", X=X, y=Y)).x, np.ndarray)


def member_of(path: Path) -> tuple[int, int]:
    """Where the numbers of X begin and end."""
    content = path.read_bytes()
    start = content.index(X.tobytes())
    return start, start + X.nbytes


@pytest.mark.parametrize("where", ["header", "numbers", "last"])
def test_a_changed_byte_is_seen_by_the_checksum(where: str, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", X=X, y=Y)
    start, end = member_of(path)
    content = bytearray(path.read_bytes())
    content[{"header": start - 2, "numbers": start + 100, "last": end - 1}[where]] ^= 1
    path.write_bytes(content)
    said = refusal(path)
    assert "it is damaged or no .npz (" in said
    if where != "header":
        assert "Bad CRC-32 for file 'X.npy'" in said


def test_values_that_are_not_finite_are_told_as_of_an_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = X.astype(np.float64)
    bad[[20, 8, 8], [1, 4, 2]] = np.nan, np.inf, 1e300
    path = write_npz(tmp_path / "a.npz", X=bad, y=Y, feature_names=np.array([*"abcdef"]))
    said = refusal(path)
    assert (
        '3 values are NaN, infinite or too large, the first in row 8 (from 0), column "c"' in said
    )
    monkeypatch.setattr(stored, "LEAST_BYTES", 1 << 60)
    assert refusal(path) == said
    with np.errstate(over="ignore"):
        assert first_not_finite(bad.astype(np.float32)) == (3, 8, 2)


def test_columns_in_another_order(tmp_path: Path) -> None:
    from skip2lora.tasks.columns import Columns

    path = write_npz(tmp_path / "a.npz", X=X, y=Y, feature_names=np.array([*"abcdef"]))
    table = read_table(path, learned=Columns(tuple("fedcba")))
    np.testing.assert_array_equal(table.x, X[:, ::-1])


def test_a_file_that_is_replaced_is_not_read_and_one_that_is_changed_refused(
    tmp_path: Path,
) -> None:
    path = write_npz(tmp_path / "a.npz", X=X, y=Y)
    samples = read(path)
    write_npz(tmp_path / "b.npz", X=X + 1, y=Y)
    (tmp_path / "b.npz").replace(path)
    np.testing.assert_array_equal(samples.read(), X)
    samples = read(path)
    with path.open("r+b") as stream:
        stream.seek(member_of_first(path))
        stream.write(b"\0\0\0\0")
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="the file was changed while it was read"):
        samples.read()
    with path.open("r+b") as stream:
        stream.truncate(200)
    with pytest.raises(DataError, match="the file was changed while it was read"):
        samples[40:].read()


def member_of_first(path: Path) -> int:
    return path.read_bytes().index((X + 1).tobytes())


def test_it_is_not_held_to_the_memory_allowed_but_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path / "a.npz", X=X, y=Y)
    monkeypatch.setenv("SKIP2LORA_MAX_BYTES", str(X.nbytes - 1))
    samples = read(path)
    np.testing.assert_array_equal(samples[:10].read(), X[:10])
    with pytest.raises(FileError, match="MB of memory or more"):
        samples.read()


def test_the_file_is_closed_when_nobody_reads_any_more(tmp_path: Path) -> None:
    samples = read(write_npz(tmp_path / "a.npz", X=X, y=Y))
    file = samples.source.file
    part = samples[:3]
    del samples
    assert not file.closed
    del part
    assert file.closed


@pytest.mark.parametrize(
    ("name", "extra"), [("x" * 300, b""), ("X", b"\x99\x99\x2c\x01" + bytes(300)), ("x" * 255, b"")]
)
def test_names_and_fields_longer_than_a_byte_counts(
    name: str, extra: bytes, tmp_path: Path
) -> None:
    member = zipfile.ZipInfo(f"{name}.npy")
    member.extra = extra
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        content = io.BytesIO()
        np.lib.format.write_array(content, X)
        archive.writestr(member, content.getvalue())
    array = StoredArray.open(tmp_path / "a.npz", member)
    assert array is not None
    np.testing.assert_array_equal(array.read(np.arange(50)), X)


def test_a_member_that_lies_about_its_place(tmp_path: Path) -> None:
    """Its name is longer in the file than the directory says: still one checksum."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in (("X", X), ("y", Y)):
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, array)
    np.testing.assert_array_equal(read(path).read(), X)
    content = bytearray(path.read_bytes())
    content[26] = 250
    path.write_bytes(content)
    assert "damaged" in refusal(path)


def test_parts_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy, "READ_BYTES", 7 * X[:1].nbytes)
    x = read(write_npz(tmp_path / "a.npz", X=X, y=Y))
    assert [len(x[part]) for part in lazy.parts_of(x, 64)] == [7] * 7 + [1]


def test_a_file_is_known_again_that_another_process_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path / "a.npz", X=X, y=Y)
    source = read(path).source
    assert isinstance(source, StoredArray)
    mark = source.mark
    checked = CheckedHere(mark)
    elsewhere = mark._replace(device=1, inode=2, changed_ns=3)
    assert checked.has(path, elsewhere, 50)
    for field in ("n_bytes", "modified_ns", "about"):
        other = "x" if field == "about" else 1
        assert not checked.has(path, mark._replace(**{field: other}), 50)
    monkeypatch.setattr(stored, "_check", lambda *_: 1 / 0)
    np.testing.assert_array_equal(read_table(path, checked=checked).x, X)
    with pytest.raises(ZeroDivisionError):
        read_table(write_npz(tmp_path / "a.npz", X=X + 1, y=Y), checked=checked)
