"""The arithmetic of `skip2lora bench`; how fast anything is, no test says."""

from __future__ import annotations

import numpy as np
import pytest

import skip2lora as s2
from skip2lora import _core
from skip2lora.bench import FAN_WIDTHS, method_time, run_bench
from skip2lora.errors import DivergedError, ParameterError
from skip2lora.machine import cpu_name
from skip2lora.methods import METHODS
from skip2lora.spread import Spread
from skip2lora.training.costs import method_costs

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
