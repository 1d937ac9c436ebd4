"""Who may ask the service, for how much and how often: checked before any route sees a request.

:class:`Guard` stands before an ASGI application. docs/security.md has the threats that it is for.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skip2lora.errors import FileError
from skip2lora.files import unreadable, write_bytes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN_FILE = "token.sha256"  # noqa: S105, a name of a file
_TOKEN_BYTES = 32
#: Wrong tokens an address may send in a minute, and addresses that are remembered.
MOST_WRONG, _MOST_ADDRESSES = 10, 1024
#: Of the body of a request.
MOST_BYTES = 1 << 26
_MINUTE_S = 60.0
_SAFE = ("GET", "HEAD")
#: What a form of another site can send without asking first; this service takes none of them.
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        b"media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True)
class Policy:
    """What is asked of every request.

    ``hosts`` are the names that a request may use for this service, None for any; ``token`` the
    SHA-256 of what it must know, None for nothing. A body has at most ``most_bytes`` and comes
    within ``seconds``. An address sends at most ``per_second`` requests in the mean, None for any.
    ``open_paths`` need no token; those that end in ``/`` with all below them.
    """

    hosts: frozenset[str] | None = None
    token: str | None = None
    most_bytes: int = MOST_BYTES
    seconds: float = 30.0
    per_second: float | None = None
    open_paths: tuple[str, ...] = ("/", "/healthz", "/favicon.ico", "/page/")


class Refusal(Exception):  # noqa: N818, an answer, which is sent
    """A request that is not passed on: the status of HTTP and one line."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own, as seen from itself alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def policy_for(host: str, port: int, token: str | None, most_bytes: int = MOST_BYTES) -> Policy:
    """The policy of a service that listens at ``host``.

    On loopback a request must call this machine by a name of loopback: a page of another site can
    let its own name point here, and would then be of the same origin. A token is of no such help to
    it, so with one any name will do.
    """
    if token is None:
        names = ("localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host)
        hosts = frozenset((*names, *(f"{name}:{port}" for name in names)))
        return Policy(hosts, None, most_bytes)
    return Policy(None, token, most_bytes, per_second=None if is_loopback(host) else 200.0)


def new_token(folder: Path) -> str:
    """A random token; the folder keeps its SHA-256 alone.

    Raises:
        FileError: the folder cannot be written.
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    write_bytes(folder / TOKEN_FILE, f"{digest(token)}\n".encode())
    return token


def kept_token(folder: Path) -> str | None:
    """The SHA-256 of the token of a folder; None where it has none.

    Raises:
        FileError: the file is damaged or cannot be read.
    """
    path = folder / TOKEN_FILE
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError:
        text = ""
    if len(text) != hashlib.sha256().digest_size * 2 or set(text) - set("0123456789abcdef"):
        raise FileError(f"{path} is no SHA-256, expected that of a token: remove it for a new one")
    return text


def digest(token: str) -> str:
    """What is kept of a token: it is random, so no salt is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


class Guard:
    """An application that only sees requests that ``policy`` lets through."""

    def __init__(
        self, app: App, policy: Policy, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app, self._policy, self._clock = app, policy, clock
        self._asked = _Buckets(policy.per_second or 0.0, 2 * (policy.per_second or 0.0))
        self._wrong = _Buckets(MOST_WRONG / _MINUTE_S, MOST_WRONG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = [*message.get("headers", ())]
                own = {name for name, _ in headers}
                message["headers"] = [*headers, *(of for of in _HEADERS if of[0] not in own)]
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, _bounded(receive, self._policy), sending)
        except Refusal as refusal:
            if started:
                raise
            await refuse(sending, refusal)

    def _check(self, scope: Scope) -> None:
        """Raise Refusal for a request that is not to be passed on."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        address = (scope.get("client") or ("",))[0]
        host, now = headers.get(b"host", ""), self._clock()
        if self._policy.hosts is not None and host.lower() not in self._policy.hosts:
            raise Refusal(421, f"host is {host!r}, expected this machine: use localhost")
        if self._policy.per_second and not self._asked.take(address, now):
            raise Refusal(429, f"more than {self._policy.per_second:g} requests a second: wait")
        size = headers.get(b"content-length", "0")
        if not size.isascii() or not size.isdigit() or int(size) > self._policy.most_bytes:
            raise _too_large(self._policy)
        if scope["method"] not in _SAFE:
            self._check_origin(headers, host)
        if not self._is_open(scope["path"]):
            self._check_token(headers.get(b"authorization", ""), address, now)

    def _is_open(self, path: str) -> bool:
        return self._policy.token is None or any(
            path == of or (len(of) > 1 and of.endswith("/") and path.startswith(of))
            for of in self._policy.open_paths
        )

    def _check_origin(self, headers: dict[bytes, str], host: str) -> None:
        """Raise Refusal for what a page of another site made a browser send."""
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", "none")
        same = origin is None or origin.partition("://")[2].lower() == host.lower()
        if not same or site not in ("same-origin", "none"):
            raise Refusal(
                403, f"origin is {origin!r}, expected a page of this service: use its own"
            )
        kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if kind in _FORMS:
            raise Refusal(
                415, f"content-type is {kind}, expected JSON or the bytes of a file: change it"
            )

    def _check_token(self, authorization: str, address: str, now: float) -> None:
        """Raise Refusal for a token that is missing or another; guesses are slowed down."""
        expected = self._policy.token
        if expected is None:
            return
        scheme, _, token = authorization.partition(" ")
        known = scheme.lower() == "bearer" and hmac.compare_digest(digest(token.strip()), expected)
        if known:
            return
        if not self._wrong.take(address, now):
            raise Refusal(429, f"more than {MOST_WRONG} wrong tokens in a minute: wait")
        raise Refusal(401, "the token is missing or another, expected Bearer TOKEN: pass it")


async def refuse(send: Send, refusal: Refusal) -> None:
    """Answer a request with its refusal."""
    text = json.dumps({"error": str(refusal)}).encode()
    headers = [
        (b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())
    ]  # fmt: skip
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def _too_large(policy: Policy) -> Refusal:
    return Refusal(413, f"the body is larger than {policy.most_bytes:,} bytes: send less")


def _bounded(receive: Receive, policy: Policy) -> Receive:
    """``receive`` that gives no more bytes, and waits no longer, than the policy says."""
    n_bytes, deadline, whole = 0, None, False

    async def receiving() -> Message:
        nonlocal n_bytes, deadline, whole
        if whole:  # what is waited for now is that the client leaves
            return await receive()
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + policy.seconds
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError as error:
            raise Refusal(
                408, f"the body took more than {policy.seconds:g} s: send it faster"
            ) from error
        n_bytes += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if n_bytes > policy.most_bytes:
            raise _too_large(policy)
        return message

    return receiving


class _Buckets:
    """How often each address may still ask: ``rate`` a second, ``most`` at once (token bucket)."""

    def __init__(self, rate: float, most: float) -> None:
        self._rate, self._most = rate, most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, now: float) -> bool:
        """Whether there is one more."""
        left, before = self._left.pop(address, (self._most, now))
        left = min(self._most, left + (now - before) * self._rate)
        self._left[address] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _MOST_ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1
