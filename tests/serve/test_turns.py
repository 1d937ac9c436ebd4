"""When it learns by itself: not before enough labels, and not once it is closed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from serve.place import field, service
from skip2lora.serve import turns
from skip2lora.serve.limits import Limits
from skip2lora.serve.service import Service

LIMITS = Limits(first_batch=12, batch=6)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PAUSE", 0.01)


def label(served: Service, ids: tuple[int, ...], names: list[str]) -> None:
    for id, name in zip(ids, names, strict=True):
        served.label(id, name)


def learned(served: Service) -> list[int]:
    """Of how many labels each version was learned."""
    return [each["n_labels"] for each in served.versions() if each["number"]]


def until(served: Service, n_versions: int) -> None:
    for _ in range(300):
        if len(learned(served)) >= n_versions:
            return
        served.wait(10**6, 0.1)
    raise TimeoutError


def test_it_learns_from_enough_labels_and_then_from_some_more(tmp_path: Path) -> None:
    x, names = field(n_samples=30)
    with service(tmp_path, learning=True, limits=LIMITS) as served:
        ids = served.predict(x).ids
        label(served, ids[:11], names[:11])
        time.sleep(0.3)
        assert learned(served) == []
        label(served, ids[11:12], names[11:12])
        until(served, 1)
        label(served, ids[12:17], names[12:17])
        time.sleep(0.3)
        assert learned(served) == [12]
        label(served, ids[17:18], names[17:18])
        until(served, 2)
        assert learned(served) == [12, 18]


def test_a_closed_one_learns_no_more_and_a_new_one_goes_on(tmp_path: Path) -> None:
    x, names = field(n_samples=30)
    with service(tmp_path, limits=LIMITS) as served:
        label(served, served.predict(x).ids, names)
        assert learned(served) == []
    with service(tmp_path, learning=True, limits=LIMITS) as served:
        served.label(1, names[0])  # which wakes it
        until(served, 1)
        assert learned(served) == [30]
