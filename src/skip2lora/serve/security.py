"""Who may ask the service, for how much and how often: checked before any route sees a request.

:class:`Guard` stands before an ASGI application. docs/security.md has the threats that it is for.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
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
_FORMS = (b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain")
_MOST_DIGITS = 18  # of a length
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
_NAMES = frozenset(name for name, _ in _HEADERS)


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
        self._hosts: frozenset[bytes] | None = None
        if policy.hosts is not None:
            self._hosts = frozenset(host.encode() for host in policy.hosts)
        self._bodies = _Bodies(policy)
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
                message["headers"] = _with_own(message.get("headers", ()))
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._bodies.bounded(receive), sending)
        except Refusal as refusal:
            if started:
                raise
            await refuse(sending, refusal)

    def _check(self, scope: Scope) -> None:
        """Raise Refusal for a request that is not to be passed on."""
        headers = dict(scope["headers"])
        host, policy = headers.get(b"host", b""), self._policy
        if self._hosts is not None and host.lower() not in self._hosts:
            raise Refusal(421, f"host is {_text(host)!r}, expected this machine: use localhost")
        address = (scope.get("client") or ("",))[0]
        if policy.per_second and not self._asked.take(address, self._clock()):
            raise Refusal(429, f"more than {policy.per_second:g} requests a second: wait")
        size = headers.get(b"content-length", b"0")
        if not size.isdigit() or len(size) > _MOST_DIGITS or int(size) > policy.most_bytes:
            raise _too_large(policy)
        if scope["method"] not in _SAFE:
            _check_origin(headers, host)
        if policy.token is not None and not self._is_open(scope["path"]):
            self._check_token(_text(headers.get(b"authorization", b"")), address)

    def _is_open(self, path: str) -> bool:
        return any(
            path == of or (len(of) > 1 and of.endswith("/") and path.startswith(of))
            for of in self._policy.open_paths
        )

    def _check_token(self, authorization: str, address: str) -> None:
        """Raise Refusal for a token that is missing or another; guesses are slowed down."""
        expected = self._policy.token
        if expected is None:
            return
        scheme, _, token = authorization.partition(" ")
        known = scheme.lower() == "bearer" and hmac.compare_digest(digest(token.strip()), expected)
        if known:
            return
        if not self._wrong.take(address, self._clock()):
            raise Refusal(429, f"more than {MOST_WRONG} wrong tokens in a minute: wait")
        raise Refusal(401, "the token is missing or another, expected Bearer TOKEN: pass it")


def _text(value: bytes) -> str:
    """What a header says."""
    return value.decode("latin-1")


def _with_own(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers of an answer, with those for browsers that it has not."""
    given = [name for name, _ in headers]
    if _NAMES.isdisjoint(given):
        return [*headers, *_HEADERS]
    return [*headers, *(of for of in _HEADERS if of[0] not in given)]


def _check_origin(headers: Mapping[bytes, bytes], host: bytes) -> None:
    """Raise Refusal for what a page of another site made a browser send."""
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", b"none")
    same = origin is None or origin.partition(b"://")[2].lower() == host.lower()
    if not same or site not in (b"same-origin", b"none"):
        text = None if origin is None else _text(origin)
        raise Refusal(403, f"origin is {text!r}, expected a page of this service: use its own")
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind in _FORMS:
        raise Refusal(
            415, f"content-type is {_text(kind)}, expected JSON or the bytes of a file: change it"
        )


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


class _Bodies:
    """Bodies that are waited for: no more bytes, and no longer, than the policy says.

    All share one timer: one each cost more than all else that is checked of a request.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._until: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rings = math.inf

    def bounded(self, receive: Receive) -> Receive:
        """``receive`` of one request."""
        n_bytes, deadline, whole = 0, 0.0, False

        async def receiving() -> Message:
            nonlocal n_bytes, deadline, whole
            if whole:  # what is waited for now is that the client leaves
                return await receive()
            loop = asyncio.get_running_loop()
            deadline = deadline or loop.time() + self._policy.seconds
            message = await self._by(deadline, loop, receive)
            n_bytes += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if n_bytes > self._policy.most_bytes:
                raise _too_large(self._policy)
            return message

        return receiving

    async def _by(
        self, deadline: float, loop: asyncio.AbstractEventLoop, receive: Receive
    ) -> Message:
        """A message, if it comes by then."""
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a request outside of a task, expected one of asyncio: start one")
        self._until[task] = deadline
        if deadline < self._rings or loop is not self._loop:
            if self._timer is not None and loop is self._loop:
                self._timer.cancel()
            self._set(loop, deadline)
        try:
            return await receive()
        except asyncio.CancelledError as error:
            if task not in self._late:
                raise
            task.uncancel()
            raise Refusal(
                408, f"the body took more than {self._policy.seconds:g} s: send it faster"
            ) from error
        finally:
            del self._until[task]
            self._late.discard(task)

    def _set(self, loop: asyncio.AbstractEventLoop, time: float) -> None:
        self._loop, self._rings = loop, time
        self._timer = loop.call_at(time, self._ring) if time < math.inf else None

    def _ring(self) -> None:
        """Give up those whose time is over; ring again for the next."""
        loop = asyncio.get_running_loop()
        now, next_one = loop.time(), math.inf
        for task, deadline in self._until.items():
            if deadline > now:
                next_one = min(next_one, deadline)
            elif task not in self._late:
                self._late.add(task)
                task.cancel()
        self._set(loop, next_one)


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
