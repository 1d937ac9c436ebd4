"""Watching: samples are told by their numbers for good."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from skip2lora.errors import DataError, ParameterError
from skip2lora.serve.drift import DriftDetector
from skip2lora.serve.watching import CHANGED, WATCHING, Watching


def taps(seed: int, count: int, shift: float = 0.0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(shift, 1, (count, 6)).astype(np.float32)


def test_phases_begin_once_and_samples_are_numbers_of_the_store() -> None:
    watching, alone = Watching(6, 200), DriftDetector((6,), learn=200)
    parts = [
        (taps(0, 150), 11),
        (taps(1, 100), 161),
        (taps(2, 40, 4.0), 300),
        (taps(3, 5, 4.0), 340),
    ]
    phases = []
    for part, first in parts:
        phases.append(watching.add(part, first))
        alone.add([part])
    assert phases == [None, WATCHING, CHANGED, None]
    state, expected = watching.state, alone.state
    assert expected.since is not None
    assert state.since == expected.since + 340 - 290  # samples of others came between
    assert (state.statistic, state.severity, state.novel) == (
        expected.statistic, expected.severity, expected.novel,
    )  # fmt: skip


def test_it_goes_on_from_its_bytes() -> None:
    one = Watching(6, 200)
    one.add(taps(0, 210), 7)
    other = Watching(6, 200)
    other.restore(one.to_bytes())
    assert other.state == one.state
    for watching in (one, other):
        watching.add(taps(1, 30, 4.0), 217)
    assert other.state == one.state
    assert other.state.alarm
    other.renew()
    assert other.state.phase == "learning"


def test_damage_and_few_samples_are_refused() -> None:
    watching = Watching(6, 200)
    with pytest.raises(DataError, match="learn it anew"):
        watching.restore(b"1\nnothing")
    with pytest.raises(ParameterError):
        Watching(6, 199)
