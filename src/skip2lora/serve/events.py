"""The audit log: what happened, numbered in order; whoever waits for news is woken."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from typing import Any

from skip2lora.serve.store import Store, json_text

#: Events in memory.
RECENT = 1_000

#: Every kind of event.
KINDS = (
    "started", "reference", "alarm", "asked", "labelled", "unlabelled", "skipped", "learned",
    "adopted", "refused", "rejected", "rolled back", "forgotten", "paused", "resumed", "closed",
)  # fmt: skip


class Events:
    """Events of a store, the newest in memory, all that are kept on the disk."""

    def __init__(self, store: Store) -> None:
        self._store, self._next, self._news = store, store.next_event, threading.Condition()
        self._recent: deque[dict[str, Any]] = deque(maxlen=RECENT)

    def say(self, kind: str, **detail: Any) -> None:
        """Something happened; it is written soon, the disk allowing."""
        with self._news:
            event = {"id": self._next, "time": time.time(), "kind": kind, "detail": detail}
            self._next += 1
            self._recent.append(event)
            values = (event["id"], event["time"], kind, json_text(detail))
            self._store.later("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?)", values)
            self._news.notify_all()

    def after(self, number: int, limit: int) -> list[dict[str, Any]]:
        """Those after that number, the oldest first, ``limit`` at most."""
        with self._news:
            recent = list(self._recent)
        first = recent[0]["id"] if recent else self._next
        earlier = []
        if number + 1 < first:
            rows = self._store.read(
                "SELECT id, time, kind, detail FROM events WHERE id > ? AND id < ? ORDER BY id"
                " LIMIT ?", number, first, limit,
            )  # fmt: skip
            earlier = [
                {"id": id, "time": at, "kind": kind, "detail": json.loads(detail)}
                for id, at, kind, detail in rows
            ]
        return [*earlier, *(each for each in recent if each["id"] > number)][:limit]

    def wait(self, number: int, timeout: float) -> bool:
        """Whether there is an event after that number, now or within ``timeout`` seconds."""
        with self._news:
            return self._news.wait_for(lambda: self._next > number + 1, timeout)
