"""A candidate is what adapt gives, and its answers are held out."""

from __future__ import annotations

import numpy as np
import pytest

import skip2lora as s2
from desk import NAMES
from serve.place import field, model
from skip2lora.serve.answering import Frozen, Version
from skip2lora.serve.learning import Labelled, check_class, learned, places
from skip2lora.serve.samples import digest_of
from skip2lora.serve.store import Settled

FROZEN = Frozen(model())
BASE = Version(0, FROZEN)


def settled(x: np.ndarray, names: list[str], times: int = 1) -> Settled:
    packed = FROZEN.packed(FROZEN.rows(x))
    digests = tuple(digest_of(row) for row in packed)
    count = len(x)
    return Settled(
        np.arange(100, 100 + count), packed, digests, tuple(names), np.arange(1, 1 + count),
        np.full(count, times),
    )  # fmt: skip


def test_a_candidate_is_what_samples_would_give() -> None:
    x, names = field(n_samples=39)
    candidate = learned(FROZEN, Labelled.of(settled(x, names), BASE), False, seed=0)
    # Of an MLP adapt has a rule of its own, which needs samples; this is the general way.
    again = learned(FROZEN, Labelled.of(settled(x, names), BASE), False, seed=0)
    test, truth = field(5)
    assert (candidate.adapted.logits(test) == again.adapted.logits(test)).all()
    assert np.mean(candidate.adapted.predict(test) == np.array(truth)) > 0.98
    assert candidate.adapted.base is model()
    version = Version(1, FROZEN, candidate.adapted)
    on_rows, as_samples = version.logits(FROZEN.rows(test)), candidate.adapted.logits(test)
    assert (on_rows == as_samples).all()


def test_answers_are_of_models_that_did_not_learn_the_sample() -> None:
    x, names = field(n_samples=39)
    wrong = names.copy()
    wrong[7] = NAMES[(NAMES.index(names[7]) + 1) % 3]  # what has learned it may say so, too
    labelled = Labelled.of(settled(x, wrong), BASE)
    candidate = learned(FROZEN, labelled, False, seed=0)
    answered = np.array(labelled.titles)[candidate.answers]
    assert answered[7] == names[7] != wrong[7]
    assert np.mean(answered == np.array(names)) > 0.9
    assert 107 in {each.row for each in candidate.suspects}
    assert candidate.n_out == 0


def test_from_forty_labels_on_suspects_are_left_out_unless_confirmed() -> None:
    x, names = field(n_samples=60)
    wrong = names.copy()
    wrong[7] = NAMES[(NAMES.index(names[7]) + 1) % 3]
    once = learned(FROZEN, Labelled.of(settled(x, wrong), BASE), False, seed=0)
    assert once.n_out >= 1
    assert np.array(NAMES)[once.answers[7]] == names[7]
    twice = learned(FROZEN, Labelled.of(settled(x, wrong, times=2), BASE), False, seed=0)
    assert twice.n_out == 0
    assert 107 in {each.row for each in twice.suspects}


def test_new_classes_come_after_those_of_the_model_from_three_labels_on() -> None:
    x, names = field(n_samples=60)
    names[0] = names[9] = "dust"
    for at in (1, 2, 3, 4):
        names[at] = "rust"
    labelled = Labelled.of(settled(x, names), BASE)
    assert labelled.titles == (*NAMES, "rust")
    assert len(labelled.y) == 58
    assert labelled.stored.ids[:2].tolist() == [101, 102]
    assert labelled.y[0] == 3
    candidate = learned(FROZEN, labelled, False, seed=0)
    assert candidate.adapted.class_names == labelled.titles


def test_lacking_classes_are_counted() -> None:
    x, names = field(n_samples=20)
    stay = [at for at, name in enumerate(names) if name != "stop" or at < 6]
    labelled = Labelled.of(settled(x[stay], [names[at] for at in stay]), BASE)
    assert labelled.lacking() == {"stop": 2}


def test_labels_are_known_or_new() -> None:
    assert check_class(" stop ", NAMES, new=False) == "stop"
    assert check_class("rust", NAMES, new=True) == "rust"
    with pytest.raises(s2.DataError, match="'rust' is unknown, expected one of stop, normal"):
        check_class("rust", NAMES, new=False)
    assert check_class(3, ("3",), new=False) == "3"
    for bad in ("", " ", "a\nb", "x" * 101, "\x00", None, True, 1.0, ["stop"]):
        with pytest.raises(s2.DataError, match="expected a name"):
            check_class(bad, NAMES, new=True)


def test_places_of_names() -> None:
    assert places(("b", "c", "a"), ("a", "b")).tolist() == [1, -1, 0]
