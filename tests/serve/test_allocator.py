"""Memory that was freed goes back."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from skip2lora.serve.allocator import SETTINGS, give_back, settle

# Blocks of falling size make glibc take such sizes from its heap; a small block on top keeps it.
_GROWS = """
import ctypes, sys
from pathlib import Path
from skip2lora.serve.allocator import settle

def anonymous():
    text = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * int(text.partition("Anonymous:")[2].split()[0])

if sys.argv[1] == "settled":
    assert settle()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [
    ctypes.c_void_p]
before = anonymous()
c.free(c.malloc(30 << 20))
blocks = []
for _ in range(20):
    large, small = c.malloc(4 << 20), c.malloc(64 << 10)
    ctypes.memset(large, 1, 4 << 20)
    ctypes.memset(small, 1, 64 << 10)
    blocks += [large]
for block in blocks:
    c.free(block)
print(anonymous() - before)
"""


def _grown(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _GROWS, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_what_is_freed_goes_back() -> None:
    assert _grown("as it is") > 60 << 20
    assert _grown("settled") < 8 << 20


# Threads that are there at once each take from a heap of their own, up to the most there may be.
_HEAPS = """
import ctypes, sys, threading
from skip2lora.serve.allocator import settle

if sys.argv[1] == "settled":
    assert settle()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
c.fopen.restype, c.malloc_info.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
c.fclose.argtypes = [ctypes.c_void_p]
here = threading.Barrier(6)

def take():
    here.wait()
    c.malloc(5000)
    here.wait()

threads = [threading.Thread(target=take) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = c.fopen(sys.argv[2].encode(), b"w")
c.malloc_info(0, file)
c.fclose(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize(("how", "count"), [("as it is", 7), ("settled", 2)])
def test_threads_share_two_heaps(how: str, count: int, tmp_path: Path) -> None:
    out = tmp_path / "heaps.xml"
    subprocess.run([sys.executable, "-c", _HEAPS, how, str(out)], check=True)
    assert out.read_text().count("<heap nr=") == count


def test_all_settings_are_asked_for() -> None:
    asked: dict[int, int] = {}

    def call(name: int, value: int) -> int:
        asked[name] = value
        return int(name != -3)

    assert not settle(call)
    assert asked == SETTINGS


class _Empty:
    def __init__(self, name: None) -> None:
        pass

    def __getitem__(self, name: str) -> None:
        raise AttributeError(name)


def _of_windows(name: None) -> None:
    raise TypeError("argument of type 'NoneType' is not iterable")  # as ctypes says there


@pytest.mark.parametrize("library", [_Empty, _of_windows])
def test_a_library_without_the_call(library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", library)
    assert settle() is False
    assert give_back() is False


_HOLES = """
import ctypes
from pathlib import Path
from skip2lora.serve.allocator import give_back

def anonymous():
    text = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * int(text.partition("Anonymous:")[2].split()[0])

c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [
    ctypes.c_void_p]
blocks = [c.malloc(64 << 10) for _ in range(320)]
for block in blocks:
    ctypes.memset(block, 1, 64 << 10)
for at, block in enumerate(blocks):
    if at % 4:
        c.free(block)
before = anonymous()
assert give_back()
print(before - anonymous())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_holes_between_what_stays_go_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HOLES], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) > 10 << 20  # of 15 MiB


def test_all_that_is_free_is_asked_for() -> None:
    asked: list[int] = []
    assert give_back(lambda size: asked.append(size) or 1)
    assert asked == [0]
