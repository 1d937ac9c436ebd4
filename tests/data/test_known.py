"""Digests of samples that are remembered: only while the file is beyond doubt the same."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pretending
from conformance.numpy_backbone import NumpyBackbone
from sample_files import write_npz
from skip2lora import _core, system
from skip2lora.adapters.store import CacheFolder
from skip2lora.arrays import Inputs
from skip2lora.data import known, lazy, stored
from skip2lora.data.known import MARGIN_NS, SUFFIX, KnownDigests
from skip2lora.data.lazy import LazySamples, digests_of
from skip2lora.data.reading import read_table
from skip2lora.data.stored import StoredArray
from skip2lora.training.filled import fill

X = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
OTHER = X[::-1].copy()
Y = np.arange(20) % 3


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array is read by samples, of a file system that says when a file was changed."""
    monkeypatch.setattr(stored, "LEAST_BYTES", 1)
    monkeypatch.setattr(system, "_mounted", lambda device, second: "ext4")


class Clock:
    """Stands in for the module ``time``: the file system's clock, some time later."""

    def __init__(self) -> None:
        self.ahead_ns = 2 * MARGIN_NS

    def time_ns(self) -> int:
        return time.time_ns() + self.ahead_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Files were changed long ago, unless ``ahead_ns`` is set."""
    monkeypatch.setattr(known, "time", clock := Clock())
    return clock


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples of files were hashed, call by call."""
    counts: list[int] = []
    of_samples = stored.digests_of_parts

    def counted(source: StoredArray, places: NDArray[np.intp]) -> list[bytes]:
        counts.append(len(places))
        return of_samples(source, places)

    monkeypatch.setattr(stored, "digests_of_parts", counted)
    return counts


def samples_of(path: Path) -> Any:
    x = read_table(path).x
    assert isinstance(x, LazySamples)
    return x


def digests(path: Path, folder: Path) -> list[bytes]:
    """As a call of its own takes and keeps them."""
    memory = KnownDigests(folder)
    of_all = digests_of(samples_of(path), memory)
    memory.write()
    return of_all


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_npz(tmp_path / "a.npz", X=X, y=Y)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def test_samples_of_a_file_are_hashed_once(
    path: Path, folder: Path, clock: Clock, hashed: list[int]
) -> None:
    expected = digests_of(X)
    memory = KnownDigests(folder)
    some = np.array([3, 4, 4, 9])
    assert digests_of(samples_of(path)[some], memory) == [expected[at] for at in some]
    assert digests_of(samples_of(path)[2:5], memory) == expected[2:5]
    memory.write()
    assert hashed == [3, 1]
    assert digests(path, folder) == expected
    assert hashed == [3, 1, 16]
    for _ in range(2):
        assert digests(path, folder) == expected
    assert hashed == [3, 1, 16]
    of_file = folder.glob("*" + SUFFIX)
    np.testing.assert_array_equal(
        np.load(next(of_file))[2:], np.frombuffer(b"".join(expected), np.uint8).reshape(-1, 32)
    )


def test_what_others_hashed_meanwhile_is_seen_when_looked_for(
    path: Path, folder: Path, clock: Clock, hashed: list[int]
) -> None:
    memory = KnownDigests(folder)
    expected = digests_of(samples_of(path)[:2], memory)
    expected += digests(path, folder)[2:]
    assert digests_of(samples_of(path)[1:5], memory) == expected[1:5]
    assert hashed == [2, 20, 3]
    memory.look_again()
    assert digests_of(samples_of(path), memory) == expected
    assert hashed == [2, 20, 3]


def in_place(path: Path) -> None:
    """Other numbers where the old ones were, the directory's checksum with them."""
    other = write_npz(path.with_name("other.npz"), X=OTHER, y=Y).read_bytes()
    with path.open("r+b") as file:
        file.write(other)


def replaced(path: Path) -> None:
    write_npz(path.with_name("other.npz"), X=OTHER, y=Y).rename(path)


