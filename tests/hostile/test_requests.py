"""Requests that mean no good: each is answered, by no more than one line, and nothing grows."""

from __future__ import annotations

import gc
import json
import tracemalloc

import numpy as np
import pytest

from serve.client import Client
from serve.place import field, service
from skip2lora.serve.http import application
from skip2lora.serve.security import Policy, digest

pytest.importorskip("starlette")
PATHS = (
    "/", "/healthz", "/metrics", "/v2", "/v2/models/fan", "/v2/models/fan/infer", "/api/predict",
    "/api/labels", "/api/labels/undo", "/api/learn", "/api/versions/0/adopt", "/api/samples",
    "/api/versions/1/reject", "/api/samples/1", "/api/samples/1/skip", "/api/samples/1/picture",
    "/api/samples/1/sound",
    "/api/ask", "/api/events", "/api/status", "/api/drift/reference", "/predict", "/webhook",
    "/setup", "/api/label-studio/tasks", "/page/page.js",
)  # fmt: skip
WORDS = (
    "..", "%2e%2e%2f", "\x00", "\r\nx: y", "a" * 5000, "-1", "1e999", "NaN", "0x10", "²", "🙂", "'",
    "<script>", "1;DROP TABLE samples", "{}", "[]", "null", "true", "9" * 400, "/etc/passwd",
)  # fmt: skip
VALUES = (
    None, True, False, 0, -1, 1, 2**63, 10**40, 1.5, 1e308, "", "a", "damaged", "é\u202e", "\0",
    "a" * 3000, [], {}, [[]], [{}], {"a": {}}, [None], [1, "a"], [[1.0] * 12],
)  # fmt: skip
KEYS = (
    "inputs", "outputs", "rows", "labels", "ids", "id", "label", "new", "settle", "source", "name",
    "datatype", "shape", "data", "parameters", "binary_data_size", "tasks", "action", "annotation",
    "task", "result", "value", "choices", "x", "__proto__",
)  # fmt: skip
HEADERS = ("content_type", "inference_header_content_length", "authorization", "origin", "host",
           "sec_fetch_site", "content_length", "x_forwarded_for")  # fmt: skip


def nested(random, depth=0):
    """A value of JSON that looks half like a request."""
    if depth > 3 or random.random() < 0.4:
        return VALUES[random.integers(len(VALUES))]
    if random.random() < 0.3:
        return [nested(random, depth + 1) for _ in range(random.integers(4))]
    keys = random.choice(KEYS, size=random.integers(1, 6), replace=False)
    return {str(key): nested(random, depth + 1) for key in keys}


def body(random):
    """Bytes of a request: JSON, damaged JSON, a damaged file, or noise."""
    text = json.dumps(nested(random)).encode()
    chosen = random.random()
    if chosen < 0.5:
        return text
    if chosen < 0.7:
        at = random.integers(len(text) + 1)
        return text[:at] + random.bytes(random.integers(4)) + text[at + 1 :]
    starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS", b"GIF8",
              b"[" * 3000, b"")  # fmt: skip
    return starts[random.integers(len(starts))] + random.bytes(random.integers(200))


def asked(client, random):
    """The answer to one hostile request."""
    path = PATHS[random.integers(len(PATHS))]
    if random.random() < 0.3:
        path += ("/", "?", "?id=", "?limit=", "?after=", "?label=")[random.integers(6)]
        path += WORDS[random.integers(len(WORDS))]
    headers = {}
    for name in HEADERS:
        if random.random() < 0.08:
            word = WORDS[random.integers(len(WORDS))]
            headers[name] = word.encode("utf-8").decode("latin-1")
    if random.random() < 0.4:
        return client.get(path, **headers)
    return client.post(path, body(random), **headers)


def test_no_request_is_more_than_refused(tmp_path, request):
    n_requests, random = request.config.getoption("--requests"), np.random.default_rng(0)
    with service(tmp_path / "store", name="fan") as served:
        served.predict(field(n_samples=20)[0])
        client = Client(application(served, Policy(most_bytes=1 << 20)))
        sizes = []
        tracemalloc.start()
        for number in range(n_requests):
            answer = asked(client, random)
            assert answer.status < 500, (number, answer)
            assert b"Traceback" not in answer.body
            if answer.status >= 400:
                assert len(answer.error.splitlines()) == 1
                assert len(answer.error) < 8000
            if number % (n_requests // 10) == 0:
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        # In the median: what is imported on its first use comes once, some of it late.
        assert np.median(np.diff(sizes)) < 3e5, sizes
        assert served.predict(field(n_samples=1)[0]).names  # it goes on


def test_guesses_of_a_token_let_nothing_through(tmp_path):
    random = np.random.default_rng(1)
    with service(tmp_path / "store", name="fan") as served:
        client = Client(application(served, Policy(token=digest("secret"))))
        for _ in range(200):
            assert asked(client, random).status < 500
        for path in PATHS:
            if not path.startswith(("/page/", "/healthz")) and path != "/":
                assert client.get(path, authorization="Bearer guess").status in (401, 429)
        assert served.samples() == []
