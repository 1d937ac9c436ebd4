"""The writer: whole transactions, jobs that refuse, a disk that refuses and comes back."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skip2lora as s2
from skip2lora.serve.database import FILE, connect, prepare
from skip2lora.serve.writer import Writer

PUT = "INSERT INTO labels (sample, answer, source, time) VALUES (?, ?, 'test', 0)"


@pytest.fixture
def changes() -> list[str | None]:
    return []


@pytest.fixture
def writer(tmp_path: Path, changes: list[str | None]) -> Iterator[Writer]:
    prepare(tmp_path, {})
    writer = Writer(tmp_path / FILE, changes.append)
    yield writer
    writer.close()


def put(answer: str) -> Any:
    return lambda db: db.execute(PUT, (1, answer)).lastrowid


def answers(folder: Path) -> list[str]:
    with connect(folder / FILE, mode="ro") as db:
        return [row[0] for row in db.execute("SELECT answer FROM labels ORDER BY id")]


def until(true: Any) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def test_a_job_is_there_when_it_returns_and_what_was_added_before(
    writer: Writer, tmp_path: Path
) -> None:
    writer.add(put("first"))
    assert writer.do(put("second")) == 2
    assert answers(tmp_path) == ["first", "second"]


def test_with_a_job_the_log_is_synced(writer: Writer) -> None:
    levels: list[int] = []

    def level(db: sqlite3.Connection) -> None:
        levels.append(db.execute("PRAGMA synchronous").fetchone()[0])

    writer.add(level)
    until(lambda: levels)
    writer.do(level)
    assert levels == [1, 2]  # NORMAL, FULL


def test_what_waits_is_written_soon_and_at_the_end(tmp_path: Path) -> None:
    prepare(tmp_path, {})
    done: list[bool] = []
    writer = Writer(tmp_path / FILE, lambda _: None)
    writer.add(put("a"), lambda: done.append(True))
    until(lambda: done)
    writer.add(put("b"))
    writer.close()
    assert answers(tmp_path) == ["a", "b"]
    with pytest.raises(s2.FileError, match="is closed"):
        writer.do(put("c"))


def test_one_job_that_refuses_leaves_the_others(writer: Writer, tmp_path: Path) -> None:
    def refuses(db: sqlite3.Connection) -> None:
        put("half")(db)
        raise s2.DataError("no")

    def breaks(db: sqlite3.Connection) -> None:
        put("half")(db)
        raise KeyError("a bug")

    with pytest.raises(s2.DataError, match="no"):
        writer.do(refuses)
    with pytest.raises(KeyError):
        writer.do(breaks)
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda at=at: results.append(writer.do(put(str(at)))))
        for at in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(1, 21))
    assert sorted(answers(tmp_path), key=int) == [str(at) for at in range(20)]


def test_a_full_disk_refuses_jobs_and_is_said_until_there_is_room(
    writer: Writer, tmp_path: Path, changes: list[str | None]
) -> None:
    writer.do(put("before"))
    pages = writer.do(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    writer._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(s2.FileError, match=r"full.*free space") as refused:
        writer.do(lambda db: put("x" * 100_000)(db))
    assert "\n" not in str(refused.value)
    until(lambda: changes == ["database or disk is full", None])  # another connection may grow
    assert writer.do(put("after")) == 2
    assert answers(tmp_path) == ["before", "after"]


def test_a_store_that_is_taken_away_and_brought_back(
    writer: Writer, tmp_path: Path, changes: list[str | None]
) -> None:
    writer.do(put("before"))
    away = tmp_path / "away"
    away.mkdir()
    names = [each.name for each in tmp_path.iterdir() if each.is_file()]
    for name in names:
        (tmp_path / name).rename(away / name)
    writer.add(put("waits"))
    until(lambda: writer.paused)
    with pytest.raises(s2.FileError, match="No such file"):
        writer.do(put("refused"))
    prepare(tmp_path, {})  # another store in its place is not written to
    time.sleep(0.6)
    assert writer.paused
    assert answers(tmp_path) == []
    for name in names:
        (away / name).replace(tmp_path / name)
    until(lambda: changes[-1:] == [None])
    assert answers(tmp_path) == ["before", "waits"]
