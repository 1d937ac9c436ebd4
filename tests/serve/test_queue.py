"""Which samples are asked for: some of every kind, then uncertain ones, none twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from desk import NAMES, blobs
from serve.place import field, model, service
from skip2lora.serve import allocator
from skip2lora.serve.answering import Frozen, Version, margins
from skip2lora.serve.limits import Limits
from skip2lora.serve.queue import alike, chosen, needed_of
from skip2lora.serve.samples import digest_of
from skip2lora.serve.store import Settled, Stored

FROZEN = Frozen(model())
BASE = Version(0, FROZEN)


def stored(x: np.ndarray) -> Stored:
    packed = FROZEN.packed(FROZEN.rows(x))
    digests = tuple(digest_of(row) for row in packed)
    return Stored(np.arange(100, 100 + len(x)), packed, digests)


def test_the_first_are_of_every_kind() -> None:
    x, names = field(n_samples=90)
    rare = np.concatenate([x[np.array(names) != "stop"], x[np.array(names) == "stop"][:2]])
    kinds = [*(name for name in names if name != "stop"), "stop", "stop"]
    asked = chosen(BASE, stored(rare), 6)
    assert len(set(asked.tolist())) == 6
    assert (np.diff(asked) > 0).all()
    assert {kinds[place] for place in asked} == set(NAMES)


def test_later_ones_are_uncertain() -> None:
    x, _ = field(n_samples=200)
    least = margins(BASE.probabilities(FROZEN.rows(x)))
    asked = chosen(BASE, stored(x), 10, uncertain=True)
    assert set(asked.tolist()) <= set(np.argsort(least, kind="stable")[:40].tolist())
    few = chosen(BASE, stored(x[:12]), 10, uncertain=True)
    assert len(few) == 10


def test_copies_are_asked_for_once() -> None:
    x, _ = field(n_samples=4)
    copies = stored(np.repeat(x, 5, axis=0))
    assert chosen(BASE, copies, 20).tolist() == [0, 5, 10, 15]
    known = {copies.digests[5], copies.digests[0]}
    assert chosen(BASE, copies, 20, known=known).tolist() == [10, 15]
    assert chosen(BASE, copies, 20, known=set(copies.digests)).tolist() == []
    assert chosen(BASE, stored(x[:0]), 20).tolist() == []


def test_open_questions_stay_until_they_are_answered(tmp_path: Path) -> None:
    x, names = field(n_samples=60)
    with service(tmp_path, limits=Limits(first_batch=6, batch=4)) as served:
        assert served.ask() == []
        ids = served.predict(x).ids
        truth = dict(zip(ids, names, strict=True))
        asked = served.ask()
        assert len(asked) == 6
        assert served.ask() == asked
        assert served.ask(3) == asked[:3]
        served.predict(x)  # copies are not asked for
        served.label(asked[0], truth[asked[0]])
        assert served.ask() == asked[1:]
        served.skip(asked[1])
        assert asked[1] not in served.ask()
        seen = set(asked)
        for _ in range(30):
            batch = served.ask()
            new = set(batch) - seen
            seen |= new
            for id in batch:
                served.label(id, names[(id - 1) % 60])
        assert len(seen) == 60
        assert served.ask() == []
        assert [each["kind"] for each in served.events()].count("asked") >= 14


def test_what_candidates_took_is_given_back(tmp_path: Path, monkeypatch) -> None:
    given_back: list[None] = []
    monkeypatch.setattr(allocator, "give_back", lambda: given_back.append(None))
    with service(tmp_path, limits=Limits(first_batch=6)) as served:
        served.predict(field(n_samples=20)[0])
        assert len(served.ask()) == 6
        assert len(given_back) == 1
        assert len(served.ask()) == 6  # which are open: nothing is read
        assert len(given_back) == 1


def test_samples_since_the_alarm_come_first(tmp_path: Path) -> None:
    x, _ = field(n_samples=60)
    with service(tmp_path) as served:
        served.predict(x)
        served._predicting.since = 41
        assert min(served.ask(20)) == 41
        assert len(served.ask(30)) == 30  # the others after these


def settled(x: np.ndarray, names: list[str]) -> Settled:
    of = stored(x)
    count = len(x)
    return Settled(
        of.ids, of.rows, of.digests, tuple(names), np.arange(1, 1 + count), np.ones(count, np.int64)
    )


def test_classes_of_the_model_lack_up_to_three_labels_each() -> None:
    stop, normal, damaged = NAMES
    assert needed_of(BASE, {stop: 2, "dust": 1}, 5) == {stop: 1, normal: 3, damaged: 1}
    assert needed_of(BASE, {stop: 2}, 2) == {stop: 1, normal: 1}
    assert needed_of(BASE, {stop: 3, normal: 9, damaged: 4}, 5) == {}
    assert needed_of(BASE, {}, 0) == {}


def test_what_looks_like_a_class_is_near_to_what_has_its_label() -> None:
    x, names = field(n_samples=90)
    kinds = np.array(names)
    some = np.concatenate([np.flatnonzero(kinds == name)[:2] for name in NAMES])
    rest = np.setdiff1d(np.arange(90), some)
    labels = settled(x[some], [names[at] for at in some])
    places = alike(BASE, stored(x[rest]), labels, {NAMES[2]: 3, NAMES[0]: 2})
    assert len(set(places.tolist())) == 5
    assert (np.diff(places) > 0).all()
    assert sorted(kinds[rest[places]]) == sorted([NAMES[2]] * 3 + [NAMES[0]] * 2)
    other = [NAMES[1] if name == NAMES[0] else NAMES[0] for name in kinds[some]]  # as labels say
    swapped = alike(BASE, stored(x[rest]), settled(x[some], other), {NAMES[1]: 3})
    assert set(kinds[rest[swapped]]) == {NAMES[0]}
    known = {stored(x[rest]).digests[place] for place in places.tolist()}
    again = alike(BASE, stored(x[rest]), labels, {NAMES[2]: 3}, known=known)
    assert not set(again.tolist()) & set(places.tolist())
    assert set(kinds[rest[again]]) == {NAMES[2]}


def test_many_labelled_samples_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, names = field(n_samples=90)
    labels, needed = settled(x[:40], names[:40]), {NAMES[2]: 3, NAMES[0]: 2}
    at_once = alike(BASE, stored(x[40:]), labels, needed)
    monkeypatch.setattr("skip2lora.serve.queue._AT_ONCE", 7)
    assert alike(BASE, stored(x[40:]), labels, needed).tolist() == at_once.tolist()


def test_without_a_label_of_it_the_model_says_what_looks_like_a_class() -> None:
    x, names = blobs(3, n_samples=90)
    labels = settled(x[:2], [NAMES[0], NAMES[1]])
    places = alike(BASE, stored(x[2:]), labels, {NAMES[2]: 3})
    assert set(names[2:][places].tolist()) == {2}
    nobody = alike(BASE, stored(x), settled(x[:0], []), {NAMES[1]: 3})
    assert set(names[nobody].tolist()) == {1}
    assert len(alike(BASE, stored(x[:2]), labels, {NAMES[0]: 3, NAMES[1]: 2})) == 2
    assert len(alike(BASE, stored(x[:0]), labels, {NAMES[0]: 3})) == 0


@pytest.mark.parametrize("all_classes", [True, False])
def test_classes_without_three_labels_are_asked_for(tmp_path: Path, all_classes: bool) -> None:
    x, names = field(n_samples=240)
    rare = [at for at, name in enumerate(names) if name == NAMES[0]]
    limits = Limits(first_batch=4, batch=6)
    with service(tmp_path, limits=limits, all_classes=all_classes) as served:
        ids = served.predict(x).ids
        truth = dict(zip(ids, names, strict=True))
        for id in [ids[rare[0]], *(id for id in ids if truth[id] != NAMES[0])][:4]:
            served.label(id, truth[id])
        asked = [truth[id] for id in served.ask()]
        assert len(asked) == 6
        assert (asked.count(NAMES[0]) >= 2) == all_classes
