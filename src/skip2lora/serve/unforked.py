"""What is not to be cut off by a fork of this process.

A lock that another thread has at a fork is never given back in the process that was forked, which
waits for it for ever. Python sees to its own locks and the C library to its own; SQLite has some
for the whole process, such as that of its memory, and none that a program can take. So whoever uses
it says so, and a fork waits until nobody does.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Own(threading.local):
    """What a thread is in."""

    inside = False


_own = _Own()


class _Gate:
    """Whoever is in it, and a fork, which waits for those."""

    def __init__(self) -> None:
        self._turn = threading.Condition(threading.Lock())
        self._inside, self._forking = 0, False

    def enter(self) -> None:
        with self._turn:
            while self._forking:
                self._turn.wait()
            self._inside += 1

    def leave(self) -> None:
        with self._turn:
            self._inside -= 1
            if not self._inside:
                self._turn.notify_all()

    def close(self) -> None:
        """Let nobody enter, and wait until nobody is in it."""
        self._turn.acquire()
        while self._forking:  # another thread forks as well
            self._turn.wait()
        self._forking = True
        while self._inside:
            self._turn.wait()

    def open(self) -> None:
        """Both processes do, and have the lock from before."""
        self._forking = False
        self._turn.notify_all()
        self._turn.release()


_gate = _Gate()
if sys.platform != "win32":  # which does not fork
    os.register_at_fork(before=_gate.close, after_in_parent=_gate.open, after_in_child=_gate.open)


@contextmanager
def unforked() -> Iterator[None]:
    """Until it ends, a fork in another thread waits, and so does who begins it meanwhile.

    Be brief in it, fork nothing, and take no lock that a thread has which may be about to begin it.
    """
    if _own.inside:
        yield
        return
    _gate.enter()
    _own.inside = True
    try:
        yield
    finally:
        _own.inside = False
        _gate.leave()
