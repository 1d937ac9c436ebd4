"""Samples come back as they were, and give room to others as the limits say."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from skip2lora.arrays import Inputs
from skip2lora.serve.database import connect, prepare
from skip2lora.serve.limits import Limits
from skip2lora.serve.samples import (
    ASKED,
    Sample,
    decoded,
    digest_of,
    encoded,
    insert,
    prune,
    size_of,
)  # fmt: skip


@pytest.fixture
def db(tmp_path: Path) -> sqlite3.Connection:
    prepare(tmp_path, {})
    return connect(tmp_path / "store.db", mode="rw")


def sample(id: int, margin: float = 0.5, x: object = None) -> Sample:
    row = np.full(8, id, np.float32)
    return Sample(id, 1.0, "test", x, row, "a", 0.9, margin, 0)


@pytest.mark.parametrize(
    "x", [np.arange(6, dtype=np.uint8).reshape(1, 2, 3), np.ones((1, 4), np.int64), None]
)
def test_what_a_sample_is_made_of_comes_back(x: np.ndarray | None) -> None:
    again = decoded(encoded(x))
    if x is None:
        assert again is None
    else:
        assert again.dtype == x.dtype
        assert (again == x).all()
        assert size_of(x) == x.nbytes


def test_several_inputs_come_back() -> None:
    x = Inputs({"ids": np.ones((1, 3), np.int64), "mask": np.zeros((1, 3), np.int64)})
    again = decoded(encoded(x))
    assert isinstance(again, Inputs)
    assert set(again.arrays) == {"ids", "mask"}
    assert (again.arrays["ids"] == 1).all()
    assert size_of(x) == 48


def test_the_same_row_has_the_same_digest() -> None:
    assert digest_of(sample(1).row) == digest_of(sample(1).row) != digest_of(sample(2).row)


def test_large_samples_are_kept_by_their_row_alone(db: sqlite3.Connection) -> None:
    insert(db, [sample(1, x=np.ones((1, 100)))], sample_bytes=799)
    insert(db, [sample(2, x=np.ones((1, 100)))], sample_bytes=800)
    rows = db.execute("SELECT x, LENGTH(row) FROM samples ORDER BY id").fetchall()
    assert rows[0] == (None, 32)
    assert rows[1][0] is not None


def ids(db: sqlite3.Connection) -> list[int]:
    return [row[0] for row in db.execute("SELECT id FROM samples ORDER BY id")]


def test_the_newest_and_the_least_sure_stay(db: sqlite3.Connection) -> None:
    unsure = {3, 7, 11}
    insert(db, [sample(id, 0.1 if id in unsure else 0.9) for id in range(1, 101)], 0)
    prune(db, Limits(unlabelled=20))
    assert len(ids(db)) == 20
    assert set(range(91, 101)) | unsure <= set(ids(db))
    prune(db, Limits(unlabelled=2000, unlabelled_bytes=32 * 4))
    assert len(ids(db)) == 4
    assert {99, 100} <= set(ids(db))


@pytest.mark.parametrize(
    ("limits", "most", "more"),
    [
        (Limits(unlabelled=20), 20, 20), (Limits(unlabelled=50), 50, 32),
        (Limits(unlabelled=1), 2, 2), (Limits(unlabelled_bytes=32 * 5 + 31), 5, 5),
    ],
)  # fmt: skip
def test_some_more_than_the_limit_wait_to_be_removed(
    db: sqlite3.Connection, limits: Limits, most: int, more: int
) -> None:
    """At once, as each time costs a search."""
    insert(db, [sample(id) for id in range(1, most + more + 1)], 0)
    prune(db, limits)
    assert len(ids(db)) == most + more
    insert(db, [sample(most + more + 1)], 0)
    prune(db, limits)
    assert len(ids(db)) == most


def test_what_a_sample_is_made_of_counts_too(db: sqlite3.Connection) -> None:
    insert(db, [sample(id, x=np.ones((1, 20))) for id in range(1, 12)], 1 << 20)
    size = 32 + len(encoded(np.ones((1, 20))) or b"")
    prune(db, Limits(unlabelled_bytes=5 * size))
    assert len(ids(db)) == 5


def test_the_newest_labels_and_events_stay(db: sqlite3.Connection) -> None:
    insert(db, [sample(id) for id in range(1, 6)], 0)
    db.execute("UPDATE samples SET labelled = 1")
    rows = [(id, 0.0, "asked", "{}") for id in range(1, 8)]
    db.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)

    def events() -> list[int]:
        return [row[0] for row in db.execute("SELECT id FROM events ORDER BY id")]

    prune(db, Limits(labelled=5, events=7))
    assert (ids(db), events()) == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7])
    prune(db, Limits(labelled=4, events=3))
    assert (ids(db), events()) == ([2, 3, 4, 5], [5, 6, 7])


def test_what_was_asked_for_and_what_has_a_label_stays(db: sqlite3.Connection) -> None:
    insert(db, [sample(id) for id in range(1, 101)], 0)
    db.execute("UPDATE samples SET asked = ? WHERE id = 5", (ASKED,))
    db.execute("UPDATE samples SET labelled = 1 WHERE id IN (6, 8, 9)")
    prune(db, Limits(unlabelled=2, labelled=2))
    assert ids(db) == [5, 8, 9, 100]
