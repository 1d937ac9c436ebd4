"""New files and folders take the place of old ones in one step; rooms of killed runs are swept."""

from __future__ import annotations

import errno
import fcntl
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import pretending
from skip2lora import replacing, system
from skip2lora.errors import FileError
from skip2lora.replacing import (
    exchange,
    put,
    refusals,
    resolved,
    room,
    sweep,
    uninterrupted,
)  # fmt: skip

Make = Callable[[Path, str], Path]


@pytest.fixture(params=["as here", "as on Windows"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What other processes run first, to go the same way."""
    if request.param == "as here":
        return ""
    pretending.windows(partial(monkeypatch.setattr, raising=False))
    monkeypatch.setenv("PYTHONPATH", str(Path(pretending.__file__).parent))
    return "import pretending\npretending.windows()\n"


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "a").write_text(content)
    (path / content).touch()
    return path


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacing, "exchange", lambda *_: False)


def replace(target: Path, content: str) -> None:
    with room(target) as place:
        put(folder(place / target.name, content), target)


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def any_step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        without_exchange(monkeypatch)
    return bool(request.param)


def test_two_folders_change_places(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", "1"), folder(tmp_path / "two", "2")
    if not exchange(one, two):
        pytest.skip("this file system has no RENAME_EXCHANGE")
    assert (names(one), names(two)) == (["2", "a"], ["1", "a"])
    with pytest.raises(FileNotFoundError):
        exchange(one, tmp_path / "none")


@pytest.mark.parametrize("number", replacing._NO_EXCHANGE)
def test_a_file_system_without_exchange(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ctypes

    monkeypatch.setattr(system, "EXCHANGES", True)

    class Libc:
        @staticmethod
        def renameat2(*_: object) -> int:
            ctypes.set_errno(number)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc)
    assert not exchange(tmp_path, tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())  # a C library without it
    assert not exchange(tmp_path, tmp_path)


def test_a_folder_is_replaced(any_step: bool, tmp_path: Path) -> None:
    target = tmp_path / "old"  # as rooms call what they move away, nearly
    for content in ("one", "two", "three"):
        replace(target, content)
        assert names(target) == sorted(["a", content])
        assert names(tmp_path) == ["old"]


def test_the_place_is_never_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No rename moves the old folder away, where the file system can exchange."""
    target = tmp_path / "t"
    replace(target, "one")
    moved: list[Path] = []
    rename = Path.rename

    def watch(self: Path, to: Path) -> Path:
        moved.append(self)
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", watch)
    replace(target, "two")
    if exchange(target, folder(tmp_path / "u", "3")):
        assert target not in moved


def test_the_old_folder_comes_back_when_the_second_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_exchange(monkeypatch)
    target = tmp_path / "t"
    replace(target, "one")
    rename = Path.rename

    def fail(self: Path, to: Path) -> Path:
        if to == target and not target.exists() and self.name == "t":
            raise OSError(5, "I/O error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="I/O error"):
        replace(target, "two")
    assert names(target) == ["a", "one"]
    assert names(tmp_path) == ["t"]


KILLED = """
import os, signal, sys
from pathlib import Path
from skip2lora import replacing
replacing.exchange = lambda *_: False
target, calls, rename = Path(sys.argv[1]), 0, Path.rename
def kill(self, to):
    global calls
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    calls += 1
    return rename(self, to)
Path.rename = kill
with replacing.room(target) as place:
    (place / "t").mkdir()
    (place / "t" / "two").touch()
    replacing.put(place / "t", target)
"""


@pytest.mark.parametrize("at", range(4))
def test_a_kill_between_two_renames(at: int, way: str, tmp_path: Path) -> None:
    """The first rename is refused, as the target is there; then the two, then none."""
    target = tmp_path / "t"
    replace(target, "one")
    subprocess.run([sys.executable, "-c", way + KILLED, target, str(at)], check=False)
    old = ["a", "one"]
    assert target.exists() == (at != 2)
    assert len(names(tmp_path)) == (1 if at == 3 else 2 if at != 2 else 1)
    assert not sweep(target)
    assert names(tmp_path) == ["t"]
    assert names(target) == (old if at < 2 else ["two"])


def left_room(target: Path, *, machine: str | None = None) -> Path:
    """A room as a killed run leaves it."""
    with room(target) as place:
        own = place.name
    name = own if machine is None else own.replace(replacing._machine(), machine)
    left = target.parent / name
    left.mkdir()
    (left / "half").write_text("half of it")
    return left


def test_rooms_of_killed_runs_are_swept_at_the_next_write(tmp_path: Path) -> None:
    for _ in range(3):
        left_room(tmp_path / "t")
    other = left_room(tmp_path / "other")
    replace(tmp_path / "t", "one")
    assert names(tmp_path) == sorted([other.name, "t"])


def test_a_room_that_is_worked_in_stays(way: str, tmp_path: Path) -> None:
    """In this process, and in another one."""
    target = tmp_path / "t"
    code = """
import sys
from pathlib import Path
from skip2lora.replacing import room
with room(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""
    with (
        subprocess.Popen(
            [sys.executable, "-c", way + code, target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process,  # fmt: skip
        room(target) as own,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        before = names(tmp_path)
        assert len(before) == 2
        for _ in range(8):
            left_room(target)
        sweep(target)
        assert names(tmp_path) == before
        assert own.is_dir()
        process.kill()
        process.wait()
        sweep(target)
        assert names(tmp_path) == [own.name]
    assert names(tmp_path) == []


@pytest.mark.parametrize("case", ["another machine", "no locks"])
def test_where_no_lock_tells_only_what_is_old_is_swept(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "t"
    left = left_room(target, machine="0" * 8 if case == "another machine" else None)
    if case == "no locks":

        def refuse(*_: object) -> None:
            raise OSError(37, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
    replace(target, "one")
    assert left.is_dir()
    os.utime(system.lock_of(left), (0, 0))
    replace(target, "two")
    assert names(tmp_path) == ["t"]


def test_what_only_looks_like_a_room_stays(tmp_path: Path) -> None:
    target = tmp_path / "t"
    left = left_room(target)
    (tmp_path / f"{left.name}.bak").mkdir()
    (tmp_path / f"{left.name[:-1]}-").mkdir()
    others = (name for end in "abc" if (name := f"{left.name[:-1]}{end}") != left.name)
    (tmp_path / next(others)).write_text("a file")
    (tmp_path / next(others)).symlink_to(folder(tmp_path / "mine", "1"))
    (tmp_path / ".t.backup").mkdir()
    before = names(tmp_path)
    sweep(target)
    assert names(tmp_path) == sorted({*before} - {left.name})
    assert names(tmp_path / "mine") == ["1", "a"]


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    replace(tmp_path / ("n" * 255), "one")
    assert names(tmp_path) == ["n" * 255]


@pytest.mark.parametrize("number", system.STOPS)
def test_signals_wait_until_the_block_is_done(number: int) -> None:
    done: list[str] = []
    before = signal.signal(number, lambda *_: done.append("signal"))
    try:
        with uninterrupted():
            signal.raise_signal(number)
            done.append("block")
        assert done == ["block", "signal"]
        signal.raise_signal(number)  # the handler is back
        assert done == ["block", "signal", "signal"]
    finally:
        signal.signal(number, before)


def test_in_another_thread_nothing_is_held_back() -> None:
    done: list[bool] = []

    def work() -> None:
        with uninterrupted():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


@pytest.mark.parametrize("call", ["pathlib.Path.rename", "skip2lora.system.sync", "shutil.rmtree"])
def test_a_signal_in_the_step_comes_after_it(
    call: str, any_step: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C arrives while the system puts a folder in its place, and while rooms are removed."""
    target = tmp_path / "t"
    replace(target, "one")
    module, _, name = call.rpartition(".")
    true = pkgutil.resolve_name(call)

    def interrupt(*words: object, **options: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return true(*words, **options)

    def write() -> None:
        with room(target) as place:
            new = folder(place / "t", "two")
            with uninterrupted():
                put(new, target)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(pkgutil.resolve_name(module), name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                write()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert names(target) == ["a", "two"]
    assert names(tmp_path) == ["t"]


def test_where_a_path_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolved(Path("a")) == tmp_path.resolve() / "a"
    assert resolved(Path("/dev/stdout")) == 1
    assert resolved(Path("/dev/fd/7")) == 7
    assert resolved(Path(f"/proc/{os.getpid()}/fd/8")) == 8
    assert resolved(Path("/")) == Path("/")
    assert resolved(Path("..")) == tmp_path.parent.resolve()
    (tmp_path / "out").symlink_to("/dev/stdout")
    assert resolved(Path("out")) == 1


def test_a_signal_while_a_room_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = tempfile.mkdtemp

    def interrupt(**options: str) -> str:
        place = true(**options)
        signal.raise_signal(signal.SIGINT)
        return place

    monkeypatch.setattr(tempfile, "mkdtemp", interrupt)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), room(tmp_path / "t"):
            pytest.fail("it was entered")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert names(tmp_path) == []


def test_what_the_system_refuses_is_said_in_one_line(tmp_path: Path) -> None:
    for error in (OSError(errno.ENOSPC, "No space left on device"), OSError("odd")):
        with pytest.raises(FileError) as caught, refusals(tmp_path):
            raise error
        said = f"cannot write {tmp_path}: {error.strerror or 'odd'}, expected a place with space"
        assert str(caught.value).startswith(said)
    for passed in (BrokenPipeError(), FileError("as it is")):
        with pytest.raises(type(passed)) as same, refusals(tmp_path):
            raise passed
        assert same.value is passed
