"""Put new files and folders in the place of old ones in one step; sweep what killed runs left.

What is new is written in a *room*, a hidden folder beside its target, and renamed. A folder that is
there changes places with the new one (``renameat2`` with ``RENAME_EXCHANGE``). Where system or file
system have no such step, the old one is moved into the room first; a process killed between the
two renames leaves a room that says so, and whoever reads or writes the target next puts the new
folder there (:func:`sweep`; ``read_unchanged`` of ``adapters/folder.py`` calls it).

A room is locked while its process lives, so the next write of the same target knows which rooms are
left over. Locks end at the machine: rooms of another one, on a shared disk, are left for an hour.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TextIO

from skip2lora import system
from skip2lora.errors import FileError, brief

_OLD = ".skip2lora-old"  # in a room: what was moved away, and nothing is in its place yet
_LEFT_S = 3600.0
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
#: Of a system or a file system without that step; some containers refuse it as not permitted.
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
_MOST_LINKS = 40


#: The end of all links, or the number of an open descriptor.
Place = Path | int
_KINDS = {
    stat.S_IFSOCK: "socket", stat.S_IFBLK: "disk", stat.S_IFCHR: "device", stat.S_IFIFO: "pipe",
    stat.S_IFREG: "file", stat.S_IFDIR: "folder",
}  # fmt: skip


def kind_of(place: Place) -> str | None:
    """What is there, as a word; None where nothing is.

    Raises:
        OSError: a closed descriptor, or no permission.
    """
    try:
        mode = os.fstat(place).st_mode if isinstance(place, int) else place.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _KINDS.get(stat.S_IFMT(mode), "special file")


def is_stream(place: Place) -> bool:
    """Whether it is written to as it is: an open descriptor, a pipe, a terminal."""
    return isinstance(place, int) or kind_of(place) in ("pipe", "device")


def pour(content: Path, place: Place) -> None:
    """Copy a file into an open descriptor, a pipe or a terminal.

    Raises:
        OSError: no process reads the pipe, or the system refused.
        BrokenPipeError: its reader left.
    """
    with content.open("rb") as source:
        if place == 1 and _is_captured(sys.stdout):
            shutil.copyfileobj(source, sys.stdout.buffer)
        elif isinstance(place, int):
            if place == 1 and sys.stdout is not None:
                sys.stdout.flush()
            with open(place, "wb", closefd=False) as stream:
                shutil.copyfileobj(source, stream)
        else:
            with open(place, "wb", opener=_open_stream) as stream:
                shutil.copyfileobj(source, stream)


def _is_captured(stream: TextIO | None) -> bool:
    """Whether it is no descriptor of the system but what a program put there to read it."""
    if stream is None:
        return False
    try:
        stream.fileno()
    except OSError:
        return True
    return False


def _open_stream(path: str, _: int) -> int:
    """Not waiting for a reader, who may never come."""
    try:
        return system.open_to_write(path)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "no process reads this pipe") from error
        raise


def resolved(path: Path) -> Place:
    """Where a write to ``path`` goes: the end of its links, or a number of an open descriptor.

    The end need not be there. ``/dev/stdout`` and the like are descriptors.

    Raises:
        OSError: the links go round in a circle.
    """
    place = path.absolute()
    for _ in range(_MOST_LINKS):
        descriptor = _descriptor(place)
        if descriptor is not None:
            return descriptor
        if not place.is_symlink():
            if place.name in ("", ".."):
                return Path(os.path.realpath(place))
            return Path(os.path.realpath(place.parent)) / place.name
        place = place.parent / place.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _descriptor(place: Path) -> int | None:
    name = place.relative_to(place.anchor).as_posix()  # no drive of Windows
    known = {"dev/stdin": 0, "dev/stdout": 1, "dev/stderr": 2}.get(name)
    if known is not None or not place.name.isdecimal():
        return known
    own = ("/dev/fd", os.path.realpath("/proc/self/fd"))
    return int(place.name) if os.path.realpath(place.parent) in own else None


def check_replaceable(target: Path, place: Place, names: tuple[str, ...] | None) -> None:
    """Raise FileError if a folder or a device is where a file is to be, or a folder of others."""
    with refusals(target):
        kind = kind_of(place)
    if names is None:
        if kind in ("folder", "socket", "disk"):
            raise FileError(
                f"cannot write {target}: it is a {kind}, expected a file name: choose one"
            )
        return
    if kind is None:
        return
    if kind != "folder" or isinstance(place, int):
        raise FileError(
            f"{target} is a {kind}, expected a folder or a free name: choose another name"
        )
    for stranger in _strangers(place, names):
        raise FileError(
            f"{target} exists and holds {stranger}, expected {brief(' or '.join(names))} alone in "
            "what is replaced: choose another name"
        )


def _strangers(folder: Path, names: tuple[str, ...], within: str = "") -> Iterator[str]:
    """What lies in ``folder``, a part of what is replaced, and is none of ``names``."""
    for path in sorted(folder.iterdir()):
        name = within + path.name
        is_known = any(fnmatchcase(name, of) for of in names)
        is_part = ("/" in name and is_known) or any(of.startswith(f"{name}/") for of in names)
        if is_part and path.is_dir() and not path.is_symlink():
            yield from _strangers(path, names, f"{name}/")
        elif not is_known or not path.is_file():
            yield name


@contextmanager
def temporary(place: Place) -> Iterator[Path]:
    """Yield a free name beside ``place``, or among temporary files; the suffix is kept."""
    if isinstance(place, int):
        beside = Path(tempfile.gettempdir(), f"stream-{place}")
    else:
        beside = Path(tempfile.gettempdir(), place.name) if is_stream(place) else place
    with room(beside) as folder:
        yield folder / (beside.name or "result")


@contextmanager
def refusals(target: Path) -> Iterator[None]:
    """What the system refuses, as FileError; that a reader left is for the caller."""
    try:
        yield
    except (FileError, BrokenPipeError):
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(
            f"cannot write {target}: {reason}, expected a place with space and permission, nothing "
            "was changed: free space or choose another place"
        ) from error


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back the signals that a handler of Python answers until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread alone
        return
    held: list[int] = []
    before = {}
    try:
        for number in system.STOPS:
            handler = signal.getsignal(number)
            if callable(handler):
                before[number] = handler
                signal.signal(number, lambda number, _: held.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in held:
            signal.raise_signal(late)


@contextmanager
def room(target: Path) -> Iterator[Path]:
    """Yield a fresh folder beside ``target``; whatever is in it at the end is removed.

    Rooms that killed runs left for the same target are swept first.
    """
    sweep(target)
    taken: tuple[Path, int] | None = None
    try:
        with uninterrupted():
            taken = _locked_room(target)
        yield taken[0]
    finally:
        with uninterrupted():
            if taken is not None:
                system.remove_locked(*taken)


def put(new: Path, target: Path) -> None:
    """Put ``new``, a file or folder in a room of ``target``, in its place in one step.

    What was there is left in the room.
    """
    if not new.is_dir():
        system.patiently(lambda: new.replace(target))
    else:
        try:
            system.patiently(lambda: new.rename(target))  # where nothing is, or an empty folder
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not exchange(new, target):
                _move_away(new, target)
    with suppress(OSError):  # it is there already, and some file systems cannot sync a folder
        system.sync(target.parent)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where that cannot be done here.

    Raises:
        OSError: it can, and the system refused.
    """
    import ctypes

    if not system.EXCHANGES:
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    paths = os.fsencode(one), os.fsencode(other)
    if call(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number))


