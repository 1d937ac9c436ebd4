"""A service whose clock jumps, as a board's without a battery does: all goes by numbers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from desk import NAMES
from serve.place import field, service

YEAR_S = 3.2e7


def life(store: Path) -> dict[str, Any]:
    """Predict, label, correct, undo, learn, go back and start again: what came of it."""
    x, names = field(n_samples=60)
    with service(store) as served:
        ids = served.predict(x[:40]).ids
        for id, name in zip(ids, names[:40], strict=True):
            served.label(id, NAMES[(NAMES.index(name) + 1) % 3])
            served.label(id, name, settle=True)
        for name in NAMES:  # contradicting
            served.label(ids[3], name)
        undone = [served.unlabel(ids[3]) for _ in range(2)]
        verdict = served.learn()
        newer = served.predict(x[40:]).ids
    with service(store) as served:
        answers = served.predict(x).names
        kinds = [each["kind"] for each in served.events()]
        return {
            "undone": undone, "verdict": verdict, "newer": newer, "answers": answers,
            "kinds": kinds, "asked": sorted(served.ask(5)),
            "latest": [each["id"] for each in served.samples(limit=10)],
            "labels": {id: served.sample(id)["label"] for id in ids},
            "versions": [(each["number"], each["state"]) for each in served.versions()],
        }  # fmt: skip


def jumping(seed: int) -> Callable[[], float]:
    """A clock that is anywhere between 1970 and the next century, at each look."""
    random = np.random.default_rng(seed)
    return lambda: float(random.uniform(0, 150 * YEAR_S))


def backwards() -> Callable[[], float]:
    """A clock that loses a day at each look."""
    looks = iter(range(10**6))
    return lambda: 60 * YEAR_S - 86_400.0 * next(looks)


@pytest.mark.parametrize("clock", [jumping(0), jumping(1), backwards(), lambda: 0.0])
def test_what_happens_does_not_depend_on_the_clock(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady = life(tmp_path / "steady")
    assert steady["versions"][-1] == (1, "adopted")
    monkeypatch.setattr(time, "time", clock)
    assert life(tmp_path / "jumps") == steady
