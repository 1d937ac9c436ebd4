"""What is remembered of files that are read whole: only while they are beyond doubt the same."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skip2lora import system
from skip2lora.adapters.store import CacheFolder
from skip2lora.data import image_files, known
from skip2lora.data.image_files import ImageFiles
from skip2lora.data.image_layout import Layout
from skip2lora.data.known import MARGIN_NS, SUFFIX, KnownDigests
from skip2lora.data.lazy import LazySamples
from skip2lora.data.reading import read_table
from skip2lora.data.samples import Table

CHW = Layout("chw", 6, 8, 3)


class Clock:
    """Stands in for the module ``time``: the file system's clock, some time later."""

    ahead_ns = 2 * MARGIN_NS

    def time_ns(self) -> int:
        return time.time_ns() + self.ahead_ns


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Files were changed long ago, on a file system that says when."""
    monkeypatch.setattr(known, "time", clock := Clock())
    monkeypatch.setattr(system, "_mounted", lambda device, second: "ext4")
    return clock


class Work:
    """Names of files that were looked at, and of those that were hashed."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.hashed: list[str] = []

    def counts(self) -> tuple[int, int]:
        """Since the last call."""
        both = len(self.seen), len(self.hashed)
        self.seen, self.hashed = [], []
        return both


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    work, look, hashed = Work(), image_files._pixel, ImageFiles._hashed

    def looking(file: Path) -> int | None:
        work.seen.append(file.name)
        return look(file)

    def hashing(source: ImageFiles, file: Path) -> bytes:
        work.hashed.append(file.name)
        return hashed(source, file)

    monkeypatch.setattr(image_files, "_pixel", looking)
    monkeypatch.setattr(ImageFiles, "_hashed", hashing)
    return work


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for at in range(6):
        file = tmp_path / "images" / "ab"[at % 2] / f"{at}.bmp"  # whose size never changes
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(at).save(file)
    return tmp_path / "images"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def a_call(images: Path, folder: Path) -> tuple[Table, list[bytes]]:
    """What a command with that cache reads, and knows its samples by."""
    memory = KnownDigests(folder)
    table = read_table(images, layout=CHW, checked=memory)
    assert isinstance(table.x, LazySamples)
    digests = table.x.digests(memory)
    memory.write()
    return table, digests


def fresh(images: Path) -> list[bytes]:
    """Without any memory."""
    x = read_table(images, layout=CHW).x
    assert isinstance(x, LazySamples)
    return x.digests()


def test_a_file_is_looked_at_and_hashed_once(images: Path, folder: Path, work: Work) -> None:
    expected = fresh(images)
    work.counts()
    for n_files in (6, 0, 0):
        table, digests = a_call(images, folder)
        assert digests == expected
        assert len(table.x) == 6
        assert work.counts() == (n_files, n_files)
    picture(9).save(images / "a" / "9.bmp")
    assert a_call(images, folder)[1] == fresh(images)
    assert work.seen[:1] == work.hashed[:1] == ["9.bmp"]


def in_place(file: Path, content: bytes) -> None:
    with file.open("r+b") as stream:
        stream.write(content)


def replaced(file: Path, content: bytes) -> None:
    (other := file.with_name("new")).write_bytes(content)
    other.rename(file)


def mapped(file: Path, content: bytes) -> None:
    of_file = np.memmap(file, np.uint8, "r+")
    of_file[:] = np.frombuffer(content, np.uint8)
    of_file.flush()


