"""Work in processes of its own, one a call, each forked from a process that does nothing else.

Work that takes the interpreter would keep every other thread from it, whatever the priorities are.
A process that was started anew would hold all imported modules once more, all the time. So one is
forked early, before there are threads, and waits: each call is a child of that, which shares what
was there by then and gives back all it took when it ends. Whatever becomes of a child, the next
call has a new one. All end with the process that made them, however that ends, as a pipe closes.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from skip2lora.errors import FileError
from skip2lora.system import STOPS

#: Bytes that tell what is asked for, to bytes that answer.
Work = Callable[[bytes], bytes]
#: Seconds that a call may take, and how much longer an answer is waited for.
MOST_S, _LATER_S = 3_600.0, 60.0
#: How much the processes yield to others, of 19, and how much rather they are ended of 1,000 where
#: memory runs out.
NICENESS, _RATHER = 19, 500
_LENGTH, _AT_ONCE = 8, 1 << 20
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


class EndedError(FileError):
    """A process ended before it answered."""


class Nursery:
    """Runs ``work`` in a process a call, one at a time, each at most ``most_s`` seconds.

    Make it before there are other threads. What ``work`` refers to is there as it was then. Cycles
    among objects that are there by then are not looked for until :meth:`close`.
    """

    def __init__(self, work: Work, most_s: float) -> None:
        asks, write = os.pipe()
        self._answers, answers = os.pipe()
        self._asks: int | None = write
        self._most_s = most_s
        self._asking, self._calling = threading.Lock(), threading.Lock()
        gc.collect()
        gc.freeze()  # to look through it all, here or there, would take a copy of it
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            self.process: int | None = os.fork()  # of threads that a runtime may have
        if self.process == 0:
            _end_with(lambda: _wait(work, asks, answers, most_s))
        os.close(asks)
        os.close(answers)

    def call(self, asked: bytes) -> bytes:
        """What ``work`` gives.

        Raises:
            EndedError: the process of the call ended before, or the one that waits.
        """
        with self._calling:
            answer = self._answer(asked)
            if not answer:
                self._hang_up()
                self._reap()
                raise EndedError(
                    "the process that waits to learn is gone, expected it to wait: start the "
                    "service again"
                )
        if answer[:1] != b"+":
            raise EndedError(
                f"the process that learned {answer[1:].decode()}, expected an answer: give it "
                "more memory or time, or learn from fewer labels"
            )
        return answer[1:]

    def _answer(self, asked: bytes) -> bytes:
        """As it comes, nothing where none can come."""
        try:
            with self._asking:
                if self._asks is None:
                    return b""
                _write(self._asks, asked)
            ready, _, _ = select.select([self._answers], [], [], self._most_s + _LATER_S)
            return _read(self._answers) if ready else b""
        except (EOFError, OSError):
            return b""

    def close(self) -> None:
        """End it, and the call that runs."""
        self._hang_up()
        with self._calling:
            self._reap()

    def _hang_up(self) -> None:
        with self._asking:
            asks, self._asks = self._asks, None
            if asks is not None:
                os.close(asks)

    def _reap(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            gc.unfreeze()
            os.kill(process, signal.SIGKILL)  # also where it is stopped
            os.waitpid(process, 0)
            os.close(self._answers)


def _end_with(job: Callable[[], None]) -> None:
    """Do it and end this process, which has no part in what the other one was about to do."""
    code = 1
    try:
        job()
        code = 0
    except BaseException:  # noqa: BLE001, said where errors of the program go
        with suppress(OSError):
            os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _wait(work: Work, asks: int, answers: int, most_s: float) -> None:
    """Answer calls until nobody can make one any more."""
    for each in STOPS:  # which are for the process that made this one
        signal.signal(each, signal.SIG_IGN)
    asks, answers = _alone(asks, answers)
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(EOFError, BrokenPipeError):
        while True:
            asked = _read(asks)
            _write(answers, _raised(work, asked, asks, most_s))


def _alone(asks: int, answers: int) -> tuple[int, int]:
    """Both again; whatever else is open leads nowhere, but to where errors are said.

    It stays open: libraries look after descriptors of their own where a process forks, and PyArrow
    ends one that lost them.
    """
    while asks < 3:
        asks = os.dup(asks)
    while answers < 3:
        answers = os.dup(answers)
    nowhere = os.open(os.devnull, os.O_RDWR)
    there = {int(each.name) for each in Path("/proc/self/fd").iterdir()}
    for each in ({0, 1} | there) - {2, asks, answers, nowhere}:
        os.dup2(nowhere, each)
    return asks, answers


def _raised(work: Work, asked: bytes, asks: int, most_s: float) -> bytes:
    """What a child answers, behind a "+", or how it ended, behind a "-".

    Raises:
        EOFError: nobody waits for it any more.
    """
    reads, writes = os.pipe()
    waits = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reads)
        _end_with(lambda: _answer(work, asked, writes, waits))
    os.close(writes)
    answer = None
    try:
        answer = _heard(reads, asks, most_s)
    finally:
        if answer is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(reads)
    if answer is None:
        return f"-took more than {most_s:,.0f} s".encode()
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return b"+" + answer
    return f"-ended with {f'signal {-code}' if code < 0 else f'code {code}'}".encode()


def _heard(reads: int, asks: int, most_s: float) -> bytes | None:
    """All that a child writes until it ends; None where it takes too long.

    Raises:
        EOFError: nobody waits for it any more.
    """
    parts: list[bytes] = []
    until = time.monotonic() + most_s
    while True:
        ready, _, _ = select.select([reads, asks], [], [], max(0.0, until - time.monotonic()))
        if asks in ready:  # closed: nothing else is asked meanwhile
            raise EOFError
        if not ready:
            return None
        part = os.read(reads, _AT_ONCE)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _answer(work: Work, asked: bytes, writes: int, waits: int) -> None:
    """Do the work, to end with the process that waits for it, however and whenever that ends."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != waits:
        return
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_RATHER), encoding="ascii")
    content = memoryview(work(asked))
    while content:
        content = content[os.write(writes, content) :]


def _write(descriptor: int, content: bytes) -> None:
    """All of it, behind its length."""
    left = memoryview(len(content).to_bytes(_LENGTH, "little") + content)
    while left:
        left = left[os.write(descriptor, left) :]


def _read(descriptor: int) -> bytes:
    """What :func:`_write` wrote.

    Raises:
        EOFError: the other end is closed.
    """
    return _some(descriptor, int.from_bytes(_some(descriptor, _LENGTH), "little"))


def _some(descriptor: int, count: int) -> bytes:
    parts = []
    while count:
        part = os.read(descriptor, min(count, _AT_ONCE))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
