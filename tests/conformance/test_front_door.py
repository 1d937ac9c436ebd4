"""What ``adapt`` and ``pretrain`` refuse: one line with what was got, expected, and to be done."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.errors import DataError, ParameterError

WIDTHS = [9, 16, 5, 3]
X = np.random.default_rng(0).normal(size=(12, 9)).astype(np.float32)
Y = np.arange(12) % 3
BATCH_METHODS = ("pretrain", "lora-all")  # those with batch statistics
METHODS = ("skip2-lora", "skip-lora", "lora-last", *BATCH_METHODS)
Refused = Callable[..., str]


def at(row: int, column: int, value: float) -> np.ndarray:
    x = X.astype(np.float64)
    x[row, column] = value
    return x


def labels(**changed: float) -> list[float]:
    y = list(Y)
    for place, value in changed.items():
        y[int(place[1:])] = value
    return y


@pytest.fixture(params=["MLP", "input is a tap", "input is none"])
def backbone(request: pytest.FixtureRequest, make_model: Any) -> Any:
    if request.param == "MLP":
        return make_model(WIDTHS)
    return NumpyBackbone(WIDTHS, first_tap_is_input=request.param == "input is a tap")


@pytest.fixture(params=METHODS)
def train(request: pytest.FixtureRequest, make_model: Any) -> Callable[..., Any]:
    """pretrain, or adapt with one of the methods, on an MLP."""
    model = make_model(WIDTHS)
    if request.param == "pretrain":
        return partial(s2.pretrain, model)
    return partial(s2.adapt, model, method=request.param)


# --- samples and labels ---------------------------------------------------------------------

BAD_SAMPLES = {
    "nan": (at(7, 2, np.nan), Y, "X has 1 NaN, infinite or too large values, the first at row 7"),
    "infinity": (at(7, 2, -np.inf), Y, "row 7, column 2 (from 0), expected finite float32"),
    "too big": (at(0, 8, 1e39), Y, "at row 0, column 8 (from 0), expected finite float32"),
    "none": (X[:0], Y[:0], "X has 0 samples and 9 features, expected at least one of each"),
    "no features": (X[:, :0], Y, "X has 12 samples"),
    "one dimension": (X[0], Y, "X has 1 dimensions (9,), expected (samples, features)"),
    "text": (X.astype(str), Y, "expected real numbers"),
    "negative label": (X, labels(_4=-1), "the model has 3 outputs (0..2), got label -1 at row 4"),
    "unknown label": (X, labels(_11=3), "the model has 3 outputs (0..2), got label 3 at row 11"),
    "half a label": (X, labels(_4=0.5), "y has 0.5 at row 4 (from 0), expected whole numbers"),
    "nan label": (X, labels(_4=np.nan), "y has nan at row 4"),
    "too few labels": (X, Y[:-1], "y has 11 labels, expected 12, one a sample"),
    "one-hot": (X, np.eye(3)[Y], "y has 2 dimensions (12, 3), expected one label a sample"),
    "no labels": (X, None, "y is None, expected one label a sample: pass the labels"),
}


def is_known_width(backbone: Any, x: np.ndarray) -> bool:
    return x.ndim == 2 and x.shape[1] != 9 and backbone.first_tap_is_input


@pytest.mark.parametrize("bad", BAD_SAMPLES)
def test_bad_samples(backbone: Any, bad: str, refused: Refused) -> None:
    x, y, said = BAD_SAMPLES[bad]
    message = refused(DataError, s2.adapt, backbone, x, y)
    assert ("X has 0 columns" if is_known_width(backbone, x) else said) in message
    assert ": " in message  # what to do
    if isinstance(backbone, NumpyBackbone):
        assert backbone.n_forwards == 0  # checked before any work


@pytest.mark.parametrize("bad", BAD_SAMPLES)
def test_bad_samples_for_every_method(
    train: Callable[..., Any], bad: str, refused: Refused
) -> None:
    x, y, _ = BAD_SAMPLES[bad]
    assert refused(DataError, train, x, y)


@pytest.mark.parametrize("bad", ["nan", "infinity", "too big", "none", "one dimension", "text"])
def test_bad_samples_to_predict(backbone: Any, bad: str, refused: Refused) -> None:
    adapted = s2.adapt(backbone, X, Y, epochs=1)
    x, _, said = BAD_SAMPLES[bad]
    for call in (adapted.logits, adapted.predict, adapted.predict_proba):
        assert said in refused(DataError, call, x)


@pytest.mark.parametrize("bad", ["negative label", "unknown label", "too few labels", "no labels"])
def test_bad_labels_to_score(backbone: Any, bad: str, refused: Refused) -> None:
    adapted = s2.adapt(backbone, X, Y, epochs=1)
    _, y, said = BAD_SAMPLES[bad]
    assert said in refused(DataError, adapted.score, X, y)


def test_width_of_the_model(train: Callable[..., Any], refused: Refused) -> None:
    for width in (8, 10):
        message = refused(DataError, train, np.zeros((12, width)), Y)
        assert f"X has {width} columns, the model expects 9: pass the features" in message


def test_one_sample(make_model: Any, refused: Refused) -> None:
    model = make_model(WIDTHS)
    for method in ("skip2-lora", "skip-lora", "lora-last"):
        adapted = s2.adapt(model, X[:1], Y[:1], method=method, epochs=2)
        assert adapted.history is not None
        assert adapted.history.n_batches == 2
    message = refused(DataError, s2.adapt, model, X[:1], Y[:1], method="lora-all")
    assert "got 1 sample, lora-all needs at least 2 for the statistics of a batch" in message
    assert "collect more, or adapt with skip2-lora" in message
    message = refused(DataError, s2.pretrain, model, X[:1], Y[:1])
    assert "got 1 sample, ft-all needs at least 2" in message


# --- options --------------------------------------------------------------------------------

LOW_BATCH = {method: 2 if method in BATCH_METHODS else 1 for method in METHODS}
BAD_OPTIONS = [
    ({"epochs": 0}, "epochs is 0, expected a whole number from 1"),
    ({"epochs": -3}, "epochs is -3, expected a whole number from 1"),
    ({"epochs": 2.5}, "epochs is 2.5, expected a whole number"),
    ({"epochs": "3"}, "epochs is '3', expected a whole number"),
    ({"batch_size": 0}, "batch_size is 0, expected a whole number from "),
    ({"batch_size": -5}, "batch_size is -5, expected a whole number from "),
    ({"batch_size": 13}, " to 12, the number of samples: make it smaller or leave it out"),
    ({"batch_size": 4.0}, "batch_size is 4.0, expected a whole number"),
    ({"batch_size": "4"}, "batch_size is '4', expected a whole number"),
    ({"learning_rate": 0}, "learning_rate is 0, expected a number above 0"),
    ({"learning_rate": -0.1}, "learning_rate is -0.1, expected a number above 0"),
    ({"learning_rate": float("nan")}, "learning_rate is nan, expected a number above 0"),
    ({"learning_rate": float("inf")}, "learning_rate is inf, expected a number above 0"),
    ({"learning_rate": 1e39}, "learning_rate is 1e+39"),
    ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
    ({"learning_rate": "0.01"}, "learning_rate is "),
    ({"learning_rate": 10**400}, "learning_rate is "),
    ({"learning_rate": 1e-50}, "learning_rate is 1e-50"),  # zero as float32: nothing would train
    ({"seed": -1}, "seed is -1, expected a whole number from 0 to 18446744073709551615"),
    ({"seed": 2**64}, "seed is 18446744073709551616, expected a whole number from 0 to"),
    ({"seed": 0.5}, "seed is 0.5, expected a whole number"),
    ({"seed": None}, "seed is None, expected a whole number"),
]


@pytest.mark.parametrize(("options", "said"), BAD_OPTIONS, ids=lambda value: str(value)[:40])
def test_bad_options(
    train: Callable[..., Any], options: dict[str, Any], said: str, refused: Refused
) -> None:
    assert said in refused(ParameterError, train, X, Y, **options)


def test_smallest_batch(train: Callable[..., Any], refused: Refused) -> None:
    if "method" in train.keywords and train.keywords["method"] != "lora-all":
        assert train(X, Y, batch_size=1, epochs=1).history.n_batches == 12
    else:
        message = refused(ParameterError, train, X, Y, batch_size=1)
        assert "batch_size is 1, expected a whole number from 2" in message


@pytest.mark.parametrize(
    ("rank", "said"),
    [
        (0, "rank is 0, expected a whole number from 1 to "),
        (-1, "rank is -1, expected a whole number from 1 to "),
        (17, "rank is 17, expected a whole number from 1 to "),
        (2.0, "rank is 2.0, expected a whole number"),
    ],
)
def test_bad_rank(backbone: Any, rank: Any, said: str, refused: Refused) -> None:
    for method in ("skip2-lora", "skip-lora", "lora-last"):
        assert said in refused(ParameterError, s2.adapt, backbone, X, Y, rank=rank, method=method)
    if not isinstance(backbone, NumpyBackbone):
        message = refused(ParameterError, s2.adapt, backbone, X, Y, rank=rank, method="lora-all")
        assert said in message


def test_extreme_options_that_are_in_range(train: Callable[..., Any]) -> None:
    train(X, Y, epochs=1, batch_size=12, learning_rate=1e-30, seed=2**64 - 1)
    train(X, Y, epochs=np.int64(1), batch_size=np.uint8(2), learning_rate=np.float32(0.5))
    if "method" in train.keywords:
        assert train(X, Y, epochs=1, rank=5).adapters.rank == 5


def test_unknown_method(backbone: Any, refused: Refused) -> None:
    for method in ("skip3-lora", "Skip2-LoRA", ""):
        message = refused(ParameterError, s2.adapt, backbone, X, Y, method=method)
        assert f"method {method!r} is unknown, expected one of ft-all, ft-last, ft-bias" in message


def test_what_is_no_model(refused: Refused) -> None:
    for model in ("model.safetensors", None, np.zeros(3)):
        for call in (s2.adapt, s2.pretrain):
            message = refused(ParameterError, call, model, X, Y)
            assert "expected a skip2lora.Backbone: read a file with skip2lora.load" in message


def test_a_network_with_adapters_in_its_layers(refused: Refused) -> None:
    model = s2.MLP.create([9, 6, 5, 3])
    inner = s2.adapt(model, X, Y, method="lora-all", epochs=1).adapters.model
    for call in (s2.adapt, s2.pretrain):
        assert "pass model.merged()" in refused(ParameterError, call, inner, X, Y)
    s2.pretrain(inner.merged(), X, Y, epochs=1)


def test_true_is_no_number(refused: Refused) -> None:
    model = s2.MLP.create([9, 6, 5, 3])
    for name in ("epochs", "learning_rate", "batch_size", "rank"):
        assert f"{name} is True" in refused(ParameterError, s2.adapt, model, X, Y, **{name: True})


def test_labels_are_numbered_as_outputs_whatever_the_classes_of_the_model(refused: Refused) -> None:
    model = NumpyBackbone([9, 6, 3], first_tap_is_input=True)
    model.class_numbers = np.array([0, 1, 7])
    assert "got label 7 at row 0" in refused(DataError, s2.adapt, model, X, np.full(len(X), 7))
    assert model.score(X, np.full(len(X), 7)) == (model.predict(X) == 7).mean()
    assert model.score(X, np.full(len(X), 5)) == 0  # between those of the outputs: never right
