"""Rows that are appended and read by place, in memory and in a file."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skip2lora.data import spool as module
from skip2lora.data.spool import Spool
from skip2lora.errors import FileError


@pytest.mark.parametrize("in_memory", [1 << 24, 1000])
def test_rows_come_back(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_MEMORY", in_memory)
    x = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    spool = Spool(np.float32, 3)
    for at in range(0, 500, 70):
        spool.append(x[at : at + 70])
    assert len(spool) == 500
    for first, last in ((0, 500), (69, 71), (499, 500), (5, 5)):
        np.testing.assert_array_equal(spool.rows(first, last), x[first:last])
    spool.append(x[:10])
    np.testing.assert_array_equal(spool.rows(495, 510), np.concatenate([x[495:], x[:10]]))


@pytest.mark.parametrize("in_memory", [1 << 24, 1000])
def test_rows_at_any_places(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours are read at once; how often is counted."""
    monkeypatch.setattr(module, "IN_MEMORY", in_memory)
    reads: list[int] = []
    read = module.read_into
    monkeypatch.setattr(
        module, "read_into", lambda file, out, at: reads.append(at) or read(file, out, at)
    )
    x = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    spool = Spool(np.float32, 3)
    for at in range(0, 500, 70):
        spool.append(x[at : at + 70])
    for places, runs in (([], 0), ([499], 1), ([7, 8, 9, 3, 3, 0, 1, 498, 499], 5), ([5, 4], 2)):
        reads.clear()
        values = np.empty((len(places), 3), np.float32)
        spool.gather(values, np.array(places, np.intp))
        np.testing.assert_array_equal(values, x[places] if places else x[:0])
        assert len(reads) == (0 if in_memory > 1000 else runs)


def test_a_file_that_gives_less_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_MEMORY", 100)
    read = module.read_into
    monkeypatch.setattr(module, "read_into", lambda file, out, at: read(file, [out[0][:5]], at))
    x = np.arange(60, dtype=np.float32).reshape(20, 3)
    spool = Spool(np.float32, 3)
    spool.append(x)
    values = np.empty((4, 3), np.float32)
    spool.gather(values, np.array([2, 3, 19, 0]))
    np.testing.assert_array_equal(values, x[[2, 3, 19, 0]])


def test_many_rows_are_not_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(module, "IN_MEMORY", 1 << 16)
    spool, part = Spool(np.float64), np.arange(1000.0)
    tracemalloc.start()
    for _ in range(1000):
        spool.append(part)
    assert spool.rows(999_000, 1_000_000)[-1, 0] == 999.0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20  # of 8 MB


def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_MEMORY", 100)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    spool = Spool(np.int32)
    spool.append(np.arange(1000))
    assert spool.rows(7, 8).tolist() == [[7]]
    assert list(tmp_path.iterdir()) == []  # it has no name


def test_a_full_disk(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setattr(module, "IN_MEMORY", 100)
    said = refused(FileError, Spool(np.int32).append, np.arange(1000))
    assert "cannot hold the numbers of a long stream or table (No space left on device)" in said
