"""A store is of one model, one version of the format and one process; else it is refused."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import skip2lora as s2
from skip2lora.serve.database import FILE, LOCK, LOG_BYTES, connect, lock, prepare

ABOUT = {"model": "sha256:1", "n_outputs": 3}


def test_a_store_is_made_once(tmp_path: Path) -> None:
    prepare(tmp_path, ABOUT)
    prepare(tmp_path, ABOUT)
    with connect(tmp_path / FILE, mode="ro") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        with pytest.raises(sqlite3.OperationalError):
            db.execute("DELETE FROM meta")


def test_the_log_keeps_whole_megabytes_for_what_sqlite_writes_back_at_once(tmp_path: Path) -> None:
    """More would be held on the disk for good, less be given back and taken again each time."""
    prepare(tmp_path, ABOUT)
    with contextlib.closing(connect(tmp_path / FILE, mode="rw")) as db:
        asked = ("page_size", "wal_autocheckpoint", "journal_size_limit")
        page, pages, limit = (db.execute(f"PRAGMA {each}").fetchone()[0] for each in asked)
    assert limit == LOG_BYTES == math.ceil(page * pages / 2**20) * 2**20


@pytest.mark.parametrize("other", [{"model": "sha256:2"}, {"n_outputs": 4}])
def test_another_model_is_refused(tmp_path: Path, other: dict[str, object]) -> None:
    prepare(tmp_path, ABOUT)
    with pytest.raises(s2.ModelError, match="of another model"):
        prepare(tmp_path, ABOUT | other)


def test_who_may_read_it(tmp_path: Path) -> None:
    """Samples may be private: nobody but the service's own user, and no lock can be run."""
    folder = tmp_path / "store"
    os.close(lock(folder))
    assert stat.S_IMODE((folder / LOCK).stat().st_mode) == 0o600


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path, ABOUT)
    with connect(tmp_path / FILE, mode="rw") as db:
        db.execute("PRAGMA user_version=2")
    with pytest.raises(s2.ModelError, match="version 2, this program reads version 1"):
        prepare(tmp_path, ABOUT)


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough" * 100, b"SQLite format 3"]
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(s2.ModelError, match="is damaged"):
        prepare(tmp_path, ABOUT)


def test_damaged_pages_are_refused(tmp_path: Path) -> None:
    prepare(tmp_path, ABOUT)
    with connect(tmp_path / FILE, mode="rw") as db:
        for id in range(500):
            db.execute("INSERT INTO labels VALUES (?, 1, 'a', 'b', 0, NULL)", (id,))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    file = tmp_path / FILE
    content = bytearray(file.read_bytes())
    content[5 * 4096 : -4096] = os.urandom(len(content) - 6 * 4096)
    file.write_bytes(content)
    with pytest.raises(s2.ModelError, match="is damaged"):
        prepare(tmp_path, ABOUT)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(s2.FileError, match=r"holds thesis.txt and no store"):
        lock(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    held = lock(tmp_path / "store")
    code = (
        "import sys; from pathlib import Path\n"
        "from skip2lora.serve.database import lock\n"
        "from skip2lora.errors import FileError\n"
        "try: lock(Path(sys.argv[1]))\n"
        "except FileError as error: print(error)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "store")]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "in use by another process" in said
    assert said.count("\n") == 1
    os.close(held)
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == ""
