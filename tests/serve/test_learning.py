"""A candidate is what adapt gives, and its answers are held out."""

from __future__ import annotations

import numpy as np
import pytest

import skip2lora as s2
from desk import NAMES
from serve.place import field, model
from skip2lora.backbones.derived import derived_taps
from skip2lora.serve import learning
from skip2lora.serve.answering import Frozen, Version
from skip2lora.serve.learning import Labelled, check_class, learned, places
from skip2lora.serve.samples import digest_of
from skip2lora.serve.store import Settled
from skip2lora.training.lab_set import LabSet
from skip2lora.training.suspects import Suspect

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


def test_suspects_that_are_not_unlikely_stay() -> None:
    x, names = field(n_samples=60)
    labelled = Labelled.of(settled(x, names), BASE)
    sure, unsure = (Suspect(row, "a", "b", 0.9, own) for row, own in ((3, 0.099), (5, 0.1)))
    assert np.flatnonzero(learning._to_leave_out(labelled, [sure, unsure])).tolist() == [3]
    few = Labelled.of(settled(x[:39], names[:39]), BASE)
    assert not learning._to_leave_out(few, [sure]).any()


def kinds(adapted: s2.AdaptedModel) -> list[str]:
    return [tap.kind for tap in derived_taps(adapted.backbone)]


def test_samples_of_an_mlp_without_negative_numbers_have_logarithms() -> None:
    random = np.random.default_rng(0)
    x = random.gamma(2, size=(90, 12)).astype(np.float32)
    y = (np.log(x[:, 0]) > np.log(x[:, 1])).astype(int) + (x[:, 2] > 3)
    frozen = Frozen(s2.MLP.create([12, 8, 8, 3], seed=0, class_names=NAMES))
    packed = frozen.packed(frozen.rows(x))

    def candidate(keep: object = None) -> learning.Candidate:
        of = Settled(
            np.arange(1, 61), packed[:60], tuple(digest_of(row) for row in packed[:60]),
            tuple(NAMES[each] for each in y[:60]), np.arange(1, 61), np.ones(60, np.int64),
        )  # fmt: skip
        return learned(frozen, Labelled.of(of, Version(0, frozen)), keep, seed=0)

    adapted = candidate().adapted
    assert kinds(adapted) == ["logits", "log", "log-centred"]
    shift = 0.01 * x[:60].max(axis=1).mean()  # of all, where some suspects are left out
    assert derived_taps(adapted.backbone)[1].shift == pytest.approx(shift, rel=0.05)
    assert adapted.base is frozen.model
    on_rows = Version(1, frozen, adapted).logits(frozen.unpacked(packed[60:]))
    assert (on_rows == adapted.logits(x[60:])).all()
    lab = LabSet.of(frozen.model, x[60:], y[60:], 3)
    assert kinds(candidate(lab).adapted) == kinds(adapted)
    packed[7, 3] = -1e-3  # one number of one sample
    assert kinds(candidate().adapted) == ["logits"]
