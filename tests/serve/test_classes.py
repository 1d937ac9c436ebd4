"""What is learned of labels that name classes: what is waited for, held out and contradicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from desk import NAMES
from serve.place import field, model, service, teach
from skip2lora.serve.answering import Frozen, Version
from skip2lora.serve.classes import Classes


def test_what_is_waited_for_is_named(tmp_path: Path) -> None:
    of = Classes(Frozen(model()), False, all_classes=True, seed=0)
    with service(tmp_path) as served:
        ids = served.predict(field(n_samples=8)[0]).ids
        for id, name in zip(ids, [NAMES[0]] * 4 + [NAMES[1]] * 2, strict=False):
            served.label(id, name)
        labelled = of.labelled(served._learner.settled())
    assert (
        of.waiting(labelled) == f"waiting for labels of: {NAMES[1]} (2 of 3), {NAMES[2]} (0 of 3)"
    )
    relaxed = Classes(Frozen(model()), False, all_classes=False, seed=0)
    assert relaxed.waiting(labelled) is None


def test_held_out_answers_are_by_sample_and_contradict_by_count(tmp_path: Path) -> None:
    with service(tmp_path) as served:
        ids = teach(served, 60)
        learner = served._learner
        of = learner.labels
        labelled = of.labelled(learner.settled())
        candidate = of.learned(labelled)
        held_out = of.held_out(labelled, candidate)
        assert set(held_out) <= set(ids)
        assert set(held_out.values()) <= set(NAMES)
        learned = Version(1, served._frozen, candidate.adapted)
        new = np.ones(60, np.bool_)
        assert of.contradicted(labelled, learned, of.base, new) is None
        reason = of.contradicted(labelled, of.base, learned, new)
        assert reason.startswith("60 later labels: version 1 is right where 0 is not")
