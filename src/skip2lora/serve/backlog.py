"""Messages that wait for their turn: bounded in number and in bytes, the oldest are given up."""

from __future__ import annotations

import threading
from collections import deque


class Backlog:
    """Messages, each a topic and bytes, of at most ``most`` and ``most_bytes`` together.

    A message of more bytes than ``most_bytes`` does not fit by itself: let nobody put one.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._messages: deque[tuple[str, bytes]] = deque()
        self._come = threading.Condition()
        self.n_bytes = self.n_dropped = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, topic: str, payload: bytes) -> None:
        """Let a message wait behind the others; as many of the oldest go as it needs room."""
        with self._come:
            self._messages.append((topic, payload))
            self.n_bytes += _size(topic, payload)
            while len(self._messages) > self._most or self.n_bytes > self._most_bytes:
                self.n_bytes -= _size(*self._messages.popleft())
                self.n_dropped += 1
            self._come.notify()

    def take(self, timeout: float) -> tuple[str, bytes] | None:
        """The message that waited longest; None where none comes within ``timeout`` seconds."""
        with self._come:
            if not self._come.wait_for(lambda: bool(self._messages), timeout):
                return None
            message = self._messages.popleft()
            self.n_bytes -= _size(*message)
            return message


def _size(topic: str, payload: bytes) -> int:
    return len(topic) + len(payload)
