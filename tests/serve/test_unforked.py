"""A fork waits until nobody is in the middle of what it would cut off."""

from __future__ import annotations

import functools
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serve.place import service, teach
from skip2lora.serve import unforked as unforked_module
from skip2lora.serve.database import FILE, Reader, connect, tables
from skip2lora.serve.nursery import Nursery
from skip2lora.serve.unforked import unforked
from skip2lora.serve.writer import Writer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a system that forks")


def forked(job: Callable[[], bool]) -> bool:
    """What a process says that is forked here."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if job() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_whatever_a_service_asks_of_its_store_says_so(tmp_path: Path, monkeypatch) -> None:
    said: list[bool] = []

    class Watched(sqlite3.Connection):
        def execute(self, *query: Any) -> sqlite3.Cursor:
            said.append(unforked_module._own.inside)
            return super().execute(*query)

        def close(self) -> None:
            said.append(unforked_module._own.inside)
            super().close()

    whole = functools.partial(sqlite3.connect, factory=Watched)
    monkeypatch.setattr("skip2lora.serve.database.sqlite3.connect", whole)
    with service(tmp_path / "store") as served:
        numbers = teach(served, 40)
        served.unlabel(numbers[0])
        served.skip(served.ask()[0])
        served.learn()
        assert served.status()["n_labels"] == 39
        assert served.samples()
        assert served.events()
    assert len(said) > 50
    assert all(said)


@contextmanager
def beside(job: Callable[[], None]) -> Iterator[None]:
    """Another thread does it, to the end."""
    thread = threading.Thread(target=job)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_lock_that_another_thread_has() -> None:
    lock, locked = threading.Lock(), threading.Event()

    def hold() -> None:
        with unforked(), lock, unforked():
            locked.set()
            threading.Event().wait(0.3)

    with beside(hold):
        locked.wait()
        assert forked(lambda: lock.acquire(timeout=5))


def test_who_fails_holds_nothing_up() -> None:
    def fail() -> None:
        with pytest.raises(KeyError), unforked():
            raise KeyError

    with beside(fail):
        pass
    assert forked(lambda: True)


def test_either_process_goes_on() -> None:
    def again() -> bool:
        with unforked():
            pass
        return forked(lambda: True)

    assert forked(again)
    assert again()


def test_sqlite_in_another_thread(tmp_path: Path) -> None:
    """It has locks of the whole process, now and then, as when it waits for the disk."""
    connection = connect(tmp_path / FILE, mode="rwc")
    tables(connection)
    connection.close()
    reader, ended = Reader(tmp_path / FILE), threading.Event()

    def write() -> None:
        writer = Writer(tmp_path / FILE, lambda _: None)
        while not ended.is_set():
            name = os.urandom(8).hex()
            writer.do(
                lambda db, name=name: db.execute("INSERT INTO meta VALUES (?, ?)", (name, name))
            )
            writer.do(lambda db, name=name: db.execute("DELETE FROM meta WHERE key = ?", (name,)))
        writer.close()

    def read() -> None:
        while not ended.is_set():
            reader.read("SELECT * FROM meta ORDER BY random()")

    def work(asked: bytes) -> bytes:
        other = Reader(tmp_path / FILE)
        other.read("SELECT * FROM meta ORDER BY random()")
        other.close()
        return asked

    with beside(write), beside(read):
        try:
            for _ in range(10):
                of = Nursery(work, 5)
                assert of.call(b"works") == b"works"
                of.close()
        finally:
            ended.set()
    reader.close()
