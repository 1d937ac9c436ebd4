"""Which samples are asked for: some of every kind, then uncertain ones, none twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from desk import NAMES
from serve.place import field, model, service
from skip2lora.serve.answering import Frozen, Version, margins
from skip2lora.serve.limits import Limits
from skip2lora.serve.queue import chosen
from skip2lora.serve.samples import digest_of
from skip2lora.serve.store import Stored

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


def test_samples_since_the_alarm_come_first(tmp_path: Path) -> None:
    x, _ = field(n_samples=60)
    with service(tmp_path) as served:
        served.predict(x)
        served._predicting.since = 41
        assert min(served.ask(20)) == 41
        assert len(served.ask(30)) == 30  # the others after these
