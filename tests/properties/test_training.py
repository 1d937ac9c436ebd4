"""Properties of training: what the cache, the seed and the shape of the input cannot change."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.adapters import LayerAdapters, SkipAdapters
from skip2lora.adapters.rows import POLICIES
from skip2lora.backbones.recipe import PAPER
from skip2lora.methods import METHODS as ALL_METHODS
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import train
from skip2lora.training.options import resolve_options

METHODS = tuple(name for name, of in ALL_METHODS.items() if not of.tunes_network)
MakeModel = Callable[..., s2.MLP]
Job = dict[str, Any]


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Sizes of the network, the samples and the training: odd ones, tails and all."""
    widths = draw(st.lists(st.integers(3, 20), min_size=1, max_size=4))
    n_samples = draw(st.integers(2, 40))
    return {
        "widths": [*widths, draw(st.integers(2, 5))],
        "batch_norm": draw(st.booleans()),
        "n_samples": n_samples,
        "options": {
            "epochs": draw(st.integers(1, 3)),
            "batch_size": draw(st.integers(2, n_samples)),
            "learning_rate": draw(st.sampled_from([0.01, 0.3])),
            "seed": draw(st.integers(0, 2**64 - 1)),
        },
        "rank": draw(st.integers(1, 3)),
    }


def build(job: Job, make_model: MakeModel, make_samples: Any) -> tuple[s2.MLP, Any, Any]:
    widths = job["widths"]
    model = make_model(widths, batch_norm=job["batch_norm"])
    return (model, *make_samples(job["n_samples"], widths[0], widths[-1]))


def bytes_of(adapters: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in adapters.tensors().items()}


def run(job: Job, method: str, model: Any, x: Any, y: Any, **changed: Any) -> s2.AdaptedModel:
    options = job["options"] | {"rank": job["rank"]} | changed
    return s2.adapt(model, x, y, method=method, **options)


# --- the cache ------------------------------------------------------------------------------


@given(job=jobs(), capacity=st.integers(0, 45), policy=st.sampled_from([*POLICIES]))
def test_cached_training_is_uncached_training(
    job: Job, capacity: int, policy: str, make_model: MakeModel, make_samples: Any
) -> None:
    model, x, y = build(job, make_model, make_samples)
    part = CheckedSamples(x, y.astype(np.int32))
    for method in ("skip2-lora", "lora-last"):
        options = resolve_options(
            PAPER, model.tap_widths, len(x), method=method, rank=job["rank"], **job["options"],
            cache_samples=0, cache_policy=policy,
        )  # fmt: skip
        without, some, whole = (
            train(model, part, dataclasses.replace(options, cache_samples=size))
            for size in (0, capacity, len(x))
        )
        assert bytes_of(without.adapters) == bytes_of(some.adapters) == bytes_of(whole.adapters)
        assert without.history.loss == some.history.loss == whole.history.loss
        assert without.history.accuracy == some.history.accuracy == whole.history.accuracy
        assert without.history.n_forwards == len(x) * options.epochs
        assert whole.history.n_forwards == len(x)


@given(job=jobs())
def test_skip2_lora_is_skip_lora(job: Job, make_model: MakeModel, make_samples: Any) -> None:
    model, x, y = build(job, make_model, make_samples)
    cached, plain = (
        run(job, method.name, model, x, y)
        for method in (ALL_METHODS["skip2-lora"], ALL_METHODS["skip-lora"])
    )
    assert bytes_of(cached.adapters) == bytes_of(plain.adapters)
    assert cached.logits(x).tobytes() == plain.logits(x).tobytes()
    one, other = cached.history, plain.history
    assert one is not None
    assert other is not None
    assert one.n_forwards == len(x)
    assert other.n_forwards == len(x) * job["options"]["epochs"]
    assert [dataclasses.replace(of, n_forwards=0, cache=None) for of in (one, other)] == [
        dataclasses.replace(other, n_forwards=0, cache=None)
    ] * 2


# --- batches --------------------------------------------------------------------------------


