"""Training on rows of less precision is training on the numbers that their codes stand for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.adapters.coded import DTYPES, CodedRows
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.backbones.base import Backbone, Taps
from skip2lora.errors import ParameterError
from skip2lora.tasks.task import CLASSIFICATION, Goal
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import train
from skip2lora.training.options import resolve_options

CODED = [name for name in DTYPES if name != "float32"]
WIDTHS, N_OUTPUTS, N_SAMPLES = (20, 37), 3, 90


class Known(Backbone):
    """Rows by the number of a sample, which is all that a sample has; counts them."""

    tap_widths, n_outputs, fingerprint = WIDTHS, N_OUTPUTS, "known"

    def __init__(self, taps: tuple[np.ndarray, ...], logits: np.ndarray) -> None:
        self.taps_of, self.logits_of, self.n_forwards = taps, logits, 0

    def forward(self, x: np.ndarray) -> Taps:
        at = x[:, 0].astype(int)
        self.n_forwards += len(at)
        return Taps(tuple(tap[at] for tap in self.taps_of), self.logits_of[at])


def known(seed: int = 0) -> Known:
    random = np.random.default_rng(seed)
    y = np.arange(N_SAMPLES) % 3
    taps = tuple(
        (random.normal(y[:, None] * 0.5, 1, (N_SAMPLES, width)) * 3 + 1).astype(np.float32)
        for width in WIDTHS
    )
    return Known(taps, random.normal(size=(N_SAMPLES, N_OUTPUTS)).astype(np.float32))


def decoded(model: Known, kind: str) -> Known:
    """The model whose taps are what the codes of its rows stand for."""
    rows = RowFormat.of(model, dtype=kind)
    cache = SkipCache.of(rows, N_SAMPLES)
    cache.fill(model, np.arange(N_SAMPLES, dtype=np.float32)[:, None])
    assert isinstance(cache.rows, CodedRows)
    back = cache.rows[:]
    taps = tuple(
        back[:, at : at + width] for at, width in zip(rows.layout.tap_offsets, WIDTHS, strict=True)
    )
    assert not any(np.array_equal(a, b) for a, b in zip(taps, model.taps_of, strict=True))
    return Known(taps, model.logits_of)


def trained(model: Known, **asked: object) -> object:
    x = np.arange(N_SAMPLES, dtype=np.float32)[:, None]
    y = (np.arange(N_SAMPLES) % 3).astype(np.int32)
    options = resolve_options(model.recipe, WIDTHS, N_SAMPLES, seed=3, **asked)
    return train(model, CheckedSamples(x, y), options, goal=Goal(CLASSIFICATION, N_OUTPUTS))


def tensors(done: object) -> dict[str, np.ndarray]:
    return done.adapters.tensors()


STEPS = {"solver": "steps", "epochs": 4, "batch_size": 7, "learning_rate": 0.01}


@pytest.mark.parametrize("kind", CODED)
@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_steps_are_those_on_the_decoded_rows(kind: str, validation: float) -> None:
    options = {**STEPS, "standardize": False, "optimizer": "adam"}
    of_codes = trained(known(), cache_dtype=kind, **options)
    of_floats = trained(decoded(known(), kind), **options)
    for name, tensor in tensors(of_floats).items():
        np.testing.assert_array_equal(tensors(of_codes)[name], tensor, err_msg=name)
    same = replace(of_codes.history, cache=of_floats.history.cache)  # filled before, or in an epoch
    assert same == of_floats.history
    if validation:
        options["validation"] = validation
        of_codes = trained(known(), cache_dtype=kind, **options)
        assert len(of_codes.history.validation_loss) == 4


@pytest.mark.parametrize("kind", CODED)
def test_scaled_steps_are_those_on_the_decoded_rows(kind: str) -> None:
    """Statistics are those of the rows as they were computed, so near is all that it can be."""
    options = {**STEPS, "standardize": True, "optimizer": "sgd"}
    of_codes = tensors(trained(known(), cache_dtype=kind, **options))
    of_floats = tensors(trained(decoded(known(), kind), **options))
    for name, tensor in of_floats.items():
        near = 0.06 if kind == "int4" else 0.01
        np.testing.assert_allclose(of_codes[name], tensor, atol=near * np.abs(tensor).max())


@pytest.mark.parametrize("kind", CODED)
@pytest.mark.parametrize("validation", [0.0, 0.2])
@pytest.mark.parametrize("rank", [None, 2])
def test_exact_fits_are_those_of_the_decoded_rows(
    kind: str, validation: float, rank: int | None
) -> None:
    options = {"solver": "exact", "penalty": 0.01, "validation": validation, "rank": rank}
    of_codes = trained(known(), cache_dtype=kind, **options)
    of_floats = trained(decoded(known(), kind), **options)
    near = 2e-3  # held out rows are kept later, which may change a range and so every code
    if validation and "int" in kind:
        near = 0.02 if kind == "int8" else 0.3
    for name, tensor in tensors(of_floats).items():
        mine = tensors(of_codes)[name]
        if rank is None:
            np.testing.assert_allclose(mine, tensor, atol=near * np.abs(tensor).max())
    assert of_codes.history.loss == pytest.approx(of_floats.history.loss, rel=near)


@pytest.mark.parametrize("kind", CODED)
@pytest.mark.parametrize("options", [STEPS, {"solver": "exact", "penalty": 0.1}, {}])
def test_every_sample_passes_the_model_once(kind: str, options: dict[str, object]) -> None:
    for validation in (0.0, 0.2):
        model = known()
        done = trained(model, cache_dtype=kind, validation=validation, **options)
        assert model.n_forwards == done.history.n_forwards == N_SAMPLES
        fit = done.measure(["a", "b", "c"], 3)
        assert fit is not None
        assert model.n_forwards == N_SAMPLES
        floats = trained(known(), validation=validation, **options)
        share = {"int8": 0.31, "int4": 0.2}.get(kind, 0.54)  # logits are 1 of 20 floats here
        assert done.cache_bytes < share * floats.cache_bytes
        logits = done.adapters.tensors()
        assert all(np.isfinite(tensor).all() for tensor in logits.values())


def test_float32_is_what_it_was() -> None:
    for options in (STEPS, {"solver": "exact", "penalty": 0.1}):
        one, other = trained(known(), **options), trained(known(), cache_dtype="float32", **options)
        for name, tensor in tensors(one).items():
            np.testing.assert_array_equal(tensors(other)[name], tensor)


def test_methods_of_the_network_take_them() -> None:
    random = np.random.default_rng(0)
    model = s2.MLP.create([6, 8, 8, 2], seed=0)
    x = random.normal(size=(40, 6)).astype(np.float32)
    y = np.arange(40) % 2
    for method in ("ft-last", "lora-last", "skip-lora"):
        for kind in CODED:
            one = s2.adapt(model, x, y, method=method, cache=True, epochs=3, cache_dtype=kind)
            other = s2.adapt(model, x, y, method=method, cache=True, epochs=3)
            near = 0.3 if kind == "int4" else 0.03
            np.testing.assert_allclose(one.logits(x), other.logits(x), atol=near)
            assert not np.array_equal(one.logits(x), other.logits(x))
            assert one.history.n_forwards == other.history.n_forwards == 40


def test_a_rule_of_the_network_takes_them() -> None:
    random = np.random.default_rng(0)
    model = s2.MLP.create([6, 8, 8, 2], seed=0)
    x = random.random(size=(60, 6)).astype(np.float32)
    y = np.arange(60) % 2
    for kind in ("float16", "int8"):
        one = s2.adapt(model, x, y, cache_dtype=kind)
        other = s2.adapt(model, x, y)
        np.testing.assert_allclose(one.logits(x), other.logits(x), atol=0.2)
        assert one.history.tried[0].held_out is not None


def test_a_word_that_is_none() -> None:
    with pytest.raises(ParameterError, match="cache_dtype is 'int16', expected one of float32, "):
        s2.adapt(s2.MLP.create([6, 8, 2]), np.ones((4, 6)), [0, 1, 0, 1], cache_dtype="int16")


def test_a_tap_beyond_float16_is_said() -> None:
    model = known()
    model.taps_of[1][7, 3] = 1e6
    for options in (STEPS, {"solver": "exact", "penalty": 0.1}):
        with pytest.raises(ParameterError, match="float16, and a tap of the model has 1e"):
            trained(model, cache_dtype="float16", **options)
        trained(model, cache_dtype="bfloat16", **options)


@pytest.mark.parametrize("limit", [{"cache_samples": 30}, {"cache_size": 5000}])
@pytest.mark.parametrize("standardize", [False, True])
def test_a_cache_of_some_samples(limit: dict[str, int], standardize: bool) -> None:
    options = {**STEPS, "standardize": standardize, **limit}
    one, other = (trained(known(), cache_dtype=kind, **options) for kind in ("int8", "float32"))
    use = one.history.cache
    assert 0 < use.capacity < N_SAMPLES
    if "cache_samples" in limit:
        assert one.history.n_forwards == other.history.n_forwards
    else:  # in so many bytes are more rows
        assert one.history.n_forwards < other.history.n_forwards
    for name, tensor in tensors(other).items():
        np.testing.assert_allclose(tensors(one)[name], tensor, atol=0.02 * np.abs(tensor).max())


def test_rows_that_change_places_are_floats() -> None:
    for policy in ("lru", "fifo"):
        with pytest.raises(ParameterError, match=f"cache_policy is {policy} with cache_dtype int8"):
            trained(known(), cache_dtype="int8", cache_samples=9, cache_policy=policy, **STEPS)
