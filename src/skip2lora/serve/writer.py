"""The one thread that writes to the database: samples in batches, and jobs that are waited for.

A batch without a job is committed with ``synchronous=NORMAL``: a killed process loses what waited,
a power cut the last seconds. With a job (a label, a version) it is ``FULL``: the log is synced
before the job is said to be done, and with it every sample before. Where the disk refuses, samples
wait, as many as may, jobs are refused, and the thread tries again until it may.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from skip2lora.errors import FileError, first_line
from skip2lora.serve.database import connect
from skip2lora.serve.unforked import unforked

#: A job is run in the transaction of the batch; what it gives is given to who waits.
Work = Callable[[sqlite3.Connection], Any]
# Seconds: between batches, and between attempts while the disk refuses.
_BATCH, _AGAIN = 0.2, 0.5
_MOST_JOBS = 256  # in one transaction


class Writer:
    """Writes to ``file`` until :meth:`close`.

    ``on_change(reason)`` is called when writing stops to be possible, with None when it is again.
    """

    def __init__(self, file: Path, on_change: Callable[[str | None], None]) -> None:
        self._file, self._on_change = file, on_change
        self._batch: deque[tuple[Work, Callable[[], None] | None]] = deque()
        self._jobs: deque[tuple[Work, Future[Any]]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self.paused: str | None = None
        self._connection = self._opened()
        self._inode = file.stat().st_ino
        self._thread = threading.Thread(target=self._run, name="skip2lora-writer", daemon=True)
        self._thread.start()

    def add(self, work: Work, then: Callable[[], None] | None = None) -> None:
        """Let ``work`` be done soon, as often as the disk refuses it; ``then`` is called after."""
        with self._wake:
            self._batch.append((work, then))
            if len(self._batch) == 1:
                self._wake.notify()

    def do(self, work: Work) -> Any:
        """What ``work`` gives, once it and all before are on the disk.

        Raises:
            FileError: the disk refuses; nothing of ``work`` is done.
            Skip2LoraError: what it raised; nothing of it is done.
        """
        done: Future[Any] = Future()
        with self._wake:
            if self._closing:
                raise FileError(
                    f"{self._file} is closed, expected an open service: start one again"
                )
            if self.paused is not None:
                raise self._refused(self.paused)
            self._jobs.append((work, done))
            self._wake.notify()
        return done.result()

    def close(self) -> None:
        """Write what waits, if that is possible, and end."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _refused(self, reason: str) -> FileError:
        return FileError(
            f"cannot write {self._file}: {reason}, expected a disk that takes it, nothing was "
            "changed: free space, or wait until the disk is back"
        )

    def _opened(self) -> sqlite3.Connection:
        return connect(self._file, mode="rw")

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._jobs and not self._closing:
                    self._wake.wait(None if not self._batch and not self.paused else _AGAIN)
                if self._batch and not self._jobs and not self._closing:
                    self._wake.wait(_BATCH)  # for more
                closing = self._closing
                jobs = [self._jobs.popleft() for _ in range(min(_MOST_JOBS, len(self._jobs)))]
                batch = list(self._batch)
            if jobs or batch or self.paused:
                self._write(batch, jobs)
            if closing and not self._jobs:
                with unforked():
                    self._connection.close()
                return

    def _write(self, batch: list[Any], jobs: list[tuple[Work, Future[Any]]]) -> None:
        """One transaction; then those who wait are told."""
        try:
            with unforked():
                results = self._transaction([work for work, _ in batch], jobs)
        except (sqlite3.Error, OSError) as error:
            reason = first_line(error)
            self._pause(reason)
            for _, done in jobs:
                done.set_exception(self._refused(reason))
            return
        with self._wake:
            for _ in batch:
                self._batch.popleft()
        for _, then in batch:
            if then is not None:
                then()
        for (_, done), result in zip(jobs, results, strict=True):
            if isinstance(result, BaseException):
                done.set_exception(result)
            else:
                done.set_result(result)
        if self.paused is not None:
            self.paused = None
            self._on_change(None)

    def _transaction(self, batch: list[Work], jobs: list[tuple[Work, Future[Any]]]) -> list[Any]:
        if self.paused is not None:
            self._connection.close()
            self._connection = self._opened()
        if self._file.stat().st_ino != self._inode:
            raise OSError("the store is not there, another is in its place")
        run = self._connection.execute
        run(f"PRAGMA synchronous={'FULL' if jobs else 'NORMAL'}")
        run("BEGIN IMMEDIATE")
        try:
            for work in batch:
                work(self._connection)
            results: list[Any] = []
            for work, _ in jobs:
                run("SAVEPOINT job")
                try:
                    results.append(work(self._connection))
                except Exception as error:
                    if isinstance(error, (sqlite3.Error, OSError)):
                        raise
                    run("ROLLBACK TO job")
                    results.append(error)
                run("RELEASE job")
            if self.paused is not None:
                run("INSERT OR REPLACE INTO meta VALUES ('resumed', ?)", (str(time.time()),))
            run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                run("ROLLBACK")
            raise
        return results

    def _pause(self, reason: str) -> None:
        first = self.paused is None
        self.paused = reason
        if first:
            self._on_change(reason)
        if self._closing:  # nobody waits longer for a disk
            with self._wake:
                self._batch.clear()
        time.sleep(_AGAIN / 5)
