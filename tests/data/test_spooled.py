"""Samples of written and packed files that are too many for memory: the same as of an array."""

from __future__ import annotations

import gzip
import shutil
import tracemalloc
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sample_files import refusal, write_npz, write_text
from skip2lora.data import plain_text, spool, stored, tables, text
from skip2lora.data.lazy import LazySamples, Picked, digests_of
from skip2lora.data.reading import read_samples, read_table
from skip2lora.data.spool import Spool
from skip2lora.data.spooled import Columns, Gathered, SpooledArray, Words
from skip2lora.errors import FileError
from skip2lora.tasks.columns import Columns as Learned

N, NAMES = 500, ("a", "b", "c", "d")
X = np.random.default_rng(0).normal(size=(N, len(NAMES))).astype(np.float32)
Y = np.arange(N) % 3
IMAGES = np.random.default_rng(1).integers(0, 256, (N, 3, 2), np.uint8)


def _text(x: NDArray[Any]) -> str:
    rows = (",".join(map(repr, [*row.tolist(), y])) for row, y in zip(x, Y, strict=True))
    return "\n".join([",".join([*NAMES, "label"]), *rows]) + "\n"


def csv(folder: Path, x: NDArray[Any]) -> Path:
    return write_text(folder / "a.csv", _text(x))


def quoted(folder: Path, x: NDArray[Any]) -> Path:
    return write_text(folder / "q.csv", _text(x).replace("label", '"label"', 1))


def packed_text(folder: Path, x: NDArray[Any]) -> Path:
    path = folder / "a.csv.gz"
    path.write_bytes(gzip.compress(_text(x).encode()))
    return path


def _parquet(folder: Path, x: NDArray[Any], rows: int) -> Path:
    arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = dict(zip(NAMES, x.T, strict=True)) | {"label": Y}
    path = folder / "a.parquet"
    parquet.write_table(arrow.table(columns), path, row_group_size=rows)
    return path


def small_groups(folder: Path, x: NDArray[Any]) -> Path:
    return _parquet(folder, x, 7)


def one_group(folder: Path, x: NDArray[Any]) -> Path:
    return _parquet(folder, x, 10 * N)


def packed_npz(folder: Path, x: NDArray[Any]) -> Path:
    path = folder / "a.npz"
    np.savez_compressed(path, X=x, y=Y, feature_names=np.array(NAMES[: x.shape[1]]))
    return path


def in_columns(folder: Path, x: NDArray[Any]) -> Path:
    return write_npz(folder / "f.npz", X=np.asfortranarray(x), y=Y, feature_names=np.array(NAMES))


def packed_columns(folder: Path, x: NDArray[Any]) -> Path:
    return packed_npz(folder, np.asfortranarray(x))


