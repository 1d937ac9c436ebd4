"""A client of an ASGI application, without a socket."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        assert self.status >= 400
        return str(self.json()["error"])


class Client:
    """Asks ``app``; ``body`` may be bytes, or what becomes JSON."""

    def __init__(self, app: Any, **headers: str) -> None:
        self._app, self._headers = app, {"host": "localhost", **headers}

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask("GET", path, b"", headers)

    def post(self, path: str, body: Any = b"", **headers: str) -> Answer:
        if not isinstance(body, bytes):
            body, headers = (
                json.dumps(body).encode(),
                {"content-type": "application/json", **headers},
            )
        return self._ask("POST", path, body, headers)

    def together(self, *asked: tuple[str, Any]) -> list[Answer]:
        """Answers to POST requests that are made at the same time."""

        async def ask() -> list[Answer]:
            return await asyncio.gather(
                *(self._run("POST", path, json.dumps(body).encode(), {}) for path, body in asked)
            )

        return asyncio.run(ask())

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        return asyncio.run(self._run(method, path, body, headers))

    async def _run(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        path, _, query = path.partition("?")
        headers = self._headers | {"content-length": str(len(body))} | headers
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": query.encode(), "client": ("127.0.0.1", 1), "server": ("localhost", 80),
            "headers": [
                (name.replace("_", "-").encode(), value.encode("latin-1"))
                for name, value in headers.items()
            ],
        }  # fmt: skip
        parts = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            return parts.pop() if parts else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        names = {k.decode(): v.decode("latin-1") for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], names, b"".join(of.get("body", b"") for of in sent[1:]))
