"""The database of a store: one SQLite file in one folder, of one model, used by one process.

Write-ahead logging lets others read while one writes. Whoever opens the store holds a lock on it to
the end, so that no second process numbers samples or learns beside it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from skip2lora import system
from skip2lora.errors import FileError, ModelError, brief, first_line
from skip2lora.files import make_folder
from skip2lora.serve.unforked import unforked

FILE, LOCK = "store.db", "lock"
#: Of the tables below; a store of a newer one is refused, older ones would be converted.
SCHEMA = 1
#: Of the log that is written ahead, once it is in the database.
LOG_BYTES = 4 << 20
# Of each sample in ``given`` the labels that are not undone: it is settled where answers = 1.
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE samples (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, source TEXT NOT NULL, x BLOB, row BLOB NOT NULL,
    digest BLOB NOT NULL, answer TEXT NOT NULL, probability REAL NOT NULL, margin REAL NOT NULL,
    version INTEGER NOT NULL, labelled INTEGER NOT NULL DEFAULT 0, asked INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX samples_by_label ON samples (labelled, id);
CREATE INDEX samples_asked ON samples (asked, id) WHERE asked > 0;
CREATE TABLE labels (
    id INTEGER PRIMARY KEY AUTOINCREMENT, sample INTEGER NOT NULL, answer TEXT NOT NULL,
    source TEXT NOT NULL, time REAL NOT NULL, undone REAL
);
CREATE INDEX labels_of_sample ON labels (sample);
CREATE VIEW given AS
    SELECT sample, MIN(answer) AS answer, MAX(id) AS last, COUNT(*) AS times,
           COUNT(DISTINCT answer) AS answers
    FROM labels WHERE undone IS NULL GROUP BY sample;
CREATE TABLE versions (
    number INTEGER PRIMARY KEY, created REAL NOT NULL, state TEXT NOT NULL, verdict TEXT NOT NULL,
    n_labels INTEGER NOT NULL, adopted REAL, until INTEGER NOT NULL DEFAULT 0,
    before INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL
);
"""


def lock(folder: Path) -> int:
    """Hold the store to the end of this process, or until the descriptor is closed.

    Raises:
        FileError: another process holds it, or the system refused.
    """
    make_folder(folder)
    if not (folder / FILE).exists():
        strangers = sorted(each.name for each in folder.iterdir() if each.name != LOCK)
        if strangers:
            raise FileError(
                f"{folder} holds {strangers[0]} and no store, expected an empty folder or one that "
                "a service made: choose another"
            )
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise FileError(
            f"cannot write in {folder}: {error.strerror}, expected a folder that can be written: "
            "choose another"
        ) from error
    try:
        system.lock(descriptor)
    except BlockingIOError as error:
        os.close(descriptor)
        raise FileError(
            f"{folder} is in use by another process, expected one service a store: choose another "
            "folder, or stop the other"
        ) from error
    except OSError:
        pass  # a file system without locks
    return descriptor


def connect(file: Path, *, mode: str) -> sqlite3.Connection:
    """A connection that any thread may use, one at a time, :func:`~.unforked.unforked` each time.

    ``mode`` is that of SQLite: ro reads, rw writes to a file that is there, rwc makes one, too.

    Raises:
        sqlite3.Error: the file cannot be opened, or is none of SQLite.
    """
    with unforked():
        connection = sqlite3.connect(
            f"{file.as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False,
            timeout=5.0,
        )  # fmt: skip
        try:
            if mode != "ro":
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection


class Reader:
    """Reads what is committed to ``file``; any thread may, one at a time.

    Raises:
        FileError, ModelError: as :func:`refusals`.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        with refusals(file):
            self._connection = connect(file, mode="ro")

    def read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises:
            FileError, ModelError: as :func:`refusals`.
        """
        with unforked(), self._lock, refusals(self._file):
            return self._connection.execute(query, values).fetchall()

    def one(self, query: str, *values: Any) -> Any:
        """The first value of a query, None where it gives none."""
        rows = self.read(query, *values)
        return rows[0][0] if rows else None

    def meta(self, key: str) -> Any:
        """What is kept under a name: text or bytes; None where nothing is."""
        return self.one("SELECT value FROM meta WHERE key = ?", key)

    def close(self) -> None:
        """Read no more."""
        with unforked():
            self._connection.close()


def prepare(folder: Path, about: Mapping[str, Any]) -> None:
    """Make the tables unless they are there; ``about`` is what the rows of a store depend on.

    Raises:
        FileError: the file cannot be opened or written.
        ModelError: the store is damaged, of a newer program, or of another model.
    """
    file = folder / FILE
    with refusals(file), unforked(), closing(connect(file, mode="rwc")) as connection:
        schema = connection.execute("PRAGMA user_version").fetchone()[0]
        if schema > SCHEMA:
            raise ModelError(
                f"{file} has format version {schema}, this program reads version {SCHEMA}: "
                "update skip2lora"
            )
        if schema == 0:
            said = json.dumps(dict(about), sort_keys=True)
            tables(connection)
            connection.execute("INSERT INTO meta VALUES ('about', ?)", (said,))
        row = connection.execute("SELECT value FROM meta WHERE key = 'about'").fetchone()
        if row is None:  # stopped between the two
            row = (json.dumps(dict(about), sort_keys=True),)
            connection.execute("INSERT INTO meta VALUES ('about', ?)", row)
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise _damaged(file, problem)
    _compare(file, json.loads(row[0]), about)


def tables(connection: sqlite3.Connection) -> None:
    """Make them, all or none."""
    connection.executescript(f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version={SCHEMA};COMMIT;")


def _compare(file: Path, there: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Raise ModelError unless both are of the same rows."""
    for name, ours in about.items():
        if there.get(name) != ours:
            short = [brief(each) for each in (there.get(name), ours)]
            raise ModelError(
                f"{file} is of another model ({name} {short[0]}, got {short[1]}), expected the "
                "store of this one: choose another folder, or load that model"
            )


def _damaged(file: Path, what: object) -> ModelError:
    return ModelError(
        f"{file} is damaged ({what}), expected a store as a service wrote it: copy it back, or "
        "choose another folder"
    )


@contextmanager
def refusals(file: Path) -> Iterator[None]:
    """What SQLite refuses, as ModelError where the file is damaged, else as FileError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise FileError(
            f"cannot use {file}: {first_line(error)}, expected a disk with space and permission: "
            "free space, or choose another folder"
        ) from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise _damaged(file, first_line(error)) from error