KINDS = (
    csv, quoted, packed_text, small_groups, one_group, packed_npz, in_columns, packed_columns,
)  # fmt: skip
Write = Callable[[Path, NDArray[Any]], Path]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows are many: in memory are 1,000 bytes, of which some are read at a time."""
    monkeypatch.setattr(spool, "IN_MEMORY", 1000)
    monkeypatch.setattr(tables, "IN_MEMORY", 1000)
    monkeypatch.setattr(tables, "_BATCH_ROWS", 11)
    monkeypatch.setattr("skip2lora.data.spooled.BLOCK_BYTES", 100)
    monkeypatch.setattr("skip2lora.data.spooled.READ_BYTES", 100)
    monkeypatch.setattr("skip2lora.data.spooled._TOGETHER", 30)
    monkeypatch.setattr(stored, "LEAST_BYTES", 1)
    monkeypatch.setattr(stored, "READ_BYTES", 100)
    monkeypatch.setattr(plain_text, "LEAST_BYTES", 1)
    monkeypatch.setattr(plain_text, "_BLOCK_BYTES", 300)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("write", KINDS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_samples_are_those_of_the_array(write: Write, kind: Any, tmp_path: Path) -> None:
    path = write(tmp_path, X.astype(kind))
    table = read_table(path)
    samples = table.x
    assert isinstance(samples, LazySamples)
    assert isinstance(samples.source, SpooledArray)
    assert (samples.shape, samples.dtype) == (X.shape, np.float32)
    for which in (slice(3, 9), np.array([4, 5, 6, 2, 2, N - 1, 0]), Y == 1, slice(0, 0)):
        some = samples[which]
        np.testing.assert_array_equal(some.read(), X[which])
        assert some.digests() == digests_of(X[which])
    whole = read_samples(path)
    np.testing.assert_array_equal(whole.x, X)
    np.testing.assert_array_equal(whole.labels, Y)
    assert table.columns.features == NAMES
    np.testing.assert_array_equal(read_samples(path, learned=Learned(NAMES[::-1])).x, X[:, ::-1])


@pytest.mark.parametrize("write", KINDS)
def test_a_few_are_an_array(write: Write, tmp_path: Path) -> None:
    x = read_table(write(tmp_path, X)).x
    assert isinstance(x, np.ndarray)
    np.testing.assert_array_equal(x, X)


@pytest.mark.usefixtures("small")
def test_images_keep_their_type_and_shape(tmp_path: Path) -> None:
    x = read_table(packed_npz(tmp_path, IMAGES)).x
    assert isinstance(x, LazySamples)
    assert (x.shape, x.dtype) == (IMAGES.shape, np.uint8)
    np.testing.assert_array_equal(x[17:30].read(), IMAGES[17:30])
    assert x[:5].digests() == digests_of(IMAGES[:5])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("write", [small_groups, one_group, packed_npz, in_columns, packed_columns])
def test_what_is_not_finite_is_told_as_of_an_array(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = X.astype(np.float64)
    bad[[450, 80, 80], [1, 3, 2]] = np.nan, np.inf, 1e300
    path = write(tmp_path, bad)
    said = refusal(path)
    assert "3 values are NaN, infinite or too large, the first in row 80 (from 0)" in said
    assert 'column "c"' in said
    reordered = refusal(path, learned=Learned((*"dabc",)))
    assert 'row 80 (from 0), column "d"' in reordered
    for module in (spool, tables):
        monkeypatch.setattr(module, "IN_MEMORY", 1 << 24)
    assert refusal(path) == said
    assert refusal(path, learned=Learned((*"dabc",))) == reordered


@pytest.mark.usefixtures("small")
def test_columns_that_are_left_out_may_hold_anything(tmp_path: Path) -> None:
    bad = X.copy()
    bad[3, 1] = np.nan
    x = read_table(packed_npz(tmp_path, bad), ignore=("b",)).x
    assert isinstance(x, LazySamples)
    assert isinstance(x.source, Picked)
    np.testing.assert_array_equal(x.read(), X[:, [0, 2, 3]])
    assert x[2:4].digests() == digests_of(np.ascontiguousarray(X[2:4, [0, 2, 3]]))


@pytest.mark.usefixtures("small")
def test_a_late_cell_of_a_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    path, late = tmp_path / "a.parquet", [*range(N - 1), None]
    parquet.write_table(arrow.table({"f": late, "t": ["x"] * N, "y": Y}), path)
    assert f'row {N - 1} (from 0) column "f" is empty' in refusal(path)
    assert 'column "t" is string, expected numbers' in refusal(path, ignore=("f",))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("write", [packed_npz, packed_columns, packed_text])
def test_a_damaged_file(write: Write, tmp_path: Path) -> None:
    path = write(tmp_path, X)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refusal(path)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("write", [csv, small_groups, packed_npz])
def test_a_full_disk_is_told_before(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, X)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage((1 << 26) + X.nbytes - 1))
    said = refusal(path, FileError)
    assert "takes 0 MB while it is read, expected room for them in " in said
    assert "set TMPDIR to another folder" in said
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage((1 << 26) + X.nbytes))
    assert len(read_table(path).x) == N


@pytest.mark.usefixtures("small")
def test_a_disk_that_is_full_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many rows a packed table has is not known before."""
    path = packed_text(tmp_path, X)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 26))
    with pytest.raises(FileError, match=r"cannot hold the numbers of .* \(No space left on device"):
        read_table(path)


@pytest.mark.usefixtures("small")
def test_only_what_is_read_is_held_to_the_memory_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed_npz(tmp_path, X)
    monkeypatch.setenv("SKIP2LORA_MAX_BYTES", str(X.nbytes - 1))
    samples = read_table(path).x
    np.testing.assert_array_equal(samples[:10].read(), X[:10])
    with pytest.raises(FileError, match="MB of memory or more"):
        read_samples(path)


@pytest.mark.parametrize("write", [csv, one_group, packed_npz, packed_columns])
def test_memory_does_not_grow_with_the_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (spool, tables):
        monkeypatch.setattr(module, "IN_MEMORY", 1 << 16)
    monkeypatch.setattr("skip2lora.data.spooled.READ_BYTES", 1 << 16)
    monkeypatch.setattr("skip2lora.data.spooled.BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr(stored, "LEAST_BYTES", 1)
    monkeypatch.setattr(stored, "READ_BYTES", 1 << 14)
    monkeypatch.setattr(plain_text, "LEAST_BYTES", 1)
    monkeypatch.setattr(plain_text, "_BLOCK_BYTES", 1 << 15)
    monkeypatch.setattr(text, "_SAMPLED", 20)
    x = np.random.default_rng(0).integers(0, 9, (8_000, 60)).astype(np.float32)
    monkeypatch.setattr(f"{__name__}.Y", np.arange(len(x)) % 3)
    monkeypatch.setattr(f"{__name__}.NAMES", [f"column {at}" for at in range(x.shape[1])])
    path = write(tmp_path, x)
    read_table(path)  # imports
    tracemalloc.start()
    samples = read_table(path).x
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(samples[7_990:].read(), x[7_990:])
    assert peak < 0.75 * x.nbytes


def test_rows_of_columns_and_of_nothing() -> None:
    columns = Columns(3)
    for values in ([1, 2], [3], [4, 5, 6]):
        columns.append(np.array(values, np.float32))
    assert np.concatenate([*columns.rows()]).tolist() == [[1, 4], [2, 5], [3, 6]]
    nothing = Gathered(Path("a"), (0,))
    nothing.append(np.empty((5, 0), np.float32))
    assert nothing.samples().shape == (5, 0)
    assert Gathered(Path("a"), (2,)).samples().shape == (0, 2)
    assert Words(Path("a"), 0).all().shape == (0, 0)


def test_a_spool_reads_into_an_array() -> None:
    rows = Spool(np.int16, 2)
    rows.append(np.arange(20).reshape(10, 2))
    rows.read(into := np.zeros((3, 2), np.int16), 4)
    assert into.tolist() == [[8, 9], [10, 11], [12, 13]]
