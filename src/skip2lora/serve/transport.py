"""A connection whose answers leave at the end of a turn of the event loop, each in one piece.

A server writes the head of an answer and then its body. Sent by themselves they are two calls of
the system and may be two packets; and while the first of many answers are sent, those who got them
ask again and are in the way of the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

#: Bytes that wait in a connection, from which on they are sent at once.
MOST_BYTES = 1 << 16


class Turn:
    """The connections that were written to since the last turn of the event loop."""

    def __init__(self) -> None:
        self._written: list[Gathering] = []

    def add(self, connection: Gathering) -> None:
        """Send what waits there once those callbacks have run that are due by now."""
        if not self._written:
            asyncio.get_running_loop().call_soon(self._send)
        self._written.append(connection)

    def _send(self) -> None:
        written, self._written = self._written, []
        for connection in written:
            connection.send()


class Gathering(asyncio.Transport):
    """``transport``, which gets what is written here once a ``turn``."""

    def __init__(self, transport: asyncio.Transport, turn: Turn) -> None:
        super().__init__()
        self._transport, self._turn = transport, turn
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send it soon."""
        if not self._parts:
            self._turn.add(self)
        self._parts.append(bytes(data))
        self._size += len(data)
        if self._size > MOST_BYTES:
            self.send()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send all of them soon."""
        for data in list_of_data:
            self.write(data)

    def send(self) -> None:
        """Send what waits now."""
        if self._parts:
            parts, self._parts, self._size = self._parts, [], 0
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        """Send what waits, and close."""
        self.send()
        self._transport.close()

    def write_eof(self) -> None:
        """Send what waits, and say that nothing follows."""
        self.send()
        self._transport.write_eof()

    def abort(self) -> None:
        """Close now; what waits is dropped."""
        self._parts, self._size = [], 0
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Bytes that were not sent."""
        return self._size + self._transport.get_write_buffer_size()

    # --- all else is that of the transport ----------------------------------------------------

    def can_write_eof(self) -> bool:
        """Whether it can."""
        return self._transport.can_write_eof()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of it."""
        return self._transport.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who hears it."""
        return self._transport.get_protocol()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Bytes at which it pauses and resumes who writes."""
        return self._transport.get_write_buffer_limits()

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._transport.is_closing()

    def is_reading(self) -> bool:
        """Whether it hears."""
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        """Hear nothing for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Hear again."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another hear it."""
        self._transport.set_protocol(protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set these bytes."""
        self._transport.set_write_buffer_limits(high, low)
