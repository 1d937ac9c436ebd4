"""The arithmetic of `skip2lora bench`; how fast anything is, no test says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora import _core, bench
from skip2lora.bench import FAN_WIDTHS, method_time, run_bench
from skip2lora.errors import DivergedError, ParameterError
from skip2lora.machine import cpu_name
from skip2lora.methods import METHODS
from skip2lora.spread import Spread
from skip2lora.training.costs import method_costs, skip_cost

WIDTHS = (9, 6, 5, 3)


@pytest.fixture(scope="module")
def result():
    model = s2.MLP.create(WIDTHS, seed=1)
    before = {name: array.copy() for name, array in model.tensors().items()}
    rounds = []
    measured = run_bench(
        model, n_samples=25, batch_size=10, rank=2, rounds=3, seconds=0.001,
        callback=lambda: rounds.append(1),
    )  # fmt: skip
    for name, array in model.tensors().items():
        np.testing.assert_array_equal(array, before[name])
    assert len(rounds) == 3
    return measured


def test_rate_and_share_of_the_peak():
    # 3 million operations in 100 us are 30 GFLOP/s, three tenths of 100.
    of = method_time(Spread(100.0, 90.0, 130.0), 3_000_000, 100.0)
    assert of.gflops == pytest.approx(30.0)
    assert of.share_of_peak == pytest.approx(0.3)


def test_operations_are_the_mean_of_whole_and_short_batches(result):
    """25 samples are batches of 10, 10 and 5; batch statistics need no more than 2."""
    for name, of in result.methods.items():
        costs = [method_costs(WIDTHS, batch=n, rank=2, epochs=None)[name] for n in (10, 10, 5)]
        expected = sum(cost.operations for cost in costs) / 3
        assert of.operations == pytest.approx(expected, abs=1), name


def test_one_row_tails_count_for_the_methods_that_take_them():
    model = s2.MLP.create(WIDTHS)
    measured = run_bench(model, n_samples=21, batch_size=10, rank=2, rounds=1, seconds=0.001)
    whole = method_costs(WIDTHS, batch=10, rank=2, epochs=None)["ft-all"].operations
    assert measured.methods["ft-all"].operations == whole  # the tail is skipped
    all_ = method_costs(WIDTHS, batch=21, rank=2, epochs=None)["skip2-lora"].operations
    assert measured.methods["skip2-lora"].operations == round(all_ / 3)


def test_every_method_is_measured_and_the_numbers_fit_together(result):
    assert tuple(result.methods) == tuple(METHODS)
    for of in result.methods.values():
        us = of.us_a_batch
        assert 0 < us.smallest <= us.median <= us.largest
        assert of.gflops == pytest.approx(of.operations / us.median / 1e3)
        assert of.share_of_peak == pytest.approx(of.gflops / result.peak_gflops.median)
    assert result.cache_fill_us_a_sample == pytest.approx(result.cache_fill_ms.median * 1e3 / 25)


def test_what_was_measured_is_told(result):
    assert result.widths == WIDTHS
    assert (result.n_samples, result.batch_size, result.rank, result.rounds) == (25, 10, 2, 3)
    assert result.kernels == _core.kernels()
    assert result.cpu == cpu_name() != ""
    assert result.cache_bytes == 25 * (6 + 5 + 3) * 4
    assert result.n_threads == 1


def test_the_warm_up_is_not_counted():
    of = run_bench(s2.MLP.create(WIDTHS), n_samples=20, rank=2, rounds=1, seconds=0.001)
    spreads = [of.peak_gflops, of.cache_fill_ms, of.predict_us, of.predict_batched_us]
    for spread in (*spreads, *(method.us_a_batch for method in of.methods.values())):
        assert spread.smallest == spread.median == spread.largest


def test_without_a_model_it_is_the_fan_network():
    assert run_bench(n_samples=20, rounds=1, seconds=0.001).widths == FAN_WIDTHS


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"n_samples": 1}, "samples is 1"),
        ({"n_samples": 10**9}, "samples is 1000000000"),
        ({"batch_size": 500}, "batch_size is 500"),
        ({"rank": 97}, "rank is 97"),
        ({"rank": 0}, "rank is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": -1, "model": s2.MLP.create(WIDTHS)}, "seed is -1"),
        ({"seconds": 0}, "seconds is 0"),
        ({"seconds": 61}, "seconds is 61"),
    ],
)
def test_options_out_of_range(refused, options, said):
    assert said in refused(ParameterError, run_bench, **options)


def test_a_model_that_gives_no_finite_loss(refused):
    model = s2.MLP.create(WIDTHS, batch_norm=False)
    weights = [list(layer.arrays()) for layer in model.layers]
    for arrays in weights:
        arrays[0] = arrays[0] * np.float32(1e30)
    broken = model.with_layers(weights)
    said = refused(DivergedError, run_bench, broken, n_samples=20, rank=2, rounds=1)
    assert "random samples" in said


class Clock:
    """Goes on by half a second whenever something is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.done = 100.0, []
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def predict(self, x: Any) -> None:
        self.now += 0.5
        self.done.append(len(x))

    def epoch(self, _: float) -> Any:
        self.now += 0.5
        return SimpleNamespace(status=_core.OK)