@given(job=jobs())
def test_every_sample_every_epoch(job: Job, make_samples: Any) -> None:
    widths, n_samples = job["widths"], job["n_samples"]
    epochs, size = job["options"]["epochs"], job["options"]["batch_size"]
    backbone = NumpyBackbone(widths, first_tap_is_input=True)
    x, y = make_samples(n_samples, widths[0], widths[-1])
    adapted = run(job, "skip-lora", backbone, x, y)
    tail = [n_samples % size] if n_samples % size else []
    assert backbone.batches == ([size] * (n_samples // size) + tail) * epochs
    assert adapted.history is not None
    assert adapted.history.n_batches == len(backbone.batches)


@given(job=jobs())
def test_one_row_tails_are_left_out_under_batch_statistics(
    job: Job, make_model: MakeModel, make_samples: Any
) -> None:
    model, x, y = build(job, make_model, make_samples)
    size, epochs = job["options"]["batch_size"], job["options"]["epochs"]
    history = run(job, "lora-all", model, x, y).history
    assert history is not None
    smallest = 2 if model.batch_norm else 1
    n_batches = len(x) // size + (len(x) % size >= smallest)
    assert history.n_batches == epochs * n_batches
    assert all(0 <= accuracy <= 1 for accuracy in history.accuracy)


# --- what stays as it was -------------------------------------------------------------------


@pytest.mark.parametrize("method", [*METHODS, "pretrain"])
@given(job=jobs())
def test_model_and_samples_are_not_changed(
    method: str, job: Job, make_model: MakeModel, make_samples: Any
) -> None:
    model, x, y = build(job, make_model, make_samples)
    kept = bytes_of(model), model.fingerprint, x.tobytes(), y.tobytes()
    logits = model.logits(x)
    if method == "pretrain":
        trained = s2.pretrain(model, x, y, **job["options"])
        assert trained.fingerprint != model.fingerprint
        assert trained.widths == model.widths
    else:
        adapted = run(job, method, model, x, y)
        assert adapted.backbone is model
        adapted.predict(x)
    fresh = dataclasses.replace(model)  # its fingerprint is computed again
    assert (bytes_of(model), fresh.fingerprint, x.tobytes(), y.tobytes()) == kept
    assert x.flags.writeable
    assert y.flags.writeable
    assert model.logits(x).tobytes() == fresh.logits(x).tobytes() == logits.tobytes()


# --- zero adapters --------------------------------------------------------------------------


@given(job=jobs(), seed=st.integers(0, 99))
def test_zero_adapters_are_the_backbone(
    job: Job, seed: int, make_model: MakeModel, make_samples: Any
) -> None:
    """With lora_b = 0 whatever lora_a is: as all adapters start."""
    model, x, _ = build(job, make_model, make_samples)
    random, rank = np.random.default_rng(seed), job["rank"]

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    for first_tap in range(len(model.tap_widths)):
        widths = model.tap_widths[first_tap:]
        lora_a = tuple(normal(width, rank) for width in widths)
        zero = tuple(np.zeros((rank, model.n_outputs), np.float32) for _ in widths)
        skip = s2.AdaptedModel(model, SkipAdapters(lora_a, zero, first_tap), "skip2-lora")
        np.testing.assert_array_equal(skip.logits(x), model.logits(x))
    arrays = []
    for layer in model.layers:
        n_in, n_out = layer.weight.shape
        arrays.append((*layer.copy()[:6], normal(n_in, rank), np.zeros((rank, n_out), np.float32)))
    beside = s2.AdaptedModel(model, LayerAdapters(model.with_layers(arrays)), "lora-all")
    np.testing.assert_array_equal(beside.logits(x), model.logits(x))


# --- input ----------------------------------------------------------------------------------

FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda x: x.astype(np.float64),
    "big-endian": lambda x: x.astype(">f4"),
    "Fortran order": np.asfortranarray,
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "some columns": lambda x: np.repeat(x, 3, axis=1)[:, ::3],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "lists": lambda x: x.tolist(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", [*METHODS, "pretrain"])
def test_form_of_the_input_changes_nothing(
    method: str, form: str, make_model: MakeModel, make_samples: Any
) -> None:
    model, (x, y) = make_model([8, 6, 5, 3]), make_samples(23)
    options: Job = {"epochs": 2, "batch_size": 5}
    results = []
    for each, labels in ((x, y), (FORMS[form](x), [float(label) for label in y])):
        if method == "pretrain":
            trained: Any = s2.pretrain(model, each, labels, **options)
            results.append((bytes_of(trained), trained.logits(each).tobytes()))
        else:
            trained = s2.adapt(model, each, labels, method=method, **options)
            results.append((bytes_of(trained.adapters), trained.logits(each).tobytes()))
        assert trained.score(each, labels) == trained.score(x, y)
    assert results[0] == results[1]


# --- seeds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*METHODS, "pretrain"])
@given(
    job=jobs(),
    other=st.integers(0, 2**64 - 1) | st.sampled_from([1 << bit for bit in range(64)]),
)
def test_seed_decides(
    method: str, job: Job, other: int, make_model: MakeModel, make_samples: Any
) -> None:
    # Batches of a few out of many samples: two seeds with one order are then out of the question.
    job = job | {"n_samples": 40, "options": job["options"] | {"batch_size": 7, "seed": 0}}
    model, x, y = build(job, make_model, make_samples)

    def train(seed: int) -> dict[str, bytes]:
        if method == "pretrain":
            return bytes_of(s2.pretrain(model, x, y, **job["options"] | {"seed": seed}))
        return bytes_of(run(job, method, model, x, y, seed=seed).adapters)

    assert train(0) == train(0)
    assert (train(other) == train(0)) == (other == 0)
