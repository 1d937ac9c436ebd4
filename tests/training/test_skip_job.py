"""Scaled taps: adapters learned on them, folded into the taps as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.known_rows import RandomRows
from skip2lora.training.skip_job import Scaling, column_scale

WIDTHS = [9, 16, 5, 3]


@pytest.fixture(params=["MLP", "NumPy"])
def backbone(request: pytest.FixtureRequest, make_model: Any) -> Any:
    if request.param == "MLP":
        return make_model(WIDTHS)
    return NumpyBackbone(WIDTHS, first_tap_is_input=False)


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_samples(60, 9)
    return x * np.float32(5) + np.arange(9, dtype=np.float32) * 3, y.astype(np.int32)


def test_unfold_is_the_reverse_of_fold(backbone: Any, samples: Any) -> None:
    x, _ = samples
    rows = RowFormat.of(backbone, copy_input=True)
    made = rows.empty(60)
    rows.compute(backbone, x, made)
    scaling = Scaling.of(rows, [made], x[:, :3] * 50)
    random = np.random.default_rng(0)
    a = tuple(random.normal(size=(w, 2)).astype(np.float32) for w in rows.tap_widths)
    b = tuple(random.normal(size=(2, 3)).astype(np.float32) for _ in a)
    adapters = SkipAdapters(a, b, 0, np.float32([1, 2, 3]))
    again = scaling.unfold(scaling.fold(adapters)).tensors()
    for name, array in adapters.tensors().items():
        np.testing.assert_allclose(again[name], array, rtol=1e-4, atol=1e-4, err_msg=name)


def folded(scaling: Scaling, random: np.random.Generator) -> SkipAdapters:
    """Random adapters, as large as they start, of scaled taps, as they work on the taps."""
    widths = scaling.format.tap_widths
    a = tuple(np.float32(random.normal(size=(width, 4)) / np.sqrt(width)) for width in widths)
    b = tuple(random.normal(size=(4, 3)).astype(np.float32) for _ in a)
    return scaling.fold(SkipAdapters(a, b, 0, np.float32([1, 2, 3])))


@pytest.mark.parametrize("moves", [0.0, 1e-12, 1e-7, 1e-5, 1e-3, 1e-1])
@pytest.mark.parametrize("level", [1e-25, 1e-6, 1.0, 1e6])
def test_taps_of_nearly_constant_values(level: float, moves: float) -> None:
    """The sum of the folded adapters is that of float64, however a runtime rounds the taps."""
    random = np.random.default_rng(0)
    widths = (4096, 96, 1)
    rows = RowFormat.of(RandomRows(widths, 3))
    made = rows.empty(40)
    mean = level * random.uniform(0.5, 1, made.shape[1])
    made[:] = mean * (1 + moves * random.normal(size=made.shape))
    made[:, rows.layout.logits_offset :] = 0
    adapters = folded(Scaling.of(rows, [made]), random)
    places = list(zip(rows.layout.tap_offsets, widths, strict=True))
    exact = np.float64(adapters.bias)
    for (at, width), a, b in zip(places, adapters.lora_a, adapters.lora_b, strict=True):
        exact = exact + made[:, at : at + width].astype(np.float64) @ a @ b
    rounded = made * (1 + np.float32(2**-23) * random.choice([-1, 0, 1], made.shape))
    for given, share in ((made, 5e-5), (rounded.astype(np.float32), 1e-4)):
        got = adapters.logits_from_rows(rows, given, given)
        np.testing.assert_allclose(got, exact, rtol=0, atol=share * np.abs(exact).max())


def test_taps_of_rounding() -> None:
    """As an average of what was normalised over the same places: other noise, the same outputs."""
    random = np.random.default_rng(0)
    rows = RowFormat.of(RandomRows((640, 96), 3))
    made = rows.empty(80)
    mean = random.uniform(-1, 1, made.shape[1])
    made[:] = mean + 2.0**-20 * random.normal(size=made.shape)
    made[:, rows.layout.logits_offset :] = 0
    adapters = folded(Scaling.of(rows, [made[:40]]), random)
    one, other = (adapters.logits_from_rows(rows, part, part) for part in (made[:40], made[40:]))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * np.abs(one).max())


def test_what_moves_is_scaled_to_one() -> None:
    """Columns far from zero cost others nothing, and keep something themselves."""
    mean = np.array([0.0, 1.0, 290.0, 2000.0, 0.0])
    scale = column_scale(mean, np.array([1.0, 0.25, 9.0, 25.0, 0.0]))
    np.testing.assert_allclose(scale[[0, 1, 4]], [1, 2, 1], rtol=1e-3)
    assert scale[2] * 3 > 0.9
    assert scale[3] * 5 > 0.5


def test_statistics_are_those_of_the_samples_as_they_are_weighted() -> None:
    """Chunk by chunk, or a sample as often as its weight says: mean 0 and deviation 1."""
    random = np.random.default_rng(0)
    rows = RowFormat.of(RandomRows((5, 3), 2))
    made = rows.empty(30)
    made[:] = random.normal(size=made.shape) * 3 + 2
    targets = (random.normal(size=(30, 2)) * [4, 1] + [9, 0]).astype(np.float32)
    weight = random.integers(0, 4, 30)
    chunks = [made[:7], made[7:20], made[20:]]
    scaling = Scaling.of(rows, chunks, targets, weight.astype(np.float32))
    often, wanted = np.repeat(made, weight, axis=0), np.repeat(targets, weight, axis=0)
    first = rows.layout.logits_offset
    lack = wanted - often[:, first : first + 2].astype(np.float64)
    np.testing.assert_allclose(scaling.output_scale, 1 / lack.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scaling.start, lack.mean(axis=0) / lack.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        scaling.targets(targets), targets / lack.std(axis=0), rtol=1e-5, atol=1e-6
    )
    before = often.copy()
    scaling.apply(often)
    for at, width in zip(rows.layout.tap_offsets, (5, 3), strict=True):
        part = often[:, at : at + width].astype(np.float64)
        np.testing.assert_allclose(part.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(part.std(axis=0), 1, rtol=2e-3)  # a floor below it
    logits = slice(first, first + 2)
    expected = before[:, logits] * scaling.output_scale
    np.testing.assert_allclose(often[:, logits], expected, rtol=1e-5)
    plain = Scaling.of(rows, chunks)
    assert plain.start.tolist() == [0, 0]
    assert plain.output_scale.tolist() == [1, 1]
    assert (plain.mean[first:].tolist(), set(plain.scale[first:].tolist())) == (
        [0] * (len(plain.mean) - first), {1},
    )  # fmt: skip


def test_what_hardly_moved_must_not_explode() -> None:
    """Its variance counts as a thousandth of its tap's, numbers that are all met as 1."""
    rows = RowFormat.of(RandomRows((4, 1), 1))
    made = rows.empty(40)
    made[:] = 0
    made[:, 0] = np.tile([-2, 2], 20)  # variance 4, the mean of the tap 1
    targets = made[:, [rows.layout.logits_offset]] + 7
    scaling = Scaling.of(rows, [made], targets)
    np.testing.assert_allclose(scaling.scale[0], 1 / np.sqrt(4.001), rtol=1e-5)
    np.testing.assert_allclose(scaling.scale[1:4], 1 / np.sqrt(0.001), rtol=1e-5)
    assert scaling.scale[rows.layout.tap_offsets[1]] == 1  # a tap of zeros stays
    assert (scaling.output_scale.tolist(), scaling.start.tolist()) == ([1], [7])
