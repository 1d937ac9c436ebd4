"""Runs an ASGI application at an address until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from skip2lora.arrays import whole
from skip2lora.errors import ParameterError
from skip2lora.serve.security import App
from skip2lora.serve.transport import Gathering, Turn
from skip2lora.serve.unit import notify, watchdog_s

#: Connections at a time; more are told to come back later.
MOST_CONNECTIONS = 512
_BACKLOG = 1024
_STOP_S = 5  # that requests in work are given at a stop
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Objects that are made, less those that went, before cycles are looked for.
_YOUNG = 20_000


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes any that is free.

    Raises:
        ParameterError: the address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.getaddrinfo(host, whole("port", port, 0, 65535), family)
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ParameterError(
            f"cannot listen at {host} port {port}: {reason}, expected an address of this machine "
            "and a free port: change host or port"
        ) from error


class Stop:
    """Whether a service was told to stop."""

    def __init__(self) -> None:
        self._said = False
        self.signal: int | None = None  # the first one

    def __call__(self) -> bool:
        """Whether it was."""
        return self._said

    def say(self, number: int | None = None) -> None:
        """Tell it; ``number`` is that of the signal by which somebody asked for it."""
        self._said = True
        self.signal = number if self.signal is None else self.signal


def run(
    app: App, at: socket.socket, stop: Stop, started: Callable[[], None] = lambda: None
) -> None:
    """Answer requests that come to ``at``, until ``stop`` is said; then finish those in work.

    SIGINT and SIGTERM say it, where this is the main thread. ``started`` is called once requests
    are answered; systemd is told so too, and then that the event loop lives.
    """
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    turn = Turn()

    class Protocol(HttpToolsProtocol):
        """One that sends an answer in one piece."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            """Take a new connection."""
            super().connection_made(Gathering(transport, turn))

    config = uvicorn.Config(
        app, http=Protocol, ws="none", log_config=None, log_level="error", access_log=False,
        lifespan="off",
        server_header=False, limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=20,
        proxy_headers=False, timeout_graceful_shutdown=_STOP_S,
    )  # fmt: skip

    class Server(uvicorn.Server):
        """One that stops without raising the signal again, so that what is around can close."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """Stop soon."""
            stop.say(sig)
            super().handle_exit(sig, frame)

        async def on_tick(self, counter: int) -> bool:
            """Whether to stop: asked ten times a second."""
            return await super().on_tick(counter) or stop()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            signals = _SIGNALS if threading.current_thread() is threading.main_thread() else ()
            before = {each: signal.signal(each, self.handle_exit) for each in signals}
            try:
                yield
            finally:
                for each, handler in before.items():
                    signal.signal(each, handler)

    async def serve() -> None:
        server = Server(config)
        life = asyncio.create_task(_alive(lambda: server.started, started))
        try:
            await server.serve(sockets=[at])
        finally:
            life.cancel()
            notify("STOPPING=1")

    with _few_collections(), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve())


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Look seldom for cycles, of which requests leave few, and never through what is there now.

    Both took a sixth of the time of a request, and then the former a tenth.
    """
    gc.collect()
    gc.freeze()
    before = gc.get_threshold()
    gc.set_threshold(_YOUNG, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def _alive(answers: Callable[[], bool], started: Callable[[], None]) -> None:
    """Say that the service answers, and then that it lives."""
    while not answers():
        await asyncio.sleep(0.01)
    started()
    notify("READY=1")
    period = watchdog_s()
    while period is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(period)
