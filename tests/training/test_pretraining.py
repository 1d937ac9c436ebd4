"""Pre-training: what it learns is the oracle's, of scaled features, folded back into the layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import oracle
import skip2lora as s2
from frames import Frame
from oracle_losses import LOSSES
from skip2lora.backbones.mlp import Layer
from skip2lora.training.pretraining import ranges_of

FIELDS = [field.name for field in dataclasses.fields(Layer)]
LOSS_OF = {"classification": "softmax", "multi-label": "sigmoid", "regression": "squared"}
TASKS = list(LOSS_OF)


def answers(task: str, y: np.ndarray) -> np.ndarray:
    """Of labels 0, 1, 2: themselves, two labels at once, or two numbers far from 0."""
    several = np.stack([y == 1, y != 0], axis=1)
    return {"classification": y, "multi-label": 1 * several, "regression": 30 * several - 500}[task]


def in_float64(model: s2.MLP, x: np.ndarray) -> np.ndarray:
    rows = [{"fc": "yb", "bn": "", "lora": ""}] * len(model.layers)
    params = [dict(zip(FIELDS, layer.arrays(), strict=True)) for layer in model.layers]
    logits: np.ndarray = oracle.net_forward(params, rows, x.astype(np.float64))[1]
    return logits


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_full_batches_are_the_oracles(
    task: str, batch_norm: bool, make_model: Any, make_samples: Any
) -> None:
    x, labels = make_samples(24, 5)
    y = answers(task, labels)
    y = y / 100 if task == "regression" else y
    model = make_model([5, 7, 3 if y.ndim == 1 else 2], batch_norm=batch_norm)
    params = [dict(zip(FIELDS, layer.arrays(), strict=True)) for layer in model.layers]
    rows = [
        {"fc": "ybw" + "x" * (at > 0), "bn": "sw" if layer["gamma"] is not None else "", "lora": ""}
        for at, layer in enumerate(params)
    ]
    losses = []
    for _ in range(3):
        params, loss, _ = oracle.net_step(params, rows, x, y, 0.05, mean_loss=LOSSES[LOSS_OF[task]])
        losses.append(loss)
    reports: list[s2.EpochReport] = []
    trained = s2.pretrain(
        model, x, y, task=task, epochs=3, batch_size=24, learning_rate=0.05, standardize=False,
        callback=reports.append,
    )  # fmt: skip
    np.testing.assert_allclose([report.loss for report in reports], losses, rtol=1e-5)
    for layer, expected in zip(trained.layers, params, strict=True):
        for name, array in zip(FIELDS, layer.arrays(), strict=True):
            if array is not None:
                np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6)
    assert trained.task == task


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_scaled_features_are_folded_into_the_network(
    task: str, batch_norm: bool, make_samples: Any
) -> None:
    x, labels = make_samples(60, 4)
    x = x * [1, 50, 0.01, 3] + [0, 200, 0.01, -40]
    y = answers(task, labels)
    width = 3 if y.ndim == 1 else 2
    fresh = s2.MLP.create([4, 8, width], batch_norm=batch_norm, task=task)
    folded = s2.pretrain(fresh, x, y, epochs=20)
    of32 = np.float32(x)
    mean, std = of32.mean(0, dtype=float), of32.std(0, dtype=float)
    by_hand = ((of32 - mean) / std).astype(np.float32)
    unit, offset = (y.std(0), y.mean(0)) if task == "regression" else (1, 0)
    scaled_y = (y - offset) / unit if task == "regression" else y
    plain = s2.pretrain(fresh, by_hand, scaled_y, epochs=20, standardize=False)
    expected = plain.logits(by_hand) * unit + offset
    np.testing.assert_allclose(folded.logits(x), expected, atol=3e-4 * np.abs(expected).max())


@pytest.mark.parametrize("offset", [0, 300, -3e4, 1e6, 1e12, 1e30])
def test_one_large_offset_costs_no_precision(offset: float, make_samples: Any) -> None:
    x, y = make_samples(90, 5)
    x[:, 3] = np.float32(offset) + x[:, 3]
    model = s2.pretrain(s2.MLP.create([5, 16, 3]), x, y, epochs=30)
    logits, exact = model.logits(x), in_float64(model, x)
    assert np.abs(logits - exact).max() < 1e-4 * np.abs(exact).max()
    assert model.score(x, y) > 0.7


@pytest.mark.parametrize("value", [0.0, 7.0, -1e30, 1e-42])
def test_a_constant_column_is_let_be(value: float, make_samples: Any) -> None:
    x, y = make_samples(90, 5)
    x = np.insert(x, 2, np.float32(value), axis=1)
    model = s2.pretrain(s2.MLP.create([6, 16, 3]), x, y, epochs=30)
    assert np.isfinite(model.logits(x)).all()
    assert model.score(x, y) > 0.7
    moved = x.copy()
    moved[:, 2] = np.nextafter(x[:, 2], np.float32(np.inf))
    np.testing.assert_allclose(model.logits(moved), model.logits(x), atol=1e-3)


def test_units_do_not_matter(make_samples: Any) -> None:
    """The same samples in other units give the same predictions."""
    x, y = make_samples(90, 5)
    fresh = s2.MLP.create([5, 16, 3])
    expected = s2.pretrain(fresh, x, y, epochs=30).logits(x)
    other = x * np.float32([1024, 1 / 1024, 1, 2**40, 2**-40])
    same = s2.pretrain(fresh, other, y, epochs=30).logits(other)
    np.testing.assert_allclose(same, expected, atol=1e-4 * np.abs(expected).max())


def test_regression_of_one_number(make_samples: Any, tmp_path: Any) -> None:
    x, _ = make_samples(200, 4)
    y = 1000 * x[:, 0] + 500 * np.abs(x[:, 1]) + 2e5
    model = s2.pretrain(s2.MLP.create([4, 32, 1], task="regression"), x, y)
    assert model.predict(x).shape == (200, 1)
    assert model.score(x, y) > 0.95
    model.save(tmp_path / "m.safetensors")
    loaded = s2.load(tmp_path / "m.safetensors")
    assert loaded.task == "regression"
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    constant = s2.pretrain(s2.MLP.create([4, 8, 1]), x, np.full(200, 3.5), task="regression")
    np.testing.assert_allclose(constant.predict(x), 3.5, atol=0.5)
    adapted = s2.adapt(model, x, y + 3e4, task="regression")
    assert adapted.score(x, y + 3e4) > 0.9


def test_a_frames_columns_are_learned(make_samples: Any, tmp_path: Any) -> None:
    x, y = make_samples(60, 3)
    model = s2.pretrain(s2.MLP.create([3, 8, 3]), Frame.of(x, "abc"), y, epochs=5)
    assert model.columns.features == ("a", "b", "c")
    moved = Frame.of(x[:, [2, 0, 1]], "cab")
    expected = model.predict(x)
    np.testing.assert_array_equal(model.predict(moved), expected)
    assert model.score(moved, y) == model.score(x, y)
    with pytest.raises(s2.DataError, match='X has no column "b"'):
        model.predict(Frame.of(x[:, :2], "ca"))
    adapted = s2.adapt(model, moved, y, epochs=2)
    np.testing.assert_array_equal(adapted.predict(moved), adapted.predict(x))
    unnamed = s2.pretrain(s2.MLP.create([3, 8, 3]), x, y, epochs=5)
    adapted = s2.adapt(unnamed, Frame.of(x, "abc"), y, epochs=2)
    adapted.save(tmp_path / "a")
    loaded = s2.AdaptedModel.load(unnamed, tmp_path / "a")
    np.testing.assert_array_equal(loaded.predict(moved), adapted.predict(x))
    tuned = s2.adapt(unnamed, Frame.of(x, "abc"), y, method="ft-all", epochs=2)
    tuned.save(tmp_path / "t")
    again = s2.load(tmp_path / "t" / "model.safetensors")
    np.testing.assert_array_equal(again.predict(moved), tuned.predict(x))


def test_what_is_refused(make_samples: Any, refused: Callable[..., str]) -> None:
    x, y = make_samples(20, 3)
    one = s2.MLP.create([3, 4, 1])
    assert "task='regression'" in refused(s2.ParameterError, s2.pretrain, one, x, y)
    assert "task" in refused(s2.ParameterError, s2.pretrain, one, x, y, task="numbers")
    assert "(20, 1)" in refused(s2.DataError, s2.pretrain, one, x, x, task="regression")
    bad = np.where(x == x[3, 1], np.nan, x)
    assert "row 3, column 1" in refused(s2.DataError, s2.pretrain, one, bad, y, task="regression")


def test_ranges_are_as_many_samples_each_along_the_main_axis() -> None:
    numbers = np.random.default_rng(0).permutation(50).astype(np.float32)
    assert ranges_of(numbers[:, None]).tolist() == (numbers // 10).tolist()
    both = np.stack([numbers, 3 - 2 * numbers], axis=1)
    ranges = ranges_of(both)
    assert (ranges == numbers // 10).all() or (ranges == 4 - numbers // 10).all()
