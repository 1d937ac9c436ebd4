"""Shards: one file, whole or not there, that NumPy alone reads and no size in which is believed."""

from __future__ import annotations

import hashlib
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import pretending
import skip2lora as s2
from skip2lora import _core
from skip2lora.adapters.shards import (
    HEADER_BYTES,
    Shard,
    Unsound,
    moments_of,
    read_into,
    read_shard,
    write_shard,
)

KEY, STRIDE = b"k" * 32, 48


def some(n: int, seed: int = 0) -> tuple[list[bytes], np.ndarray]:
    rows = np.random.default_rng(seed).normal(3, 2, (n, STRIDE)).astype(np.float32)
    return [hashlib.sha256(row.tobytes()).digest() for row in rows], rows


def unsound(path: Path, *, stride: int = STRIDE, key: bytes = KEY) -> str:
    with pytest.raises(Unsound) as caught:
        read_shard(path, stride, key).check_rows()
    return str(caught.value)


@pytest.mark.parametrize("n", [1, 7, 300])
def test_what_is_written_is_read(tmp_path: Path, n: int) -> None:
    samples, rows = some(n)
    written = write_shard(tmp_path, samples, rows, KEY)
    shard = read_shard(written.path, STRIDE, KEY)
    shard.check_rows()
    assert [bytes(of) for of in shard.samples] == samples
    data = written.path.read_bytes()
    for number in (0, n - 1):
        start = shard.offset(number)
        assert start % 64 == 0
        assert data[start : start + shard.row_bytes] == rows[number].tobytes()
    exact = rows.astype(np.float64)
    assert np.allclose(shard.mean, exact.mean(axis=0), rtol=1e-6)
    assert np.allclose(shard.squares, n * exact.var(axis=0), rtol=1e-5, atol=1e-9)
    assert [file.name for file in tmp_path.iterdir()] == [written.path.name]


def test_statistics_of_several_are_those_of_all_their_rows(tmp_path: Path) -> None:
    parts = [some(n, seed=n) for n in (5, 1, 40)]
    shards = [write_shard(tmp_path, *part, KEY) for part in parts]
    shard = np.repeat([0, 1, 2], [5, 1, 40]).astype(np.int32)
    row = np.concatenate([np.arange(n) for n in (5, 1, 40)]).astype(np.int32)
    order = np.random.default_rng(0).permutation(46)
    rows = np.concatenate([rows for _, rows in parts]).astype(np.float64)
    moments = moments_of(shards, shard, row)
    assert moments is not None
    np.testing.assert_allclose(moments, [rows.mean(axis=0), rows.var(axis=0)], rtol=1e-6)
    again = moments_of(shards[::-1], 2 - shard[order], row[order])
    assert again is not None
    assert again.tobytes() == moments.tobytes()
    some_of = moments_of(shards, shard[:6], row[:6])
    assert some_of is not None
    np.testing.assert_allclose(some_of[0], rows[:6].mean(axis=0), rtol=1e-6)
    twice, none = np.r_[row[:45], 0].astype(np.int32), np.r_[shard[:45], -1].astype(np.int32)
    for bad in ((shard[:45], row[:45]), (shard, twice), (none, row), (shard[:0], row[:0])):
        assert moments_of(shards, *bad) is None


def test_numpy_alone_reads_it(tmp_path: Path) -> None:
    samples, rows = some(5)
    path = write_shard(tmp_path, samples, rows, KEY).path
    assert np.array_equal(np.load(path), rows)
    assert np.array_equal(np.load(path, mmap_mode="r")[3], rows[3])
    with path.open("rb") as file:
        arrays = [np.load(file) for _ in range(5)]
        assert file.read() == b""
    assert [(of.shape, of.dtype.str) for of in arrays] == [
        ((5, STRIDE), "<f4"), ((5, 32), "|u1"), ((2, STRIDE), "<f8"), ((1,), "<u4"), ((32,), "|u1")
    ]  # fmt: skip
    assert b"".join(samples) == arrays[1].tobytes()


