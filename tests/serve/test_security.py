import asyncio
import json

import pytest

from skip2lora.errors import FileError
from skip2lora.serve.security import (
    MOST_WRONG,
    TOKEN_FILE,
    Guard,
    Policy,
    digest,
    is_loopback,
    kept_token,
    new_token,
    policy_for,
)


class Client:
    """Asks a guarded application that gives back the body, and keeps what it was sent."""

    def __init__(self, policy, clock=lambda: 0.0):
        self.guard, self.seen = Guard(self.app, policy, clock), []

    async def app(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        self.seen.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def ask(
        self, *parts, method="GET", path="/api/status", address="10.0.0.1", wait=0.0, **headers
    ):
        sent = []
        parts = list(parts or (b"",))
        size = {} if len(parts) > 1 else {"content-length": str(len(parts[0]))}
        headers = (
            {"host": "127.0.0.1:80"} | size | {k.replace("_", "-"): v for k, v in headers.items()}
        )
        scope = {
            "type": "http", "method": method, "path": path, "client": (address, 1),
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items()],
        }  # fmt: skip

        async def receive():
            await asyncio.sleep(wait)
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message):
            sent.append(message)

        asyncio.run(self.guard(scope, receive, send))
        self.headers = dict(sent[0]["headers"])
        self.body = sent[1]["body"]
        return sent[0]["status"]


