"""A service called fan, and a client of it without a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.client import Client
from serve.place import service
from skip2lora.serve.http import application
from skip2lora.serve.security import Policy
from skip2lora.serve.service import Service


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Service]:
    with service(tmp_path / "store", name="fan") as served:
        yield served


@pytest.fixture
def client(served: Service) -> Client:
    return Client(application(served, Policy()))


@pytest.fixture
def unmeasured(monkeypatch) -> None:
    """Plans leave out what is measured, which differs from one plan to the next."""
    monkeypatch.setattr("skip2lora.serve.planned.rehearse", lambda *_: (0, 0))