def _move_away(new: Path, target: Path) -> None:
    """Two renames; between them the room says what is to come."""
    old = new.with_name(_OLD)
    system.patiently(lambda: target.rename(old))
    try:
        system.patiently(lambda: new.rename(target))
    except BaseException:
        old.rename(target)
        raise


def sweep(target: Path) -> bool:
    """Remove the rooms of ``target`` that no process works in, and put back what they moved away.

    Returns whether a process is just moving the old ``target`` away. What the system refuses is
    left for the next time.
    """
    moving = False
    for left in _rooms(target):
        lock = claim(left)
        if lock is None:
            moving |= (left / _OLD).is_dir()
            continue
        with suppress(OSError), uninterrupted():
            if (left / _OLD).is_dir() and not os.path.lexists(target):
                (left / target.name).rename(target)
        with uninterrupted():
            system.remove_locked(left, lock)
    return moving


def _rooms(target: Path) -> list[Path]:
    pattern = re.compile(re.escape(_prefix(target)) + "[0-9a-f]{8}-[a-z0-9_]{8}")
    try:
        with os.scandir(target.parent) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if pattern.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []


def _prefix(target: Path) -> str:
    """Of the names of all rooms of ``target``: short, whatever its own name is."""
    return f".skip2lora-{_short_hash(os.fsencode(target.name))[:12]}-"


def _short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@cache
def _machine() -> str:
    """Eight digits that stand for this machine."""
    known = system.node_name().encode()
    with suppress(OSError):
        known += Path("/etc/machine-id").read_bytes()
    return _short_hash(known)[:8]


def room_of(target: Path, name: str = "") -> str:
    """How a room of ``target`` on this machine is called: ``name`` has eight letters."""
    return f"{_prefix(target)}{_machine()}-{name}"


def _locked_room(target: Path) -> tuple[Path, int]:
    while True:
        place = tempfile.mkdtemp(prefix=room_of(target), dir=target.parent)
        lock = claim(Path(place), fresh=True)
        if lock is not None:
            return Path(place), lock
        # another process took it for a room that was left, and removes it


def claim(place: Path, *, fresh: bool = False) -> int | None:
    """The descriptor of a room that no process works in, locked; None if one does, or may.

    A ``fresh`` one is our own. Where the file system has no locks, others may be worked in for an
    hour.
    """
    locked = system.lock_of(place)
    try:
        lock = system.open_lock(locked)
    except OSError:
        return None
    known = f"-{_machine()}-" in place.name
    try:
        system.lock(lock)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:  # no locks here
        known = False
    opened = os.fstat(lock)
    with suppress(OSError):
        if opened.st_ino == locked.stat().st_ino and (
            fresh or known or time.time() - opened.st_mtime > _LEFT_S
        ):
            return lock
    os.close(lock)
    return None