@pytest.mark.parametrize("change", [in_place, replaced])
def test_a_changed_file_of_the_same_size_and_time_is_hashed_again(
    change: Any, path: Path, folder: Path, clock: Clock
) -> None:
    assert digests(path, folder) == digests_of(X)
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    for _ in range(2):
        assert digests(path, folder) == digests_of(OTHER)
    assert len(list(folder.iterdir())) == 1  # in the place of what was remembered


@pytest.mark.parametrize(
    "field", ["device", "inode", "n_bytes", "modified_ns", "changed_ns", "about"]
)
def test_each_part_of_the_mark_tells_files_apart(
    field: str, path: Path, folder: Path, clock: Clock, hashed: list[int]
) -> None:
    digests(path, folder)
    source = samples_of(path).source
    other = source.mark._replace(**{field: "x" if field == "about" else 1})
    memory, of_samples = KnownDigests(folder), partial(stored.digests_of_parts, source)
    memory.of(path, 20, np.arange(20), lambda: other, of_samples)
    assert hashed == [20, 20]
    memory.of(path, 19, np.arange(19), source._look, of_samples)
    assert hashed == [20, 20, 19]


def test_where_no_change_has_a_time_nothing_is_remembered(
    path: Path, folder: Path, clock: Clock, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows says when a file was made: one that is written in place would pass for the same."""
    pretending.windows(partial(monkeypatch.setattr, raising=False))
    monkeypatch.setattr(system, "time", clock)
    for content in (X, OTHER):
        before = path.stat()
        write_npz(path.with_name("other.npz"), X=content, y=Y)
        path.write_bytes(path.with_name("other.npz").read_bytes())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert digests(path, folder) == digests_of(content)
    assert hashed == [20, 20]
    assert not list(folder.iterdir())


def test_what_was_hashed_within_a_tick_of_a_change_is_not_remembered(
    path: Path, folder: Path, clock: Clock, hashed: list[int]
) -> None:
    clock.ahead_ns = 0
    for _ in range(2):
        assert digests(path, folder) == digests_of(X)
    assert hashed == [20, 20]
    assert not list(folder.iterdir())
    clock.ahead_ns = -2 * MARGIN_NS  # the clock was put back: changed in the future
    digests(path, folder)
    assert not list(folder.iterdir())
    clock.ahead_ns = 2 * MARGIN_NS
    digests(path, folder)
    assert hashed == [20] * 4
    digests(path, folder)
    assert hashed == [20] * 4


def test_a_change_while_samples_are_hashed_is_not_remembered(
    path: Path, folder: Path, clock: Clock
) -> None:
    source, memory = samples_of(path).source, KnownDigests(folder)
    calls = 0

    def hashing(places: NDArray[np.intp]) -> list[bytes]:
        nonlocal calls
        calls += 1
        of_samples = stored.digests_of_parts(source, places)
        if calls == 1:
            path.chmod(0o600)
        return of_samples

    for _ in range(2):
        assert memory.of(path, 20, np.arange(20), source._look, hashing) == digests_of(X)
    memory.write()
    assert calls == 3  # again, as it was changed; and from then on it is another
    assert digests(path, folder) == digests_of(X)


def test_a_file_changed_since_it_was_opened_is_read(
    path: Path, folder: Path, clock: Clock, hashed: list[int]
) -> None:
    digests(path, folder)
    samples = samples_of(path)
    path.chmod(0o600)
    memory = KnownDigests(folder)
    assert digests_of(samples, memory) == digests_of(X)
    memory.write()
    assert hashed == [20, 20]


@pytest.mark.parametrize("at", [0, 130, 170, 200, -1])
def test_a_damaged_memory_is_not_believed(
    at: int, path: Path, folder: Path, clock: Clock, hashed: list[int]
) -> None:
    digests(path, folder)
    file = next(folder.iterdir())
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    assert digests(path, folder) == digests_of(X)
    assert hashed == [20, 20]
    file.write_bytes(content[:-32])
    assert digests(path, folder) == digests_of(X)
    assert hashed == [20, 20, 20]


def test_two_that_write_lose_nothing_of_each_other(
    path: Path, folder: Path, clock: Clock, hashed: list[int]
) -> None:
    one, other = KnownDigests(folder), KnownDigests(folder)
    digests_of(samples_of(path)[:10], one)
    digests_of(samples_of(path)[10:], other)
    one.write()
    other.write()
    assert digests(path, folder) == digests_of(X)
    assert hashed == [10, 10]


def test_a_folder_that_cannot_be_written_costs_time_alone(
    path: Path, tmp_path: Path, clock: Clock
) -> None:
    assert digests(path, tmp_path / "nowhere") == digests_of(X)


def test_a_cache_remembers_and_forgets(
    path: Path, folder: Path, clock: Clock, hashed: list[int]
) -> None:
    model, cache = NumpyBackbone([6, 8, 3], first_tap_is_input=False), CacheFolder(folder)
    assert [fill(model, samples_of(path), cache).n_forwards for _ in range(2)] == [20, 0]
    assert hashed == [20]
    changed = X.copy()
    changed[[4, 11]] += 1
    write_npz(path, X=changed, y=Y)
    assert fill(model, samples_of(path), cache).n_forwards == 2
    assert hashed == [20, 20]
    cache.forget(digests_of(X[:1]))
    assert not list(folder.glob("*" + SUFFIX))


def test_a_known_file_is_not_checked_again(
    path: Path, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []
    check = stored._check

    def counted(*given: Any) -> Any:
        checked.append(path)
        return check(*given)

    monkeypatch.setattr(stored, "_check", counted)
    read_table(path, checked=KnownDigests(folder))
    assert len(checked) == 1  # no sample of it was hashed yet
    digests(path, folder)
    x = read_table(path, checked=KnownDigests(folder)).x
    assert len(checked) == 2
    np.testing.assert_array_equal(x, X)
    path.chmod(0o600)
    read_table(path, checked=KnownDigests(folder))
    assert len(checked) == 3


WIDE = np.random.default_rng(1).normal(size=(12, 30, 50)).astype(np.float32)  # 1.5 blocks each


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples of arrays were hashed, call by call."""
    counts: list[int] = []
    of_samples = lazy._hashed

    def counted(arrays: Any) -> list[bytes]:
        counts.append(len(next(iter(arrays.values()))))
        return of_samples(arrays)

    monkeypatch.setattr(lazy, "_hashed", counted)
    return counts


def of_arrays(x: Any, folder: Path) -> list[bytes]:
    """As a call of its own takes and keeps them."""
    memory = KnownDigests(folder)
    of_all = digests_of(x, memory)
    memory.write()
    return of_all


@pytest.mark.parametrize("kernels", _core.kernel_tables())
@pytest.mark.parametrize("n_bytes", [1, 4, 4095, 4096, 4097, 9000])
def test_sums_are_those_of_the_definition(
    kernels: str, n_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP2_KERNELS", kernels)
    random = np.random.default_rng(n_bytes)
    samples = random.integers(0, 256, (3, n_bytes), np.uint8)
    key = random.integers(0, 1 << 32, 1030, np.uint32)
    n_blocks = -(-n_bytes // 4096)
    sums = np.empty((3, n_blocks, 4), np.uint64)
    _core.block_sums(samples, key, sums)
    padded = np.zeros((3, n_blocks * 4096), np.uint8)
    padded[:, :n_bytes] = samples
    words = padded.view(np.uint32).reshape(3, n_blocks, 512, 2)
    for shift in range(4):
        both = (words + key[2 * shift :][:1024].reshape(512, 2)).astype(np.uint64)
        np.testing.assert_array_equal(sums[..., shift], both.prod(axis=-1).sum(axis=-1))


def test_shapes_that_do_not_fit_are_no_memory_of_others() -> None:
    samples, key = np.zeros((2, 5000), np.uint8), np.zeros(1030, np.uint32)
    for shape in [(2, 1, 4), (1, 2, 4), (2, 2, 3)]:
        with pytest.raises(ValueError, match="sums do not have a place"):
            _core.block_sums(samples, key, np.zeros(shape, np.uint64))
    with pytest.raises(ValueError, match="the key"):
        _core.block_sums(samples, key[:-1], np.zeros((2, 2, 4), np.uint64))


def test_wide_samples_of_arrays_are_hashed_once(folder: Path, wide: list[int]) -> None:
    expected = digests_of(WIDE)
    assert of_arrays(WIDE[:7], folder) == expected[:7]
    for _ in range(2):
        assert of_arrays(WIDE, folder) == expected
    assert wide == [12, 7, 5]
    changed = WIDE.copy()
    changed[3, -1, -1] = np.nextafter(changed[3, -1, -1], np.float32(9))
    changed[8, 0, 0] = -changed[8, 0, 0]
    assert of_arrays(changed[::-1], folder) == digests_of(changed[::-1])
    assert wide[3:] == [2, 12]


def test_what_the_bytes_of_an_array_mean_tells_it_from_others(
    folder: Path, wide: list[int]
) -> None:
    others = [WIDE, WIDE.reshape(12, 1500), WIDE.view(np.int32), WIDE.astype(np.float64)]
    inputs = [Inputs({"a": WIDE, "b": WIDE}), Inputs({"b": WIDE, "a": WIDE})]
    for x in (*others, *inputs, Inputs({"a": WIDE, "b": WIDE[::-1].copy()})):
        assert of_arrays(x, folder) == digests_of(x)
    assert wide == [12] * 14
    for x in (*others, *inputs):
        of_arrays(x, folder)
    assert len(wide) == 14


def test_narrow_samples_are_hashed_at_once(folder: Path, wide: list[int]) -> None:
    assert of_arrays(X, folder) == of_arrays(X, folder)
    assert of_arrays(WIDE[:0], folder) == []
    assert wide == [20, 20, 0]
    assert not list(folder.iterdir())


@pytest.mark.parametrize("at", [0, 60, 128, 170, 200, -40, -1])
def test_a_damaged_memory_of_arrays_is_not_believed(at: int, folder: Path, wide: list[int]) -> None:
    expected = of_arrays(WIDE, folder)
    file = next(folder.iterdir())
    content = bytearray(file.read_bytes())
    for damaged in (content[:-32], content[:150], b"", content[:at] + b"?" + content[at:][1:]):
        file.write_bytes(damaged)
        assert of_arrays(WIDE, folder) == expected
    assert wide == [12] * 5


def test_writers_of_arrays_lose_nothing_but_time(folder: Path, wide: list[int]) -> None:
    expected = digests_of(WIDE)
    first, second = KnownDigests(folder), KnownDigests(folder)  # neither sees the other's key
    digests_of(WIDE[:5], first)
    digests_of(WIDE[5:], second)
    first.write()
    second.write()
    assert of_arrays(WIDE, folder) == expected
    assert wide == [12, 5, 7, 7]
    first, second = KnownDigests(folder), KnownDigests(folder)
    digests_of(WIDE[:5] + 1, first)
    digests_of(WIDE[5:] + 1, second)
    first.write()
    second.write()
    of_arrays(np.concatenate([WIDE, WIDE + 1]), folder)
    assert wide == [12, 5, 7, 7, 5, 7]


def test_a_full_memory_takes_no_more(
    folder: Path, wide: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "_MOST_PAIRS", 8)
    expected = digests_of(WIDE)
    of_arrays(WIDE[:7], folder)
    for _ in range(2):
        assert of_arrays(WIDE, folder) == expected
    assert wide == [12, 7, 5, 5]


def test_a_cache_remembers_arrays_and_forgets_them(folder: Path, wide: list[int]) -> None:
    model, x = NumpyBackbone([1500, 8, 3], first_tap_is_input=False), WIDE.reshape(12, 1500)
    for _ in range(2):
        fill(model, x, cache := CacheFolder(folder))
    assert wide == [12]
    cache.forget(digests_of(x[:1]))
    assert not list(folder.glob("*" + SUFFIX))
