"""Lets ``skip2lora.system`` go the way of Windows on another system, with what that one has.

A lock is of a file, as there; that Windows moves nothing that is open is not pretended.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Any

from skip2lora import system


class Msvcrt:
    """The one call of this module of Python for Windows that is made."""

    LK_NBLCK = 2

    @staticmethod
    def locking(descriptor: int, mode: int, n_bytes: int) -> None:
        """Lock bytes where the descriptor stands; with another error than POSIX has."""
        assert (mode, n_bytes, os.lseek(descriptor, 0, os.SEEK_CUR)) == (Msvcrt.LK_NBLCK, 1, 0)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error


def windows(put: Callable[[Any, str, Any], object] = setattr) -> None:
    """Go that way from here on; ``put`` sets an attribute that may be missing."""
    node = system.node_name()
    put(os, "O_BINARY", 0)
    put(os, "O_NOINHERIT", os.O_CLOEXEC)
    put(system, "node_name", lambda: node)
    put(system, "msvcrt", Msvcrt)
    put(system, "_memory_status", lambda: [64, 1 << 34, 1 << 33])
    put(system, "_memory_counters", lambda: [72, 1 << 28, 1 << 27])
    put(system, "_WINDOWS", True)
    put(system, "EXCHANGES", False)
