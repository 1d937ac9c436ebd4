"""Predictions from logits: labels, probabilities and scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.errors import DataError
from skip2lora.tasks.predictor import member

WIDTHS = [7, 20, 5, 3]
MakeModel = Callable[..., s2.MLP]
Refused = Callable[..., str]


def test_predictions(make_model: MakeModel, make_samples: Any) -> None:
    model, (x, y) = make_model(WIDTHS), make_samples(200, 7)
    logits = model.logits(x).astype(np.float64)
    labels = model.predict(x)
    assert labels.tolist() == logits.argmax(axis=1).tolist()
    assert len(set(labels.tolist())) > 1
    odds = np.exp(logits)
    np.testing.assert_allclose(
        model.predict_proba(x), odds / odds.sum(axis=1, keepdims=True), rtol=1e-5
    )
    assert model.score(x, y) == (labels == y).mean()
    assert model.score(x, labels) == 1.0


def test_names_are_predicted_where_there_are_some(
    make_model: MakeModel, make_samples: Any, tmp_path: Any
) -> None:
    x, y = make_samples(60, 7)
    plain = make_model(WIDTHS)
    places = plain.predict(x)
    named = s2.MLP(plain.layers, class_names=("off", "on", "loud"))
    assert named.classes_.tolist() == ["off", "on", "loud"]
    assert named.predict(x).tolist() == [("off", "on", "loud")[at] for at in places]
    assert named.predict_index(x).tolist() == places.tolist()
    assert named.score(x, named.predict(x)) == named.score(x, places) == 1
    numbered = s2.MLP(plain.layers, class_names=("0", "1", "2"))
    assert numbered.predict(x).tolist() == places.tolist()
    marked = s2.MLP(plain.layers, class_names=("#a", "#b", "#c"))  # which sort before numbers
    assert marked.classes_.tolist() == ["#a", "#b", "#c"]
    adapted = s2.adapt(named, x, named.predict(x), epochs=3)
    assert set(adapted.predict(x)) <= {"off", "on", "loud"}
    assert adapted.classes_[adapted.predict_index(x)].tolist() == adapted.predict(x).tolist()
    grown = s2.adapt(plain, x[y < 2], np.where(y < 2, 9, 9)[y < 2], epochs=3, new_classes=True)
    assert grown.classes_.tolist() == [0, 1, 2, 9]
    assert grown.predict_index(x).max() <= 3 < grown.predict(x).max() == 9


def test_softmax_of_large_logits(make_model: MakeModel, make_samples: Any) -> None:
    x, _ = make_samples(10, 7)
    probabilities = make_model(WIDTHS, batch_norm=False).predict_proba(1e20 * x)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_score_needs_labels(make_model: MakeModel, refused: Refused) -> None:
    refused(DataError, make_model(WIDTHS).score, np.zeros((3, 7), np.float32), None)


@pytest.fixture(scope="module")
def model(make_model: Callable[..., s2.MLP]) -> s2.MLP:
    return make_model([8, 6, 5, 3])


class Base:
    factor = 2

    @member
    def size(self) -> int:
        """How large it is."""
        return 3 * self.factor


class OfInstance(Base):
    def __init__(self) -> None:
        self.size = 1


class OfClass(Base):
    size = 1


class Cached(Base):
    @cached_property
    def size(self) -> int:
        return 1


@dataclass(frozen=True)
class Frozen(Base):
    size: int


def test_the_default_is_computed() -> None:
    base = Base()
    assert base.size == 6
    base.factor = 5
    assert base.size == 15
    assert vars(Base)["size"].__doc__ == "How large it is."


@pytest.mark.parametrize("kind", [OfInstance, OfClass, Cached, lambda: Frozen(1)])
def test_a_subclass_defines_it_as_it_likes(kind: type[Base]) -> None:
    assert kind().size == 1


def test_it_is_no_default_of_a_field() -> None:
    with pytest.raises(TypeError, match="size"):
        Frozen()
