"""The audit log: in order, on the disk, waited for."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from skip2lora.serve.events import Events
from skip2lora.serve.limits import Limits
from skip2lora.serve.store import Store


def opened(folder: Path) -> Store:
    return Store(folder, {}, Limits(), lambda _: None)


def test_events_are_numbered_in_order_over_restarts(tmp_path: Path) -> None:
    store = opened(tmp_path)
    events = Events(store)
    for at in range(3):
        events.say("asked", samples=[at])
    store.close()
    store = opened(tmp_path)
    events = Events(store)
    events.say("closed")
    every = events.after(0, 100)
    assert [each["id"] for each in every] == [1, 2, 3, 4]
    assert [each["kind"] for each in every] == ["asked"] * 3 + ["closed"]
    assert every[1]["detail"] == {"samples": [1]}
    assert [each["id"] for each in events.after(2, 1)] == [3]
    assert events.after(4, 10) == []
    store.close()


def test_who_waits_is_woken(tmp_path: Path) -> None:
    store = opened(tmp_path)
    events = Events(store)
    assert not events.wait(0, 0.01)
    timer = threading.Timer(0.05, lambda: events.say("alarm", sample=1))
    timer.start()
    assert events.wait(0, 10)
    assert not events.wait(1, 0.01)
    timer.join()
    store.close()


def test_what_is_no_more_in_memory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From wherever on, and however many, it is the same as if all of it were in memory."""
    monkeypatch.setattr("skip2lora.serve.events.RECENT", 3)
    store = opened(tmp_path)
    events = Events(store)
    for at in range(8):
        events.say("asked", samples=[at])
    store.flush()
    for number in range(10):
        for limit in (1, 2, 4, 100):
            ids = [each["id"] for each in events.after(number, limit)]
            assert ids == list(range(number + 1, 9))[:limit], (number, limit)
    [each] = events.after(2, 1)
    assert (each["kind"], each["detail"]) == ("asked", {"samples": [2]})
    assert 0 < time.time() - each["time"] < 600
    store.close()
