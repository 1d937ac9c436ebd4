"""The store: numbers that are never given out twice, labels that are all kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.serve.limits import Limits
from skip2lora.serve.samples import SKIPPED, Sample
from skip2lora.serve.store import RESERVED, Store

ABOUT = {"model": "m"}


def opened(folder: Path, limits: Limits | None = None) -> Store:
    return Store(folder, ABOUT, limits or Limits(), lambda _: None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = opened(tmp_path)
    yield store
    store.close()


def fill(store: Store, count: int) -> list[int]:
    ids = list(store.next_ids(count))
    samples = [
        Sample(id, 0.0, "t", None, np.full(4, id, np.float32), "a", 0.5, 0.1, 0) for id in ids
    ]
    assert store.add(samples) == 0
    store.flush()
    return ids


def test_numbers_go_on_after_a_close_and_jump_after_a_kill(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.next_ids(3) == range(1, 4)
    store.close()
    store = opened(tmp_path)
    assert store.next_ids(2) == range(4, 6)
    store._writer.close()  # as if killed: nothing more is said
    store.reader.close()
    import os

    os.close(store._lock_file)
    again = opened(tmp_path)
    assert again.next_ids(1) == range(4 + RESERVED, 5 + RESERVED)
    again.close()


def test_what_is_reserved_grows_before_it_is_used_up(store: Store) -> None:
    store.next_ids(RESERVED)
    store.flush()
    assert int(store.meta("next_sample")) >= store.n_numbered + RESERVED // 2


def test_settled_labels_only(store: Store) -> None:
    ids = fill(store, 4)
    for id, answer in zip(ids, "aabb", strict=True):
        store.add_label(id, answer, "x", settle=False)
    store.add_label(ids[0], "b", "y", settle=False)  # contradicts
    store.add_label(ids[1], "a", "y", settle=False)  # confirms
    settled = store.settled(4)
    assert settled.ids.tolist() == ids[1:]
    assert settled.answers == ("a", "b", "b")
    assert settled.times.tolist() == [2, 1, 1]
    assert settled.last.tolist() == [6, 3, 4]
    assert settled.rows[:, 0].tolist() == ids[1:]
    store.add_label(ids[0], "b", "y", settle=True)
    assert store.settled(4).answers == ("b", "a", "b", "b")
    assert store.undo_label(ids[0]) == "b"
    assert store.undo_label(ids[0]) == "b"
    with pytest.raises(s2.DataError, match="has no label"):
        store.undo_label(ids[0])
    assert store.settled(4).ids.tolist() == ids[1:]
    assert store.n_labelled == 3
    assert len(store.read("SELECT * FROM labels")) == 7  # all are kept


def test_labels_need_a_sample_that_is_there(store: Store) -> None:
    fill(store, 2)
    with pytest.raises(s2.DataError, match="there is no sample 3"):
        store.add_label(3, "a", "x", settle=False)
    store.do(lambda db: db.execute("DELETE FROM samples WHERE id = 1"))
    with pytest.raises(s2.DataError, match="sample 1 is not kept any more"):
        store.add_label(1, "a", "x", settle=False)
    assert store.n_labelled == 0
    assert not store.read("SELECT * FROM labels")


def test_what_finds_no_room_is_dropped_and_counted(tmp_path: Path) -> None:
    store = opened(tmp_path, Limits(pending=5, pending_bytes=64))
    samples = [
        Sample(id, 0.0, "t", None, np.zeros(4, np.float32), "a", 0.5, 0.1, 0) for id in range(1, 9)
    ]
    assert store.add(samples) == 4
    assert store.n_dropped == 4
    store.flush()
    assert store.one("SELECT COUNT(*) FROM samples") == 4
    for _ in range(100):
        if store.add(samples[:4]) == 0:  # there is room again
            break
        store.flush()
    else:
        raise AssertionError("no room again")
    store.close()


def test_candidates_were_never_asked_for(store: Store) -> None:
    ids = fill(store, 6)
    store.mark([ids[0]], 1)
    store.mark([ids[1]], SKIPPED)
    store.add_label(ids[2], "a", "x", settle=False)
    assert store.candidates(4, 0, 10).ids.tolist() == ids[3:]
    assert store.candidates(4, ids[4], 10).ids.tolist() == ids[4:]
    assert store.candidates(4, 0, 2).ids.tolist() == ids[4:]
    assert store.open_questions() == [ids[0]]
    assert len(store.asked_digests()) == 3
    store.add_label(ids[0], "a", "x", settle=False)
    assert store.open_questions() == []


def test_meta_keeps_text_and_bytes(store: Store) -> None:
    store.set_meta(one="1", two=b"\x00\xff")
    assert store.meta("one") == "1"
    assert store.meta("two") == b"\x00\xff"
    assert store.meta("three") is None