def test_time_of_a_sample_alone_and_among_others(monkeypatch):
    clock = Clock(monkeypatch)
    one, among = bench._predict_seconds(clock, np.zeros((7, 2)), 1.9)
    assert (one, among) == (0.5, pytest.approx(0.5 / 7))
    assert clock.done == [1] * 7 + [7] * 4
    clock = Clock(monkeypatch)
    bench._predict_seconds(clock, np.zeros((300, 2)), 0.1)
    assert clock.done == [1] * 200 + [300]


def test_time_of_a_batch(monkeypatch):
    work = bench._Work(Clock(monkeypatch), n_batches=5, n_seen=50)
    assert bench._seconds_a_batch(work, 1.9) == pytest.approx(0.1)


def test_rounds_are_put_together(monkeypatch):
    """Medians of all but the first, in the units that the names say."""
    rounds = iter(range(4))

    def one_round(works: Any, fill: Any, x: Any, seconds: float) -> Any:
        at = next(rounds)
        assert (len(x), seconds) == (20, 0.25)
        us = {name: 10.0 * at + number for number, name in enumerate(works)}
        return bench._Round(100.0 - at, us, 5.0 + at, 6.0 + at, 7.0 + at, 80 + at, 90 + at)

    monkeypatch.setattr(bench, "_round", one_round)
    model = s2.MLP.create(WIDTHS)
    of = run_bench(model, n_samples=20, batch_size=5, rank=2, rounds=3, seconds=0.25)
    assert of.peak_gflops == Spread(98, 97, 99)
    assert of.cache_fill_ms == Spread(7, 6, 8)
    assert (of.predict_us, of.predict_batched_us) == (Spread(8, 7, 9), Spread(9, 8, 10))
    assert (of.cache_bytes, of.cache_overhead_bytes) == (83, 93)
    assert of.methods["ft-last"].us_a_batch == Spread(21, 11, 31)
    assert of.cache_fill_us_a_sample == pytest.approx(350)


def test_a_round_is_in_the_units_that_its_names_say(monkeypatch):
    monkeypatch.setattr(_core, "peak_gflops", lambda seconds: 40 * seconds)
    monkeypatch.setattr(bench, "_seconds_a_batch", lambda work, seconds: work * seconds)
    monkeypatch.setattr(bench, "_predict_seconds", lambda adapted, x, seconds: (3e-6, 2e-6))
    adapted = SimpleNamespace(
        timing=SimpleNamespace(cache_fill_ms=9.0), cache_bytes=10, cache_overhead_bytes=11
    )
    of = bench._round({"a": 2e-6, "b": 3e-6}, lambda: adapted, None, 0.5)
    assert of.us_a_batch == pytest.approx({"a": 1.0, "b": 1.5})
    assert (of.peak_gflops, of.cache_fill_ms) == (20, 9)
    assert (of.predict_us, of.predict_batched_us) == (pytest.approx(3), pytest.approx(2))
    assert (of.cache_bytes, of.cache_overhead_bytes) == (10, 11)


def test_a_model_of_another_runtime():
    """Skip2-LoRA alone, on fewer samples, of what the taps and outputs cost."""
    model = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    of = run_bench(model, rank=2, rounds=1, seconds=0.001)
    assert tuple(of.methods) == ("skip2-lora",)
    assert (of.n_samples, of.widths) == (64, model.tap_widths)
    expected = skip_cost(model.tap_widths, 3, 64, 2).operations / 4  # batches of 20 and 4
    assert of.methods["skip2-lora"].operations == round(expected)
    model.n_outputs = 0
    assert run_bench(model, n_samples=20, rank=2, rounds=1, seconds=0.001).cache_bytes > 0


def test_samples_and_labels_are_those_of_the_seed():
    model = s2.MLP.create(WIDTHS)
    one, same, other = (bench._random_part(model, 50, seed) for seed in (3, 3, 4))
    assert one.y.tolist() == same.y.tolist() != other.y.tolist()
    assert set(one.y.tolist()) == {0, 1, 2}


def test_what_is_measured_unless_told(monkeypatch):
    """The samples, batches and rank of the paper, five times."""
    rounds: list[int] = []

    def one_round(works: Any, fill: Any, x: Any, seconds: float) -> Any:
        rounds.append(len(x))
        return bench._Round(1.0, dict.fromkeys(works, 1.0), 1.0, 1.0, 1.0, 1, 1)

    monkeypatch.setattr(bench, "_round", one_round)
    of = run_bench()
    assert (of.widths, of.n_samples, of.batch_size, of.rank, of.rounds) == (
        (256, 96, 96, 3), 470, 20, 4, 5,
    )  # fmt: skip
    assert rounds == [470] * 6
