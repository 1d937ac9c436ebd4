"""What systems give: locks, reads at a place, memory; and that a folder is the one that it was.

Each as on this system, and as on Windows.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pretending
from skip2lora import system
from skip2lora.system import Opened, held_bytes, highest_bytes, read_at, read_into


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As there, in the test."""
    pretending.windows(partial(monkeypatch.setattr, raising=False))


@pytest.fixture(params=["as here", "as on Windows"])
def both(request: pytest.FixtureRequest) -> bool:
    """Each way in turn; whether it is that of Windows."""
    if request.param == "as on Windows":
        request.getfixturevalue("on_windows")
        return True
    return False


@pytest.mark.usefixtures("both")
def test_a_folder_is_locked_once(tmp_path: Path) -> None:
    locks = [system.open_lock(system.lock_of(tmp_path)) for _ in range(2)]
    system.lock(locks[0])
    with pytest.raises(BlockingIOError):
        system.lock(locks[1])
    os.close(locks[0])
    system.lock(locks[1])  # it ended with the other's descriptor
    os.close(locks[1])


@pytest.mark.usefixtures("on_windows")
@pytest.mark.parametrize("number", [errno.EACCES, 0])
def test_a_lock_of_another_is_known_by_what_windows_or_wine_says(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def locking(descriptor: int, mode: int, n_bytes: int) -> None:
        raise OSError(number, "Error")

    monkeypatch.setattr(pretending.Msvcrt, "locking", locking)
    lock = system.open_lock(system.lock_of(tmp_path))
    with pytest.raises(BlockingIOError):
        system.lock(lock)
    number = errno.ENOLCK
    with pytest.raises(OSError, match="Error") as refusal:
        system.lock(lock)
    assert not isinstance(refusal.value, BlockingIOError)
    os.close(lock)


@pytest.mark.usefixtures("both")
def test_what_is_no_folder_is_not_locked(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        system.open_lock(system.lock_of(tmp_path / "none"))


@pytest.mark.usefixtures("both")
def test_a_folder_that_we_hold_goes_with_all_in_it(tmp_path: Path) -> None:
    room, other = tmp_path / "room", tmp_path / "other"
    for folder in (room, room / "deep", other):
        folder.mkdir()
        (folder / "file").write_text("1")
    lock = system.open_lock(system.lock_of(room))
    system.lock(lock)
    system.remove_locked(room, lock)
    assert [*tmp_path.iterdir()] == [other]
    with pytest.raises(OSError, match=r"[Bb]ad file descriptor"):
        os.close(lock)


def test_a_folder_that_took_the_place_of_another_is_told_from_it(
    both: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    opened = Opened(folder)
    assert opened.is_still(folder)
    if not both:  # with a time of its making, which this system has not
        (folder / "file").write_text("1")
        assert opened.is_still(folder)
    folder.rename(tmp_path / "old")
    assert not opened.is_still(folder)
    folder.mkdir()
    assert not opened.is_still(folder)
    opened.close()


@pytest.mark.usefixtures("both")
def test_a_file_is_no_folder_and_nothing_neither(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Opened(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        Opened(tmp_path / "none")


@pytest.mark.usefixtures("both")
def test_reading_at_a_place_moves_nothing(tmp_path: Path) -> None:
    content = bytes(range(200))
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb", buffering=0) as file:
        file.seek(7)
        assert read_at(file.fileno(), 50, 100) == content[100:150]
        assert read_at(file.fileno(), 50, 180) == content[180:]  # up to its end
        assert read_at(file.fileno(), 50, 300) == b""
        out = bytearray(20)
        assert read_into(file.fileno(), [memoryview(out)], 190) == 10
        assert out == content[190:] + bytes(10)
        assert file.tell() == 7


@pytest.mark.usefixtures("both")
def test_what_was_written_is_flushed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    system.sync(tmp_path / "file")
    system.sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        system.sync(tmp_path / "none")


def test_the_process_has_had_what_it_has() -> None:
    assert 0 < held_bytes() <= 1.01 * highest_bytes()
    assert held_bytes() < system.memory_bytes()
    assert 1 <= system.n_cores() <= (os.cpu_count() or 1)
    free = system.free_bytes()
    assert free is None or 0 < free < system.memory_bytes()
    assert system.node_name() == os.uname().nodename


@pytest.mark.skipif(sys.platform != "linux", reason="told by Linux alone")
def test_what_no_other_process_has_is_told_of_any() -> None:
    before = system.own_bytes(os.getpid())
    with mmap.mmap(-1, 32 << 20) as block:  # not what was freed before and is used again
        block.write(bytes(range(1, 256)) * (len(block) // 255))
        assert before + 0.9 * len(block) < system.own_bytes(os.getpid()) <= 1.01 * held_bytes()
    assert system.own_bytes(2**22 + 1) == 0  # beyond all numbers of processes


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_the_peak_of_the_process_is_in_bytes(
    platform: str, unit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> str:
        raise FileNotFoundError("/proc/self/status")

    usage = SimpleNamespace(ru_maxrss=2_000_000)
    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr("resource.getrusage", lambda who: usage)
    monkeypatch.setattr("sys.platform", platform)
    assert highest_bytes() == 2_000_000 * unit


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_what_started_the_program_does_not_count() -> None:
    code = "from skip2lora.system import highest_bytes; print(highest_bytes())"
    held = np.ones(400 << 20, np.uint8)
    highest = int(subprocess.check_output([sys.executable, "-c", code]))
    assert 10 << 20 < highest < held.nbytes


def test_what_comes_after_the_lock_went_stays(on_windows: None, tmp_path: Path) -> None:
    """Another process writes there once the lock is gone: its file and the folder stay."""
    room = tmp_path / "room"
    room.mkdir()
    lock = system.open_lock(system.lock_of(room))
    close = os.close

    def come(descriptor: int) -> None:
        close(descriptor)
        (room / "another").touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "close", come)
        system.remove_locked(room, lock)
    assert [each.name for each in room.iterdir()] == ["another"]


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device or address"):
        system.open_to_write(str(tmp_path / "pipe"))


@pytest.mark.usefixtures("both")
def test_a_device_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.write(descriptor := system.open_to_write(str(tmp_path / "file")), b"1")
    os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"1"


def test_no_time_of_a_change_is_now(
    both: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no file is taken for unchanged where its making is all that is known."""
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    (tmp_path / "file").touch()
    status = (tmp_path / "file").stat()
    for kind in ("ext4", "btrfs", "tmpfs", "vfat", "exfat", "nfs", "fuse.sshfs", ""):
        monkeypatch.setattr(system, "_mounted", lambda device, second, kind=kind: kind)
        keeps = kind in ("ext4", "btrfs", "tmpfs") and not both
        assert system.changed_ns(status) == (status.st_ctime_ns if keeps else 5)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_linux_says_what_file_system_a_file_is_in() -> None:
    assert system._mounted(Path("/proc/self/status").stat().st_dev, 0) == "proc"
    assert system._mounted(os.makedev(4000, 1), 0) == ""


def test_parts_of_a_file_system_have_numbers_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "35 1 0:31 / /gone rw shared:1 - btrfs /dev/sda rw",
        f"36 1 0:32 / {tmp_path} rw,noatime - btrfs /dev/sdb rw",
        "37 1 4000:7 / /card rw shared:2 master:3 - vfat /dev/sdc rw",
    ]
    monkeypatch.setattr(Path, "read_bytes", lambda _: "\n".join(lines[1:]).encode())
    assert system._mounted(tmp_path.stat().st_dev, -1) == "btrfs"
    assert system._mounted(os.makedev(4000, 7), -1) == "vfat"
    monkeypatch.setattr(Path, "read_bytes", lambda _: "\n".join(lines).encode())
    assert system._mounted(tmp_path.stat().st_dev, -2) == ""  # a place that cannot be looked at
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"nonsense\n1 2 3 - x\n")
    assert system._mounted(os.makedev(4000, 7), -3) == ""


def steps_until(n_refused: int) -> tuple[list[int], Callable[[], None]]:
    """A step that is refused that often, and what counts its calls."""
    calls: list[int] = []

    def step() -> None:
        calls.append(len(calls))
        if len(calls) <= n_refused:
            raise PermissionError("somebody has it open")

    return calls, step


def test_on_windows_a_move_waits_for_who_has_it_open(
    both: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.append(clock.pop() + seconds))
    calls, step = steps_until(3)
    if both:
        system.patiently(step)
        assert calls == [0, 1, 2, 3]
    calls, step = steps_until(10_000)
    with pytest.raises(PermissionError, match="somebody has it open"):
        system.patiently(step)
    assert (len(calls) == 1) != both
    assert len(calls) < 110  # of 10 ms in a second
    calls, step = steps_until(0)
    system.patiently(step)
    assert calls == [0]


@pytest.mark.parametrize("answers", [1, 0])
def test_windows_says_how_much_memory_there_is(
    answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it lays out MEMORYSTATUSEX and PROCESS_MEMORY_COUNTERS; their sizes are half a word."""

    def of_machine(status: Any) -> int:
        assert (ctypes.c_uint32 * 16).from_buffer(status._obj)[0] == 64
        (ctypes.c_uint64 * 8).from_buffer(status._obj)[1:3] = [16 << 30, 7 << 30]
        return answers

    def of_process(process: Any, counters: Any, size: int) -> int:
        own = (ctypes.c_uint32 * 18).from_buffer(counters._obj)[0]
        assert (process.value, own, size) == (2**64 - 1, 72, 72)
        (ctypes.c_uint64 * 9).from_buffer(counters._obj)[1:3] = [3 << 30, 2 << 30]
        return answers

    calls = {"GlobalMemoryStatusEx": of_machine, "K32GetProcessMemoryInfo": of_process}
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(**calls))
    monkeypatch.setattr(system, "_WINDOWS", True)
    questions = (system.memory_bytes, system.free_bytes, system.highest_bytes, system.held_bytes)
    if answers:
        assert [ask() for ask in questions] == [16 << 30, 7 << 30, 3 << 30, 2 << 30]
        return
    for ask in questions:
        with pytest.raises(OSError, match="Windows does not say how much memory"):
            ask()


def test_windows_has_its_name_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_WINDOWS", True)
    monkeypatch.setenv("COMPUTERNAME", "WORKSHOP-7")
    assert system.node_name() == "WORKSHOP-7"