@pytest.mark.parametrize("change", [in_place, replaced, mapped])
def test_a_changed_file_of_the_same_size_and_time_is_found(
    change: object, images: Path, folder: Path, work: Work
) -> None:
    assert callable(change)
    before = a_call(images, folder)[1]
    file = images / "b" / "3.bmp"
    picture(8).save(images.parent / "8.bmp")
    content, was = (images.parent / "8.bmp").read_bytes(), file.stat()
    change(file, content)
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    is_now = file.stat()
    assert (is_now.st_size, is_now.st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    work.counts()
    for again in ([file.name], []):
        after = a_call(images, folder)[1]
        assert [one == other for one, other in zip(before, after, strict=True)].count(False) == 1
        assert work.hashed == work.seen == again
        work.counts()
    assert after == fresh(images)


def test_a_file_that_is_damaged_later_is_left_out(images: Path, folder: Path) -> None:
    a_call(images, folder)
    file = images / "b" / "3.bmp"
    was = file.stat()
    in_place(file, b"no image")
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    table, digests = a_call(images, folder)
    assert len(digests) == 5
    assert "3.bmp" in table.notes[0]


@pytest.mark.parametrize("kind", ["vfat", "exfat", "nfs4", "cifs", "fuse.sshfs", "9p", ""])
def test_where_times_of_change_cannot_be_relied_on_all_is_read(
    kind: str, images: Path, folder: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "_mounted", lambda device, second: kind)
    for _ in range(2):
        assert a_call(images, folder)[1] == fresh(images)
        assert work.hashed == work.seen[:6] + work.seen[:6]
        work.counts()
    assert not list(folder.iterdir())


@pytest.mark.parametrize("ahead_ns", [0, -2 * MARGIN_NS])
def test_what_was_changed_just_now_or_later_is_not_remembered(
    ahead_ns: int, images: Path, folder: Path, work: Work, clock: Clock
) -> None:
    clock.ahead_ns = ahead_ns
    for _ in range(2):
        a_call(images, folder)
        assert work.counts() == (6, 6)
    assert not list(folder.iterdir())


def test_a_change_while_a_file_is_read_is_not_remembered(images: Path, folder: Path) -> None:
    file, memory = images / "a" / "0.bmp", KnownDigests(folder)
    calls = list[int]()

    def reading(n_bytes: int = 0) -> bytes:
        calls.append(n_bytes)
        if len(calls) == 1:
            file.chmod(0o600)
        return bytes(32)

    for n_calls in (1, 2, 2):
        assert memory.of_file(file, "about", reading) == bytes(32)
        assert len(calls) == n_calls
    memory.of_file(file, "about other things", reading)
    assert len(calls) == 3


def test_deep_pixels_are_looked_at_each_time(images: Path, folder: Path, work: Work) -> None:
    """How many bits count is of all of them."""
    deep = np.full((6, 8), 1000, np.uint16)
    Image.fromarray(deep).save(images / "a" / "0.png")
    for _ in range(2):
        table, _ = a_call(images, folder)
        assert "16 bits are read as of 10" in table.notes[0]
    assert work.seen.count("0.png") == 2


def test_another_pillow_looks_and_hashes_again(
    images: Path, folder: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_call(images, folder)
    work.counts()
    monkeypatch.setattr(image_files, "_version", lambda: "Pillow 99")
    assert a_call(images, folder)[1] == fresh(images)
    assert work.hashed == work.seen[:6] * 2


@pytest.mark.parametrize("at", [0, 60, 128, 170, 200, -40, -1])
def test_a_damaged_memory_is_not_believed(at: int, images: Path, folder: Path, work: Work) -> None:
    a_call(images, folder)
    (file,) = folder.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at:][1:])
    work.counts()
    assert a_call(images, folder)[1] == fresh(images)
    assert work.hashed[:6] == work.seen[:6]


def test_what_is_forgotten_is_remembered_no_more(images: Path, folder: Path) -> None:
    _, digests = a_call(images, folder)
    cache = CacheFolder(folder)
    cache.forget(digests[:1])
    assert not list(folder.glob("*" + SUFFIX))


def test_a_folder_that_cannot_be_written_costs_time_alone(images: Path, tmp_path: Path) -> None:
    assert a_call(images, tmp_path / "nowhere")[1] == fresh(images)