def test_equal_rows_make_an_equal_file(tmp_path: Path) -> None:
    samples, rows = some(5)
    first = write_shard(tmp_path, samples, rows, KEY).path
    content = first.read_bytes()
    assert write_shard(tmp_path, samples, rows, KEY).path == first
    assert first.read_bytes() == content
    assert write_shard(tmp_path, samples[::-1], rows[::-1], KEY).path != first
    assert write_shard(tmp_path, samples, rows, b"another").path != first


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = write_shard(tmp_path, *some(3), KEY).path
    content = path.read_bytes()
    for at in [*range(0, len(content), 37), len(content) - 1]:
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        assert unsound(path) in ("its seal is not that of this cache", CHECKSUM), at


CHECKSUM = "its rows do not match their checksum"


def test_no_length_is_believed(tmp_path: Path) -> None:
    path = write_shard(tmp_path, *some(3), KEY).path
    content = path.read_bytes()
    for length in (0, 1, 127, 640, len(content) - 1, len(content) // 2):
        path.write_bytes(content[:length])
        assert "bytes, which no number of rows takes" in unsound(path)
    path.write_bytes(content + bytes(4 * STRIDE + 32))  # as one row more would have
    assert "seal" in unsound(path)
    huge = content.replace(b"(3, 48), }", b"(3000000000, 48), }").ljust(len(content))
    path.write_bytes(huge[: len(content)])
    assert "seal" in unsound(path)


def test_another_key_width_or_path(tmp_path: Path) -> None:
    path = write_shard(tmp_path, *some(3), KEY).path
    assert "seal" in unsound(path, key=b"another")
    assert "bytes" in unsound(path, stride=32)
    assert "No such file" in unsound(tmp_path / "absent.npy")


def test_a_refusal_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(shard: Shard, key: bytes) -> bytes:
        raise OSError(28, "No space left on device")

    samples, rows = some(3)
    before = write_shard(tmp_path, samples, rows, KEY).path
    monkeypatch.setattr("skip2lora.adapters.shards._tail", full)
    with pytest.raises(s2.FileError, match="No space left on device"):
        write_shard(tmp_path, *some(4, seed=1), KEY)
    assert list(tmp_path.iterdir()) == [before]


def test_a_shard_that_got_shorter_has_no_rows(tmp_path: Path) -> None:
    """Since its end was read: what is left is not waited for."""
    shard = write_shard(
        tmp_path, [bytes([at]) * 32 for at in range(3)], np.ones((3, 4), "<f4"), b""
    )
    shard.check_rows()
    content = shard.path.read_bytes()
    for n_bytes in (0, HEADER_BYTES, shard.offset(3) - 1):
        shard.path.write_bytes(content[:n_bytes])
        with pytest.raises(Unsound, match="its rows do not match their checksum"):
            shard.check_rows()
    shard.path.write_bytes(content[: shard.offset(3)])
    shard.check_rows()
    shard.path.unlink()
    with pytest.raises(Unsound, match="No such file"):
        shard.check_rows()


@pytest.mark.parametrize("kernels", _core.kernel_tables())
def test_checksums_are_those_of_zlib(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKIP2_KERNELS", kernels)
    content = np.random.default_rng(0).integers(0, 256, 70_000, np.uint8)
    for n_bytes in [*range(260), 4096, 65_537]:
        for start in (0, 1, 7):
            some = content[start : start + n_bytes]
            for before in (0, 1, 0xFFFFFFFF, 0x12345678):
                assert _core.crc32(some, before) == zlib.crc32(some.data, before)
    assert _core.crc32(b"123456789") == 0xCBF43926
    assert _core.crc32(memoryview(b"123456789")[4:], _core.crc32(b"1234")) == 0xCBF43926
    with pytest.raises(TypeError):
        _core.crc32(np.zeros(4, np.float32))


@pytest.mark.parametrize("on_windows", [False, True])
def test_bytes_are_read_one_buffer_behind_the_other(
    on_windows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_windows:
        pretending.windows(partial(monkeypatch.setattr, raising=False))
    content = np.random.default_rng(0).integers(0, 256, 9000, np.uint8).tobytes()
    (tmp_path / "f").write_bytes(content)
    with (tmp_path / "f").open("rb") as file:
        sizes = [0, 1, *[3] * 2500, 0, 2]  # more than the system fills in one call
        buffers = [bytearray(size) for size in sizes]
        assert read_into(file.fileno(), [memoryview(of) for of in buffers], 7)
        assert b"".join(buffers) == content[7 : 7 + sum(sizes)]
        assert not read_into(file.fileno(), [memoryview(bytearray(2))], 8999)
        assert read_into(file.fileno(), [memoryview(bytearray(1))], 8999)