def test_a_request_is_passed_on_with_headers_for_browsers():
    client = Client(policy_for("127.0.0.1", 80, None, 100))
    assert client.ask(b"x", method="POST") == 200
    assert client.seen == [b"x"]
    policy = client.headers[b"content-security-policy"].decode()
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert client.headers[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:80", "[::1]:80"])
def test_names_of_loopback_are_answered(host):
    assert Client(policy_for("127.0.0.1", 80, None, 100)).ask(host=host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost:81", "", "localhost."]
)
def test_other_names_for_this_machine_are_refused(host):
    client = Client(policy_for("127.0.0.1", 80, None, 100))
    assert client.ask(host=host) == 421
    assert not client.seen
    assert "expected this machine" in json.loads(client.body)["error"]


def test_any_name_will_do_with_a_token():
    client = Client(policy_for("192.168.1.5", 80, digest("secret"), 100))
    assert client.ask(host="fan.local", authorization="Bearer secret") == 200


@pytest.mark.parametrize(
    "given", ["", "secret", "Bearer", "Bearer ", "Bearer other", "Basic secret", "Bearer ÿ"]
)
def test_another_token_is_refused(given):
    client = Client(Policy(token=digest("secret")))
    assert client.ask(authorization=given) == 401
    assert client.headers[b"www-authenticate"] == b"Bearer"
    assert not client.seen


@pytest.mark.parametrize(("path", "status"), [
    ("/", 200), ("/healthz", 200), ("/page/page.js", 200),
    ("/metrics", 401), ("/healthz/x", 401), ("/page", 401), ("//", 401), ("/v2/health/live", 401),
])  # fmt: skip
def test_only_the_page_itself_needs_no_token(path, status):
    assert Client(Policy(token=digest("secret"))).ask(path=path) == status


def test_guesses_are_slowed_down_but_not_who_knows():
    now = [0.0]
    client = Client(Policy(token=digest("secret")), lambda: now[0])
    guesses = [client.ask(authorization="Bearer x") for _ in range(MOST_WRONG + 2)]
    assert guesses == [401] * MOST_WRONG + [429] * 2
    assert client.ask(authorization="Bearer secret") == 200
    assert client.ask(authorization="Bearer x", address="10.0.0.2") == 401
    now[0] = 7.0  # more than a tenth of a minute: one more
    assert [client.ask(authorization="Bearer x") for _ in range(2)] == [401, 429]


def test_an_address_asks_no_more_often_than_it_may():
    now = [0.0]
    client = Client(Policy(per_second=2.0), lambda: now[0])
    assert [client.ask() for _ in range(5)] == [200] * 4 + [429]
    assert client.ask(address="10.0.0.2") == 200
    now[0] = 0.5
    assert [client.ask() for _ in range(2)] == [200, 429]


def test_addresses_that_are_remembered_are_bounded():
    client = Client(Policy(per_second=1.0))
    for number in range(1100):
        client.ask(address=f"a{number}")
    assert len(client.guard._asked._left) == 1024


@pytest.mark.parametrize(("origin", "site", "status"), [
    ("http://127.0.0.1:80", "same-origin", 200), (None, None, 200), (None, "none", 200),
    ("http://127.0.0.1:81", "same-site", 403), ("http://evil.example", "cross-site", 403),
    ("null", None, 403), (None, "cross-site", 403), (None, "same-site", 403), ("", None, 403),
])  # fmt: skip
def test_other_sites_may_change_nothing(origin, site, status):
    client = Client(Policy())
    headers = {"origin": origin, "sec-fetch-site": site}
    headers = {name: value for name, value in headers.items() if value is not None}
    assert client.ask(b"{}", method="POST", **headers) == status
    assert client.ask(b"{}", method="DELETE", **headers) == status


@pytest.mark.parametrize(("kind", "status"), [
    ("application/json", 200), ("image/png", 200), ("text/plain; charset=utf-8", 415),
    ("Application/X-WWW-Form-urlencoded", 415), ("multipart/form-data; boundary=x", 415),
])  # fmt: skip
def test_forms_are_not_taken(kind, status):
    assert Client(Policy()).ask(b"{}", method="POST", content_type=kind) == status


@pytest.mark.parametrize("size", ["101", "9" * 400, "-1", "x", "1.5", "²"])
def test_a_length_beyond_the_limit_is_refused_before_the_body_comes(size):
    client = Client(Policy(most_bytes=100))
    assert client.ask(b"x", method="POST", content_length=size) == 413
    assert not client.seen


def test_a_body_in_parts_is_counted():
    client = Client(Policy(most_bytes=100))
    assert client.ask(b"x" * 60, b"y" * 40, method="POST") == 200
    assert client.ask(b"x" * 60, b"y" * 41, method="POST") == 413
    assert client.seen == [b"x" * 60 + b"y" * 40]


def test_a_body_that_does_not_come_is_given_up():
    client = Client(Policy(seconds=0.01))
    assert client.ask(b"x", method="POST", wait=30.0) == 408


def test_each_body_has_its_own_time_and_one_that_is_late_ends_no_other():
    guard, sent = Client(Policy(seconds=0.05)).guard, {}

    async def ask(name, waits):
        parts = [b"x"] * len(waits)

        async def receive():
            await asyncio.sleep(waits.pop(0))
            parts.pop()
            return {"type": "http.request", "body": b"x", "more_body": bool(parts)}

        async def send(message):
            sent.setdefault(name, message.get("status"))

        headers = [(b"host", b"localhost")]
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        await guard(scope, receive, send)

    async def together():
        tasks = [ask("late", [30.0]), ask("in parts", [0.0, 30.0]), ask("in time", [0.0, 0.0])]
        await asyncio.gather(*tasks, ask("later", [0.0, 0.0, 30.0]))
        await ask("after them", [30.0])

    asyncio.run(asyncio.wait_for(together(), 10))
    late = dict.fromkeys(("late", "in parts", "later", "after them"), 408)
    assert sent == {"in time": 200} | late


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time can be put forward."""

    ahead = 0.0

    def time(self):
        return super().time() + self.ahead


def test_a_body_that_began_later_is_waited_for_longer():
    guard, refused = Client(Policy(seconds=30.0)).guard, asyncio.Event()

    async def ask(event):
        async def receive():
            await event.wait()
            return {"type": "http.request", "body": b"x"}

        async def send(message):
            statuses.append(message.get("status"))

        statuses = []
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"x")]}
        await guard(scope, receive, send)
        return statuses[0]

    async def together():
        loop = asyncio.get_running_loop()
        first = asyncio.ensure_future(ask(asyncio.Event()))
        await asyncio.sleep(0)
        loop.ahead = 20.0
        second = asyncio.ensure_future(ask(refused))
        await asyncio.sleep(0)
        loop.ahead = 31.0
        status = await first
        refused.set()
        return status, await second

    with asyncio.Runner(loop_factory=Clock) as runner:
        assert runner.run(together()) == (408, 200)


def test_who_stops_waiting_for_a_body_is_not_told_that_it_is_late():
    client = Client(Policy(seconds=30.0))

    async def receive():
        await asyncio.sleep(30)

    async def cancelled():
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"x")]}
        task = asyncio.ensure_future(client.guard(scope, receive, receive))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())


@pytest.mark.parametrize(("host", "expected"), [
    ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True),
    ("0.0.0.0", False), ("::", False), ("192.168.1.1", False), ("fan.local", False), ("", False),  # noqa: S104
])  # fmt: skip
def test_what_is_loopback(host, expected):
    assert is_loopback(host) is expected


def test_a_token_is_kept_as_its_digest_alone(tmp_path):
    assert kept_token(tmp_path) is None
    token = new_token(tmp_path)
    assert kept_token(tmp_path) == digest(token)
    assert len(token) >= 43
    assert token != new_token(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [TOKEN_FILE]
    assert token not in (tmp_path / TOKEN_FILE).read_text()


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 64, b"g" * 64, b"a" * 65])
def test_a_damaged_token_is_refused(tmp_path, content):
    (tmp_path / TOKEN_FILE).write_bytes(content)
    with pytest.raises(FileError, match="no SHA-256"):
        kept_token(tmp_path)
