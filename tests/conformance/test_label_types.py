"""Labels of whatever type mean the same at every door: pretrain, adapt, score, the estimator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.errors import DataError

RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 4)).astype(np.float32)
Y = np.arange(40) % 3
NAMES = np.array(["stop", "normal", "dämpfer"])


class NAType:
    """What a missing value of pandas is called."""

    def __repr__(self) -> str:
        return "<NA>"


class Column:
    """What a column of a data frame is to NumPy: an array of objects."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values).tolist()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int]:
        return (len(self.values),)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.empty(len(self.values), object)
        array[:] = self.values
        return array


NUMBERS: dict[str, Callable[[np.ndarray], Any]] = {
    "list": lambda y: y.tolist(),
    "uint8": lambda y: y.astype(np.uint8),
    "float": lambda y: y.astype(float),
    "objects": lambda y: y.astype(object),
    "column of a frame": Column,
    "column": lambda y: y[:, None],
}
TEXTS: dict[str, Callable[[np.ndarray], Any]] = {
    "list": lambda y: y.tolist(),
    "objects": lambda y: y.astype(object),
    "column of a frame": Column,
    "bytes": lambda y: np.char.encode(y, "utf-8"),
    "column": lambda y: y[:, None],
}


def network(names: bool) -> s2.MLP:
    return s2.MLP.create([4, 8, 3], class_names=list(NAMES) if names else None)


def answers(labels: Any, *, names: bool) -> list[Any]:
    """What each door makes of labels, or what it was refused with."""
    trained = s2.pretrain(network(names), X, labels, epochs=3)
    adapted = s2.adapt(trained, X, labels, epochs=3)
    return [trained.fingerprint, trained.score(X, labels), adapted.logits(X).tobytes()]


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers(kind: str) -> None:
    assert answers(NUMBERS[kind](Y), names=False) == answers(Y, names=False)


@pytest.mark.parametrize("kind", TEXTS)
def test_names(kind: str) -> None:
    assert answers(TEXTS[kind](NAMES[Y]), names=True) == answers(NAMES[Y], names=True)


@pytest.mark.parametrize("missing", [None, NAType(), float("nan")], ids=repr)
@pytest.mark.parametrize("text", [True, False])
def test_missing_labels_are_named(missing: Any, text: bool) -> None:
    labels = (NAMES[Y] if text else Y).astype(object)
    labels[7] = missing
    model = network(names=text)
    doors: list[Callable[[Any], Any]] = [
        lambda y: s2.pretrain(model, X, y, epochs=1),
        lambda y: s2.adapt(model, X, y, epochs=1),
        lambda y: model.score(X, y),
    ]
    for door in doors:
        with pytest.raises(DataError, match=rf"y has {missing!r} at row 7 \(from 0\)"):
            door(labels)


@pytest.mark.parametrize("kind", ["list", "objects", "column of a frame"])
@pytest.mark.parametrize("text", [True, False])
def test_the_estimator(kind: str, text: bool) -> None:
    sklearn = pytest.importorskip("skip2lora.sklearn", exc_type=s2.errors.MissingExtraError)
    y = NAMES[Y] if text else Y
    fitted = [
        sklearn.Skip2LoRAClassifier(network(names=text), epochs=2).fit(X, labels)
        for labels in (y, (TEXTS if text else NUMBERS)[kind](y))
    ]
    assert fitted[0].predict(X).tolist() == fitted[1].predict(X).tolist()
    labels = y.astype(object)
    labels[7] = NAType()
    with pytest.raises(DataError, match=r"y has <NA> at row 7 \(from 0\), a missing value"):
        fitted[0].fit(X, labels)
