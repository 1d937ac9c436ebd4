"""Projected taps: few columns of each, and what is learned on them as ordinary adapters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.projected import (
    Begun,
    FirstRows,
    Numbered,
    Projected,
    Projection,
    folded,
    projected_widths,
)
from skip2lora.adapters.rows import RowFormat
from skip2lora.data.lazy import LazySamples, digests_of
from skip2lora.errors import ParameterError
from skip2lora.methods import METHODS

WIDTHS, RANK = (12, 9, 7, 4), 3


@pytest.fixture(params=[True, False], ids=["input is a tap", "input is none"])
def backbone(request: pytest.FixtureRequest) -> NumpyBackbone:
    return NumpyBackbone(WIDTHS, first_tap_is_input=request.param)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(300, WIDTHS[0])).astype(np.float32)


def random_projections(backbone: Any, *, leave: int | None = None) -> tuple[Projection | None, ...]:
    random = np.random.default_rng(2)
    return tuple(
        None
        if number == leave
        else Projection(
            random.normal(size=width).astype(np.float32),
            random.normal(size=(width, RANK)).astype(np.float32),
        )
        for number, width in enumerate(backbone.tap_widths)
    )


def random_adapters(widths: Any, n_outputs: int, *, first_tap: int = 0) -> SkipAdapters:
    random = np.random.default_rng(3)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    some = widths[first_tap:]
    lora_a, lora_b = ((normal(width, 2) for width in some), (normal(2, n_outputs) for _ in some))
    return SkipAdapters(tuple(lora_a), tuple(lora_b), first_tap, normal(n_outputs))


@pytest.mark.parametrize("leave", [None, 0, 1])
def test_taps_are_projected_about_their_mean(
    backbone: NumpyBackbone, x: np.ndarray, leave: int | None
) -> None:
    projections = random_projections(backbone, leave=leave)
    projected = Projected(backbone, projections)
    whole, few = backbone.forward(x), projected.forward(x)
    assert [tap.shape[1] for tap in few.taps] == list(projected.tap_widths)
    np.testing.assert_array_equal(few.base_logits, whole.base_logits)
    for of, tap, values in zip(projections, whole.taps, few.taps, strict=True):
        wanted = tap if of is None else (tap.astype(np.float64) - of.mean) @ of.matrix
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-5)
    assert projected.fingerprint != backbone.fingerprint
    assert (
        projected.fingerprint
        != Projected(backbone, random_projections(backbone, leave=2)).fingerprint
    )


def test_a_sample_has_the_same_bits_alone_and_among_others(
    backbone: NumpyBackbone, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    projected = Projected(backbone, random_projections(backbone))
    all_at_once = projected.forward(x)
    alone = [projected.forward(x[at : at + 1]) for at in range(len(x))]
    monkeypatch.setattr("skip2lora.adapters.projected.BYTES_AT_ONCE", 1000)
    backbone.batches.clear()
    by_few = projected.forward(x)
    assert max(backbone.batches) < 10  # whole rows of few samples are there at a time
    for tap in range(3):
        together = all_at_once.taps[tap].tobytes()
        assert np.concatenate([of.taps[tap] for of in alone]).tobytes() == together
        assert by_few.taps[tap].tobytes() == together


@pytest.mark.parametrize(("leave", "first_tap"), [(None, 0), (1, 0), (None, 2)])
def test_folded_adapters_do_the_same_on_whole_taps(
    backbone: NumpyBackbone, x: np.ndarray, leave: int | None, first_tap: int
) -> None:
    projections = random_projections(backbone, leave=leave)
    projected = Projected(backbone, projections)
    few = random_adapters(projected.tap_widths, backbone.n_outputs, first_tap=first_tap)
    ordinary = folded(few, projections)
    assert [len(a) for a in ordinary.lora_a] == list(backbone.tap_widths[first_tap:])
    np.testing.assert_allclose(
        ordinary.logits(backbone, x), few.logits(projected, x), rtol=1e-5, atol=1e-4
    )


def test_taps_before_those_of_the_model_stay() -> None:
    projections = (Projection(np.ones(4, np.float32), np.ones((4, 1), np.float32)),)
    few = random_adapters((5, 1), 2)
    ordinary = folded(few, projections, n_derived=1)
    np.testing.assert_array_equal(ordinary.lora_a[0], few.lora_a[0])
    np.testing.assert_allclose(ordinary.lora_a[1], np.ones((4, 1)) @ few.lora_a[1])


def test_nothing_is_folded_without_projections() -> None:
    adapters = random_adapters((5, 1), 2)
    assert folded(adapters, ()) is adapters
    assert folded(adapters, (None, None)) is adapters


@pytest.fixture
def begun(backbone: NumpyBackbone, x: np.ndarray) -> Begun:
    """Samples 4, 0 and 7 of 10 have passed, as have none of 5 more."""
    projected = Projected(backbone, random_projections(backbone))
    numbers = np.array([4, 0, 7])
    first = projected.forward(x[numbers])
    backbone.batches.clear()
    samples = Numbered((x[:10], x[100:105]))
    return Begun(projected, samples, FirstRows(numbers, 15, first), [3])


def test_known_samples_do_not_pass_again_the_first_time(
    begun: Begun, backbone: NumpyBackbone, x: np.ndarray
) -> None:
    samples = LazySamples.of(begun.samples)
    assert len(samples) == 15
    wanted = begun.backbone.forward(np.concatenate([x[:10], x[100:105]]))

    def passes(*order: int) -> int:
        backbone.batches.clear()
        taps = begun.forward(samples[np.array(order)])
        rows = [of[[*order]] for of in (*wanted.taps, wanted.base_logits)]
        for tap, of in zip((*taps.taps, taps.base_logits), rows, strict=True):
            np.testing.assert_array_equal(tap, of)
        return backbone.n_forwards

    assert len(begun.first) == 3
    assert passes(11, 7, 3, 3, 0, 14) == 4
    assert (begun.n_computed, len(begun.first)) == ([7], 1)
    assert passes(7, 4, 4, 0) == 2  # twice in a batch is once
    assert (begun.n_computed, len(begun.first)) == ([9], 0)
    assert begun.first._arrays == ()  # no bytes either
    assert passes(4, 0, 7) == 3
    rows = RowFormat.of(begun, copy_input=True)
    table = rows.empty(15)
    backbone.batches.clear()
    rows.compute(begun, samples, table)
    assert backbone.n_forwards == 15


def test_numbered_samples_have_the_digests_of_what_is_behind_them(
    begun: Begun, x: np.ndarray
) -> None:
    some = LazySamples.of(begun.samples)[np.array([12, 0, 9])]
    assert some.digests() == digests_of(x[[102, 0, 9]])


def test_widths_as_rows_have_them() -> None:
    skip2 = METHODS["skip2-lora"]
    assert projected_widths(skip2, (9, 3, 5), None, None) == (9, 3, 5)
    assert projected_widths(skip2, (9, 3, 5), 4, "pca") == (4, 3, 4)


@pytest.mark.parametrize(
    ("method", "rank", "kind", "message"),
    [
        ("skip2-lora", 9, None, "projection is 9, expected a whole number from 1 to 8"),
        ("skip2-lora", 0, None, "projection is 0, expected a whole number from 1 to 8"),
        ("lora-last", 5, None, "from 1 to 4, less than the widest tap, 5"),
        ("ft-all", 2, None, "projection is 2 with method ft-all, which trains through the network"),
        ("skip2-lora", None, "pca", "projection_from is pca without a projection"),
    ],
)
def test_projections_that_cannot_be(
    method: str, rank: int | None, kind: str | None, message: str, refused: Any
) -> None:
    given = (METHODS[method], (9, 3, 5), rank, kind)
    assert message in refused(ParameterError, projected_widths, *given)
