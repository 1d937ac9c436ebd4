"""Digests of samples that are remembered: only while the file is beyond doubt the same."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conformance.numpy_backbone import NumpyBackbone
from sample_files import write_npz
from skip2lora.adapters.store import CacheFolder
from skip2lora.data import known, stored
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
    """Every array is read by samples."""
    monkeypatch.setattr(stored, "LEAST_BYTES", 1)


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
    of_samples = StoredArray._hashed

    def counted(self: StoredArray, places: NDArray[np.intp]) -> list[bytes]:
        counts.append(len(places))
        return of_samples(self, places)

    monkeypatch.setattr(StoredArray, "_hashed", counted)
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
    memory = KnownDigests(folder)
    memory.of(path, 20, np.arange(20), lambda: other, source._hashed)
    assert hashed == [20, 20]
    memory.of(path, 19, np.arange(19), source._look, source._hashed)
    assert hashed == [20, 20, 19]


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
        of_samples = source._hashed(places)
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
