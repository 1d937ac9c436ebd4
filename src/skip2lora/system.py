"""What differs between systems: those of POSIX, and Windows.

Windows has no lock on a folder, so a file in it is locked; no step that reads at a place, so one
thread at a time goes there; no time of a file's last change but that of its content, which programs
set (as have some file systems elsewhere); and it refuses to move what somebody has open. The rest
of the package calls what is here and knows none of it.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

#: Tests run both ways on one system; type checkers take it for false, as on those of POSIX.
_WINDOWS = sys.platform == "win32"

if _WINDOWS:
    import msvcrt

    #: What stops a command from outside, in the words of messages.
    STOPS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGBREAK: "Ctrl-Break"}
else:
    import fcntl
    import resource

    STOPS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}

#: The exit code where the reader of our output is gone: that of SIGPIPE, which Windows lacks.
READER_GONE = 128 + 13
_READING = threading.Lock()
#: File systems of a disk of this machine, or of its memory, which keep the time of each change.
#: Those of a network go by another clock, and say late what others changed; that of FAT and exFAT
#: can be set; what FUSE says is up to a program.
_KEEPING = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "overlay", "tmpfs"))
EXCHANGES = not _WINDOWS  # whether two folders can change places, where the file system does it
#: Whether a process can be forked that shares what is there, and goes when its pipe closes.
FORKS = sys.platform == "linux"
ANNOUNCES = sys.platform == "linux"  # whether the system can begin to read what is needed later
_LOCK = ".skip2lora-lock"  # in a folder, where it cannot be locked itself
_MOST_AT_ONCE = 1 << 24  # bytes of a read that is copied
_WAIT_S, _PAUSE_S = 1.0, 0.01  # for what somebody has open, such as a scanner for viruses


def lock_of(folder: Path) -> Path:
    """What is locked to hold a folder: itself, or a file in it."""
    return folder / _LOCK if _WINDOWS else folder


def open_lock(locked: Path) -> int:
    """A descriptor of what :func:`lock_of` gave.

    Raises:
        OSError: the folder is gone, or none, or without permission.
    """
    if _WINDOWS:
        return os.open(locked, os.O_RDWR | os.O_CREAT | os.O_BINARY | os.O_NOINHERIT, 0o600)
    return os.open(locked, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def lock(descriptor: int) -> None:
    """Lock what is open for this process, to its end or that of the descriptor.

    Raises:
        BlockingIOError: another descriptor has it locked.
        OSError: the file system has no locks.
    """
    if _WINDOWS:
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno not in (errno.EACCES, 0):  # the latter under Wine
                raise
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_locked(folder: Path, descriptor: int) -> None:
    """Remove a folder that we hold, and let go of it; what the system refuses stays.

    A file that is open cannot be removed on Windows. Its lock goes last there, and not with what is
    in the folder, which may be another's by then.
    """
    if _WINDOWS:
        locked = lock_of(folder)
        with suppress(OSError):
            for each in folder.iterdir():
                if each.is_dir() and not each.is_symlink():
                    shutil.rmtree(each, ignore_errors=True)
                elif each != locked:
                    each.unlink()
        os.close(descriptor)
        with suppress(OSError):
            locked.unlink()
            folder.rmdir()
    else:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def sync(path: Path) -> None:
    """Flush a file or a folder to disk.

    Raises:
        OSError: it cannot be done, as for every folder on Windows.
    """
    mode = os.O_RDONLY
    if _WINDOWS:
        mode = os.O_RDWR | os.O_BINARY
        if path.is_dir():
            return  # its entries are in the journal of the file system
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Opened:
    """A folder as it is now: while this is open, another one is told from it."""

    def __init__(self, folder: Path) -> None:
        """Open it.

        Raises:
            OSError: it is gone, or none, or without permission.
        """
        self._descriptor: int | None = None
        if _WINDOWS:  # where an open one could not be replaced
            if not folder.is_dir():
                folder.stat()  # which says that it is not there
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            self._status = folder.stat()
        else:  # the number of an open folder is not used again
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            self._status = os.fstat(self._descriptor)

    def is_still(self, folder: Path) -> bool:
        """Whether ``folder`` is the one that was opened."""
        try:
            status = folder.stat()
        except OSError:
            return False
        same = os.path.samestat(self._status, status)
        if _WINDOWS:  # when it was made
            return same and self._status.st_ctime_ns == status.st_ctime_ns
        return same

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)


def changed_ns(status: os.stat_result) -> int:
    """When a file was last changed, whatever time its content bears; now where none says it.

    What Windows has by that name is when the file was made. It has a time of change as well, which
    waits until the file is closed by all who write to it.
    """
    return status.st_ctime_ns if _keeps_changes(status.st_dev) else time.time_ns()


def _keeps_changes(device: int) -> bool:
    """Whether times of change are those of this machine's clock, and nobody's to set."""
    return not _WINDOWS and _mounted(device, int(time.monotonic())) in _KEEPING


@lru_cache(8)
def _mounted(device: int, second: int) -> str:
    """The kind of file system that ``device`` holds, as of that ``second``; "" where none says."""
    del second
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
            mount, _, of = line.partition(b" - ")
            number, place, kind = mount.split()[2], mount.split()[4], of.split()[0].decode()
            if number == f"{os.major(device)}:{os.minor(device)}".encode():
                return kind
            if kind == "btrfs" and Path(os.fsdecode(place)).stat().st_dev == device:
                return kind  # whose parts have numbers of their own
    return ""


def patiently(step: Callable[[], object]) -> None:
    """Move a file or a folder; on Windows again for a second while somebody has it open.

    Raises:
        OSError: the system refused.
    """
    end = time.monotonic() + _WAIT_S * _WINDOWS
    while True:
        try:
            step()
        except PermissionError:
            if time.monotonic() >= end:
                raise
            time.sleep(_PAUSE_S)
        else:
            return


def open_to_write(path: str, _: int = 0) -> int:
    """A descriptor of a pipe, a terminal or a device, without waiting for a reader of a pipe.

    Raises:
        OSError: ENXIO where a pipe has no reader, or the system refused.
    """
    if _WINDOWS:
        return os.open(path, os.O_WRONLY | os.O_BINARY)
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    os.set_blocking(descriptor, True)
    return descriptor


def read_at(descriptor: int, n_bytes: int, offset: int) -> bytes:
    """That many bytes of a file from ``offset`` on, or those up to its end.

    Where the descriptor stands is as before.

    Raises:
        OSError: the file cannot be read.
    """
    if _WINDOWS:
        with _READING:
            before = os.lseek(descriptor, 0, os.SEEK_CUR)
            try:
                os.lseek(descriptor, offset, os.SEEK_SET)
                return os.read(descriptor, n_bytes)
            finally:
                os.lseek(descriptor, before, os.SEEK_SET)
    return os.pread(descriptor, n_bytes, offset)


def read_into(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
    """Fill bytes one behind the other from ``offset`` of a file on: how many, all of them or not.

    Raises:
        OSError: the file cannot be read.
    """
    if _WINDOWS:
        out = next(filter(len, buffers), buffers[0])  # the others at the next call
        content = read_at(descriptor, min(len(out), _MOST_AT_ONCE), offset)
        out[: len(content)] = content
        return len(content)
    return os.preadv(descriptor, buffers, offset)


def announce(descriptor: int, start: int, n_bytes: int) -> None:
    """Let the system begin to read a part of a file, where it can.

    Raises:
        OSError: the file cannot be read.
    """
    if sys.platform == "linux":
        os.posix_fadvise(descriptor, start, n_bytes, os.POSIX_FADV_WILLNEED)


def forget(descriptor: int) -> None:
    """Let the system drop what it has of a file in memory, where it can.

    Raises:
        OSError: the file cannot be read.
    """
    if sys.platform == "linux":
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def memory_bytes() -> int:
    """The memory of the machine, or what the system lets this process have, where that is less."""
    if _WINDOWS:
        return _memory_status()[1]
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    return size if space == resource.RLIM_INFINITY else min(size, space)


def free_bytes() -> int | None:
    """Memory that no process has; None where the system does not say."""
    if _WINDOWS:
        return _memory_status()[2]
    with suppress(OSError, ValueError, IndexError):
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        return 1024 * int(text.partition("MemAvailable:")[2].split()[0])
    return None


def highest_bytes() -> int:
    """The most memory this program has had.

    Linux counts in ``ru_maxrss`` what the process held that started it, before it ran this program.
    """
    if _WINDOWS:
        return _memory_counters()[1]
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held_bytes() -> int:
    """The memory this process has now, where the system says; else the most it has had."""
    if _WINDOWS:
        return _memory_counters()[2]
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    return highest_bytes()


def own_bytes(process: int) -> int:
    """Memory of a process that no other shares with it; 0 where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
        kinds = ("Private_Clean:", "Private_Dirty:")
        return 1024 * sum(int(text.partition(kind)[2].split()[0]) for kind in kinds)
    return 0


def node_name() -> str:
    """What this machine is called in its network."""
    return os.environ.get("COMPUTERNAME", "") if _WINDOWS else os.uname().nodename


def _memory_status() -> list[int]:
    """MEMORYSTATUSEX of Windows in words of 64 bits: all bytes of memory second, free ones third.

    Raises:
        OSError: the system does not say.
    """
    import ctypes

    status = (ctypes.c_uint64 * 8)(64)  # its size comes first, in half a word
    if not ctypes.CDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(status)):
        raise OSError(errno.EIO, "Windows does not say how much memory there is")
    return list(status)


def _memory_counters() -> list[int]:
    """PROCESS_MEMORY_COUNTERS in words of 64 bits: the most bytes second, those of now third.

    Raises:
        OSError: the system does not say.
    """
    import ctypes

    counters, kernel = (ctypes.c_uint64 * 9)(72), ctypes.CDLL("kernel32")
    own = ctypes.c_void_p(-1)  # this process
    if not kernel.K32GetProcessMemoryInfo(own, ctypes.byref(counters), 72):
        raise OSError(errno.EIO, "Windows does not say how much memory this process has")
    return list(counters)


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
