"""The C library's allocator in a process that stays for months.

By itself glibc gives threads heaps of their own, up to eight a processor, and takes ever larger
blocks from them once blocks of that size were freed, so that what was freed in between stays with
the process. A service on a small board asks for less of both; others than glibc have no such call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress

#: Of ``mallopt`` (glibc, malloc.h), and what is set: free memory at the top of a heap that is kept,
#: blocks from which on each is given back alone (what glibc starts with, but for good), heaps.
SETTINGS = {-1: 128 << 10, -3: 128 << 10, -8: 2}


def _named(name: str) -> Callable[..., int] | None:
    """A function of the C library, None where there is none; on Windows none can be asked for."""
    with suppress(OSError, AttributeError, TypeError):
        return ctypes.CDLL(None)[name]
    return None


def settle(call: Callable[[int, int], int] | None = None) -> bool:
    """Let what is freed go back to the system; whether the C library can be asked for that.

    ``call`` is that library's ``mallopt``.
    """
    call = _named("mallopt") if call is None else call
    if call is None:
        return False
    return all([call(name, value) == 1 for name, value in SETTINGS.items()])  # noqa: C419, each


def give_back(call: Callable[[int], int] | None = None) -> bool:
    """Give free memory in the middle of heaps back, too; whether the C library can do that.

    Learning leaves holes between what stays. ``call`` is that library's ``malloc_trim`` (malloc.h).
    """
    call = _named("malloc_trim") if call is None else call
    if call is None:
        return False
    call(0)
    return True
