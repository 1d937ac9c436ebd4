"""A change is noticed without labels: against plain NumPy, on recorded fans; refusals."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.datasets import fan
from skip2lora.errors import DataError, ParameterError
from skip2lora.paper.protocol import TASKS, load_split, pretrained
from skip2lora.serve.drift import LEAST, ROWS, DriftDetector, DriftState
from skip2lora.serve.reference import Reference

WIDTHS = (5, 3)
Taps = list[np.ndarray]


def taps(n: int, seed: int = 0, shift: float = 0.0) -> Taps:
    random = np.random.default_rng([n, seed])
    return [(random.normal(size=(n, w)) + shift).astype(np.float32) for w in WIDTHS]


def part(of: Taps, which: slice | np.ndarray) -> Taps:
    return [np.ascontiguousarray(tap[which]) for tap in of]


def learned(**options: int) -> DriftDetector:
    detector = DriftDetector(WIDTHS, **options)
    detector.add(taps(detector.state.learn))
    return detector


def plain_p(of: Reference, rows: np.ndarray) -> np.ndarray:
    """p-values (2, rows), in the state and among all, by a sort of all distances."""
    scaled = [(each.astype(float) - of.mean) * of.scale for each in (of.rows, of.centres, rows)]
    reference, centres, new = scaled

    def mode(each: np.ndarray) -> np.ndarray:
        return np.square(each[:, None] - centres).sum(axis=2).argmin(axis=1)

    own, p = mode(reference), np.empty((2, len(rows)))
    for at, row in enumerate(new):
        every = np.concatenate([reference, row[None]])
        apart = np.sqrt(np.square(every[:, None] - every).sum(axis=2))
        novelty = np.sort(apart, axis=1)[:, 5]  # the first is the row itself
        same = own == mode(row[None])
        as_novel = novelty[:-1] >= novelty[-1]  # the new row among the others
        p[:, at] = [(1 + as_novel[of].sum()) / (1 + of.sum()) for of in (same, same | True)]
    return p


def plain_alarm(p: np.ndarray, limit: float = 1e5) -> int | None:
    powers, statistic = np.array([0.1, 0.3, 0.5, 0.7, 0.9]), 0.0
    for at, (each, of_all) in enumerate(p.T):
        bets = [(powers * of ** (powers - 1)).mean() for of in (each, each, of_all)]
        statistic = (1 + statistic) * np.mean(bets)
        if statistic >= limit:
            return at
    return None


def test_as_in_plain_numpy() -> None:
    detector = learned()
    quiet, shifted = taps(40, 1), taps(40, 2, shift=1.5)
    p = np.concatenate([detector.add(quiet), detector.add(shifted)])
    rows = np.concatenate([np.concatenate(quiet, axis=1), np.concatenate(shifted, axis=1)])
    reference = Reference.of(np.concatenate(taps(ROWS), axis=1), WIDTHS, 0)
    expected = plain_p(reference, rows)
    assert p == pytest.approx(expected[0], rel=1e-9)
    assert not np.array_equal(*expected)
    alarm = plain_alarm(expected)
    assert alarm is not None
    state = detector.state
    assert state.alarm_at == ROWS + alarm
    assert state.phase == "changed"
    assert state.alarm
    assert state.since is not None
    assert abs(state.since - (ROWS + 40)) <= 2
    assert state.novel == pytest.approx((expected[0, -50:] < 0.05).mean())
    assert state.severity == ("changed" if state.novel <= 0.7 else "strong")


def test_phases_and_counts() -> None:
    detector = DriftDetector(WIDTHS, learn=250)
    assert np.isnan(detector.add(taps(249))).all()
    state = detector.state
    assert (state.phase, state.n_learned, state.n_reference) == ("learning", 249, 0)
    p = detector.add(taps(5, 1))
    assert np.isnan(p).tolist() == [True, False, False, False, False]
    state = detector.state
    assert (state.phase, state.n_samples, state.n_reference) == ("watching", 254, 250)
    assert (state.alarm, state.since, state.severity) == (False, state.since, "none")
    detector.add(taps(60, 2, shift=9))
    state = detector.state
    assert (state.phase, state.severity, state.alarm) == ("changed", "strong", True)
    assert state.alarm_at is not None
    assert 254 < state.alarm_at < 280
    detector.add(taps(200, 3))
    state = detector.state
    assert (state.phase, state.severity) == ("changed", "none")  # over, and still to be looked at
    detector.dismiss()
    state = detector.state
    assert (state.phase, state.statistic, state.since) == ("watching", 0, None)
    detector.new_reference(learn=200)
    assert detector.state.phase == "learning"
    detector.add(taps(200, 4, shift=9))
    detector.add(taps(300, 5, shift=9))
    state = detector.state
    assert (state.phase, state.n_samples, state.learn) == ("watching", 254 + 960 - 200, 200)


@pytest.mark.parametrize(
    ("n_rows", "share", "severity"),
    [
        (9, 1.0, "none"), (10, 0.149, "none"), (10, 0.15, "changed"), (10, 0.7, "changed"),
        (10, 0.701, "strong"), (0, 0.0, "none"),
    ],
)  # fmt: skip
def test_severity_is_a_rank_by_the_share_of_novel_samples(
    n_rows: int, share: float, severity: str
) -> None:
    detector = learned()
    detector._change = SimpleNamespace(state=(n_rows, 3, 0, 0.0, 5.0, 0), share=share)  # type: ignore[assignment]
    state = detector.state
    assert (state.severity, state.novel, state.statistic) == (severity, share, 5.0)
    assert (state.phase, state.since, state.alarm_at) == ("watching", ROWS + 2, None)
    detector._change = SimpleNamespace(state=(n_rows, 0, 1, 0.0, 5.0, 0), share=share)  # type: ignore[assignment]
    state = detector.state
    assert (state.phase, state.alarm, state.since) == ("changed", True, None)
    assert state.alarm_at == ROWS


def test_what_is_kept_is_drawn_from_all_that_was_learned() -> None:
    detector = DriftDetector(WIDTHS, learn=1500)
    numbers = np.arange(1500, dtype=np.float32)[:, None]
    detector.add([np.repeat(numbers, width, axis=1) for width in WIDTHS])
    reference = detector._reference
    assert reference is not None
    kept = reference.rows[:, 0]
    assert len(set(kept.tolist())) == ROWS
    assert np.histogram(kept, 5, (0, 1500))[0].min() > 40
    draws = np.random.Generator(np.random.PCG64([0, 0])).random(1500)
    places = list(range(ROWS))  # as Vitter's algorithm R: each later one takes a place by chance
    for number in range(ROWS, 1500):
        place = int(draws[number] * (number + 1))
        if place < ROWS:
            places[place] = number
    assert kept.tolist() == places


@pytest.mark.parametrize("learn", [300, 700])
def test_how_samples_come_changes_nothing(learn: int) -> None:
    every = [np.concatenate(pair) for pair in zip(taps(learn), taps(60, 1, 1.0), strict=True)]
    whole = DriftDetector(WIDTHS, learn=learn, seed=3)
    whole_p = whole.add(every)
    single = DriftDetector(WIDTHS, learn=learn, seed=3)
    p = np.concatenate([single.add(part(every, slice(i, i + 1))) for i in range(learn + 60)])
    assert np.array_equal(p, whole_p, equal_nan=True)
    assert single.state == whole.state
    other = DriftDetector(WIDTHS, learn=learn, seed=4)
    assert not np.array_equal(other.add(every), whole_p, equal_nan=True)


@pytest.mark.parametrize("seen", [0, 150, 299, 300, 350, 420])
def test_going_on_from_bytes(seen: int) -> None:
    every = [np.concatenate(pair) for pair in zip(taps(320), taps(130, 1, 1.0), strict=True)]
    detector = DriftDetector(WIDTHS, learn=300, seed=5, limit=500)
    detector.add(part(every, slice(0, seen)))
    again = DriftDetector.from_bytes(detector.to_bytes())
    assert again.state == detector.state
    rest = part(every, slice(seen, None))
    assert np.array_equal(detector.add(rest), again.add(rest), equal_nan=True)
    assert again.state == detector.state


def test_a_second_reference_goes_on_from_bytes() -> None:
    detector = learned(learn=400)
    detector.new_reference()
    detector.add(taps(350, 1))
    again = DriftDetector.from_bytes(detector.to_bytes())
    for each in (detector, again):
        each.add(taps(50, 2))
    assert again.to_bytes() == detector.to_bytes()


def test_damaged_bytes_are_refused(refused) -> None:
    good = learned().to_bytes()
    flipped = good[:5000] + bytes([good[5000] ^ 1]) + good[5001:]
    for content in (b"", good[:-30], good[:200], flipped):
        assert "learn it anew" in refused(DataError, DriftDetector.from_bytes, content)


def test_refusals(refused) -> None:
    refused(ParameterError, DriftDetector, WIDTHS, learn=LEAST - 1)
    refused(ParameterError, DriftDetector, WIDTHS, limit=0)
    refused(ParameterError, DriftDetector, ())
    detector = DriftDetector(WIDTHS)
    bad = taps(250)
    bad[0][17, 2] = np.nan
    assert "sample 17" in refused(DataError, detector.add, bad)
    assert detector.state.n_samples == 0
    detector.add(taps(LEAST - 1))
    assert "199" in refused(DataError, detector.finish_learning)
    detector.add(taps(1))
    detector.finish_learning()
    assert detector.state.n_reference == LEAST
    assert "new_reference" in refused(DataError, detector.finish_learning)
    before = detector.state
    refused(DataError, detector.add, bad)
    refused(DataError, detector.add, taps(3)[:1])
    assert detector.state == before
    refused(ParameterError, detector.new_reference, 10)
    assert detector.state == before


def test_exchangeable_samples_raise_no_alarm() -> None:
    """30 references with 1,000 samples each, of five operating states."""
    for seed in range(30):
        random = np.random.default_rng(seed)
        centres = random.normal(size=(5, 12)) * 4

        def draw(n: int, random: np.random.Generator = random, centres=centres) -> Taps:
            rows = centres[random.integers(0, 5, n)] + random.normal(size=(n, 12))
            return [rows.astype(np.float32)]

        detector = DriftDetector((12,), seed=seed)
        detector.add(draw(ROWS))
        p = detector.add(draw(1000))
        assert not detector.state.alarm
        for level in (0.05, 0.1, 0.3):
            assert (p <= level).mean() < level * 1.5 + 0.01


class Fans:
    """Taps of a network of the quiet room: that room on another day, and the noisy one."""

    def __init__(self, task: str, seed: int, data: Path) -> None:
        split = load_split(task, data)
        names = [f"12cm_hmlo_{of}_silentA_2.zip" for of in ("normal", task)]
        quiet = fan.load_pair(*(data / "cooling-fan" / name for name in names))
        self.model: s2.MLP = pretrained(split, replace(TASKS[task], pretrain_epochs=40), seed)
        self.quiet, self.noisy = (self.taps(x) for x in (quiet.x, split.finetune.x))

    def taps(self, x: np.ndarray) -> Taps:
        return list(self.model.forward(x).taps)


@pytest.fixture(scope="module", params=itertools.product(["damage1", "damage2"], range(2)))
def fans(request: pytest.FixtureRequest, data_folder: Path) -> Fans:
    task, seed = request.param
    return Fans(task, seed, data_folder)


def test_fans(fans: Fans) -> None:
    """Every second sample of a quiet day is the reference; nothing was chosen by these bounds."""
    detector = DriftDetector(fans.model.tap_widths, learn=235)
    detector.add(part(fans.quiet, slice(0, None, 2)))
    content = detector.to_bytes()
    rest = part(fans.quiet, slice(1, None, 2))
    random = np.random.default_rng(0)

    def state_after(of: Taps) -> DriftState:
        again = DriftDetector.from_bytes(content)
        again.add(of)
        return again.state

    recorded = state_after(rest)
    assert recorded.phase == "watching"
    assert recorded.severity == "none"
    resampled = state_after(part(rest, random.integers(0, len(rest[0]), 5000)))
    assert resampled.phase == "watching"
    for order in (slice(None), random.permutation(len(fans.noisy[0]))):
        state = state_after(part(fans.noisy, order))
        assert state.alarm_at is not None
        assert state.alarm_at - 235 < 12
        assert state.since is not None
        assert state.since - 235 <= 2
        assert state.severity == "strong"
