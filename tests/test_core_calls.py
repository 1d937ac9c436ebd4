"""Numbers out of range and two calls at a time, which could make the core corrupt memory, raise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from skip2lora import _core

WIDTHS, N_OUTPUTS, N_SAMPLES, BATCH = (6, 5), 3, 8, 4
TYPES = [(_core.Y, 0, 0), (_core.Y | _core.W | _core.B, 0, 0)]


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def network() -> _core.Network:
    hidden, last = (zeros(6, 5), zeros(5)), (zeros(5, N_OUTPUTS), zeros(N_OUTPUTS))
    nothing = (None,) * 6
    return _core.Network([(*hidden, *nothing), (*last, *nothing)], 1e-5, 0.1)


def leave(indices: np.ndarray, rows: np.ndarray) -> None:
    """A forward pass that computes nothing."""


class Parts:
    """One of everything that training needs; ``forward`` computes the rows."""

    def __init__(self, forward: Any = leave) -> None:
        self.layout = _core.RowLayout(WIDTHS, N_OUTPUTS, True)
        self.adapter = _core.SkipAdapter(self.layout, 2)
        self.adapter.init(1)
        self.rows, self.filled = zeros(N_SAMPLES, self.layout.row_stride), np.zeros(8, np.uint8)
        self.source = self.source_of(forward)
        self.profile = _core.Profile()
        self.trainer = self.trainer_of(self.adapter, self.profile)
        self.x, self.labels = zeros(N_SAMPLES, WIDTHS[0]), np.zeros(N_SAMPLES, np.int32)

    def source_of(
        self, forward: Any, rows: np.ndarray | None = None, filled: np.ndarray | None = None
    ) -> _core.RowSource:
        rows = self.rows if rows is None else rows
        filled = self.filled if filled is None else filled
        return _core.RowSource(self.layout, rows, filled, forward)

    def trainer_of(
        self, adapter: _core.SkipAdapter, profile: _core.Profile | None = None
    ) -> _core.SkipTrainer:
        return _core.SkipTrainer(adapter, BATCH, _core.Optimizer(_core.SGD), 0, profile)

    def epoch(
        self, trainer: _core.SkipTrainer | None = None, source: _core.RowSource | None = None
    ) -> _core.Epoch:
        return (trainer or self.trainer).epoch(self.x, self.labels, source or self.source, 0.01)


# ---- numbers out of range ------------------------------------------------------------------------


def forward_from(first_tap: int) -> None:
    layout = _core.RowLayout((6, 6, 5), N_OUTPUTS, False)
    network().forward(zeros(2, 6), layout, first_tap, zeros(2, layout.row_stride))


def pool_on(*grid: int) -> None:
    _core.pool(zeros(0, 1, 1, 4), grid, 1.0, 0, zeros(0, 0))  # type: ignore[arg-type]


def train(batch_size: int) -> None:
    _core.SkipTrainer(Parts().adapter, batch_size, _core.Optimizer(_core.SGD), 0)


def tune(batch_size: int = BATCH, types: int = _core.Y) -> None:
    rows = [(_core.Y, 0, 0), (types, 0, 0)]
    _core.NetworkTrainer(network(), rows, batch_size, _core.Optimizer(_core.SGD), 0)


def adapter_of(tap_widths: list[int], rank: int) -> None:
    _core.SkipAdapter(_core.RowLayout(tap_widths, N_OUTPUTS, False), rank)


def weigh(weight: np.ndarray) -> tuple[float, float]:
    """The losses of both trainers with such weights."""
    of, tuner = Parts(), _core.NetworkTrainer(network(), TYPES, BATCH, _core.Optimizer(0), 0)
    x = zeros(N_SAMPLES, 6)
    one = of.trainer.epoch(of.x, of.labels, of.source, 0.01, weight)
    return one.loss, tuner.epoch(x, of.labels, None, 0.01, weight=weight).loss


def with_last(weight: float) -> np.ndarray:
    weights = np.ones(N_SAMPLES, np.float32)
    weights[-1] = weight
    return weights


OUT_OF_RANGE: dict[str, Callable[[], object]] = {
    # with three taps each of these is, modulo 2^32, the network's first layer
    "first_tap 2^32-1": lambda: forward_from(2**32 - 1),
    "first_tap 2^32": lambda: forward_from(2**32),
    "first_tap -1": lambda: forward_from(-1),
    "pool 2^31 squared": lambda: pool_on(2**31, 2**31),
    "pool 2^32-1": lambda: pool_on(1, 2**32 - 1),
    "pool 0": lambda: pool_on(0, 1),
    "batch_size 0": lambda: train(0),
    "batch_size 2^24+1": lambda: train(2**24 + 1),
    "batch_size 2^32-1": lambda: train(2**32 - 1),
    "network batch_size 0": lambda: tune(0),
    "network batch_size 2^32-1": lambda: tune(2**32 - 1),
    "types 256": lambda: tune(types=256),
    "types 32": lambda: tune(types=32),
    "2^32 hidden values": lambda: adapter_of([65536] + [1] * 65535, 65536),
    "rank 0": lambda: adapter_of([6], 0),
    "rank 2^32-1": lambda: adapter_of([6], 2**32 - 1),
    "loss": lambda: _core.SkipAdapter(Parts().layout, 2, 3),
    "rule": lambda: _core.Optimizer(3),
    "rule -1": lambda: _core.Optimizer(-1),
    "beta1": lambda: _core.Optimizer(_core.ADAM, beta1=1.0),
    "too few weights": lambda: weigh(np.ones(N_SAMPLES - 1, np.float32)),
    "weights of doubles": lambda: weigh(np.ones(N_SAMPLES)),
    "weight -1": lambda: weigh(with_last(-1)),
    "weight NaN": lambda: weigh(with_last(np.nan)),
    "weight infinite": lambda: weigh(with_last(np.inf)),
    "eps": lambda: _core.Optimizer(_core.ADAM, eps=0.0),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_a_number_out_of_range_raises(name: str) -> None:
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        OUT_OF_RANGE[name]()


def test_the_same_calls_with_sound_numbers() -> None:
    layout = _core.RowLayout((5,), N_OUTPUTS, False)
    network().forward(zeros(2, 6), layout, 1, zeros(2, layout.row_stride))
    _core.pool(zeros(0, 1, 1, 4), (1, 1), 1.0, 0, zeros(0, 4))
    train(BATCH)
    tune()
    adapter_of([65536] + [1] * 9, 1)
    halves = np.full(N_SAMPLES, 0.5, np.float32)
    for half, one in zip(weigh(halves), weigh(2 * halves), strict=True):
        assert half == pytest.approx(one / 2, rel=0.01)  # a step lies between two batches


# ---- two calls at a time -------------------------------------------------------------------------


@contextmanager
def at_work() -> Iterator[Parts]:
    """Parts whose trainer is inside of an epoch, in another thread, until the block ends."""
    inside, go, ended = threading.Event(), threading.Event(), []

    def wait(indices: np.ndarray, rows: np.ndarray) -> None:
        rows[...] = 0
        if not ended:
            inside.set()
            go.wait()

    parts = Parts(wait)
    thread = threading.Thread(target=lambda: ended.append(parts.epoch()))
    thread.start()
    inside.wait()
    ended_before = list(ended)
    try:
        yield parts
    finally:
        go.set()
        thread.join()
    assert not ended_before
    assert [epoch.n_seen for epoch in ended] == [N_SAMPLES]
    assert parts.epoch().status == _core.OK  # nobody is left behind


def other(parts: Parts) -> _core.SkipTrainer:
    """A trainer of adapters of its own."""
    return parts.trainer_of(_core.SkipAdapter(parts.layout, 2))


def fresh(parts: Parts) -> _core.RowSource:
    """Rows of the same shape that nobody else has."""
    return parts.source_of(leave, parts.rows.copy(), np.ones(N_SAMPLES, np.uint8))


def read_adapters(parts: Parts) -> None:
    parts.adapter.forward(parts.x, parts.rows, zeros(N_SAMPLES, N_OUTPUTS))


def state_of(trainer: _core.SkipTrainer) -> tuple[tuple[int, float, float], np.ndarray]:
    floats = zeros(trainer.state_floats)
    return trainer.copy_state(floats), floats


def same_profile(parts: Parts) -> None:
    adapter = _core.SkipAdapter(parts.layout, 2)
    parts.epoch(parts.trainer_of(adapter, parts.profile), fresh(parts))


def last_rows(parts: Parts) -> None:
    source = parts.source_of(leave, parts.rows[4:], np.zeros(4, np.uint8))
    other(parts).epoch(parts.x[4:], parts.labels[4:], source, 0.01)


def start_metric(parts: Parts) -> None:
    """From the rows of the cache."""
    lanes = -(-N_SAMPLES // _core.SAMPLE_LANES) * _core.SAMPLE_LANES
    mean, targets, weights = (
        np.zeros(parts.rows.shape[1], np.float32),
        zeros(1, lanes),
        zeros(lanes),
    )
    weights[:N_SAMPLES] = 1 / N_SAMPLES
    taps = [(0, parts.rows.shape[1])]
    problem = _core.PrimalProblem(
        parts.rows, taps, mean, np.ones_like(mean), _core.SQUARED, targets, weights
    )
    _core.Metric(problem)


SECOND: dict[str, tuple[str, Callable[[Parts], object]]] = {
    "the trainer": ("this trainer", lambda of: of.epoch(source=fresh(of))),
    "its source": ("this source", lambda of: of.epoch(other(of))),
    "its cache": ("this cache", lambda of: of.epoch(other(of), of.source_of(leave))),
    "the last rows of its cache": ("this cache", last_rows),
    "the marks of its cache": (
        "this cache",
        lambda of: of.epoch(other(of), of.source_of(leave, of.rows.copy())),
    ),
    "its adapters": (
        "these adapters",
        lambda of: of.epoch(of.trainer_of(of.adapter), fresh(of)),
    ),
    "its adapters, read": ("these adapters", read_adapters),
    "its profile": ("this profile", same_profile),
    "its state": ("this trainer", lambda of: state_of(of.trainer)),
    "its state, put back": (
        "this trainer",
        lambda of: of.trainer.restore_state((1, 1.0, 1.0), zeros(of.trainer.state_floats)),
    ),
    "its adapters, as a state": ("these adapters", lambda of: state_of(of.trainer_of(of.adapter))),
    "its cache, solved on": ("these rows", start_metric),
}


@pytest.mark.parametrize("name", SECOND)
def test_two_threads_in_one_thing_raise(name: str) -> None:
    what, call = SECOND[name]
    error = pytest.raises(RuntimeError, match=f"{what}.*at work in another call.*make another")
    with at_work() as parts, error:
        call(parts)


def test_two_threads_with_things_of_their_own() -> None:
    with at_work() as parts:
        assert parts.epoch(other(parts), fresh(parts)).n_seen == N_SAMPLES
        _core.SkipAdapter(parts.layout, 2).forward(parts.x, parts.rows, zeros(N_SAMPLES, N_OUTPUTS))


def test_an_epoch_within_an_epoch_raises() -> None:
    def forward(indices: np.ndarray, rows: np.ndarray) -> None:
        parts.epoch()

    parts = Parts(forward)
    with pytest.raises(RuntimeError, match="this trainer is at work"):
        parts.epoch()
    assert not parts.filled.any()


def test_a_network_that_is_trained_is_not_run() -> None:
    """All is tried from within its epoch, by the forward pass of its rows."""
    layout = _core.RowLayout((6,), N_OUTPUTS, False)
    rows, filled = zeros(N_SAMPLES, layout.row_stride), np.zeros(N_SAMPLES, np.uint8)
    x, labels = zeros(N_SAMPLES, 2), np.zeros(N_SAMPLES, np.int32)
    net, refused = network(), []
    whole = _core.RowLayout(WIDTHS, N_OUTPUTS, True)
    out = zeros(N_SAMPLES, whole.row_stride)

    def forward(indices: np.ndarray, of: np.ndarray) -> None:
        of[...] = 0
        for call in (
            lambda: net.forward(zeros(N_SAMPLES, 6), whole, 0, out),
            lambda: tuner().epoch(zeros(N_SAMPLES, 6), labels, None, 0.01),
            lambda: tuner().copy_state(zeros(tuner().state_floats)),
        ):
            with pytest.raises(RuntimeError, match="this network is at work"):
                call()
            refused.append(call)

    def tuner() -> _core.NetworkTrainer:
        return _core.NetworkTrainer(net, TYPES, BATCH, _core.Optimizer(_core.SGD), 0)

    source = _core.RowSource(layout, rows, filled, forward)
    assert tuner().epoch(x, labels, source, 0.01).status == _core.OK
    assert len(refused) == 6
    net.forward(zeros(N_SAMPLES, 6), whole, 0, out)


def test_two_threads_may_read_one_network() -> None:
    """Rows out of the network, while its own forward pass serves another call."""
    net = network()
    layout = _core.RowLayout(WIDTHS, N_OUTPUTS, True)

    def forward(indices: np.ndarray, rows: np.ndarray) -> None:
        net.forward(zeros(len(rows), 6), layout, 0, rows)
        inner = Parts(net)
        assert inner.epoch().n_seen == N_SAMPLES

    assert Parts(forward).epoch().n_forward == N_SAMPLES


def test_a_state_put_back_is_gone_on_from() -> None:
    parts = Parts()
    parts.rows[:] = np.random.default_rng(0).random(parts.rows.shape, np.float32)
    parts.filled[:] = 1
    parts.labels[:] = np.arange(N_SAMPLES) % N_OUTPUTS
    adam = _core.Optimizer(_core.ADAM, 0.9, 0.999)
    trainer = _core.SkipTrainer(parts.adapter, 3, adam, 5)
    parts.epoch(trainer)
    state = state_of(trainer)
    onward = [parts.epoch(trainer).loss for _ in range(3)], state_of(trainer)
    assert onward[1][0] != state[0]
    trainer.restore_state(*state)
    again = [parts.epoch(trainer).loss for _ in range(3)], state_of(trainer)
    assert again[0] == onward[0]
    assert again[1][0] == onward[1][0]
    np.testing.assert_array_equal(again[1][1], onward[1][1])


def test_a_state_of_another_size_is_refused() -> None:
    trainer = Parts().trainer
    for size in (trainer.state_floats - 1, trainer.state_floats + 1):
        with pytest.raises(ValueError, match="the state has another number of floats"):
            trainer.copy_state(zeros(size))
        with pytest.raises(ValueError, match="the state has another number of floats"):
            trainer.restore_state((0, 1.0, 1.0), zeros(size))
