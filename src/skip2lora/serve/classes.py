"""What a service of classes learns of labels, and how a candidate of them is judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import listing
from skip2lora.serve.answering import Frozen, Version
from skip2lora.serve.gate import FIRST, Verdict, kept_lab_set, mcnemar, verdict
from skip2lora.serve.learning import Candidate, Labelled, check_class, lab_rows, learned, places
from skip2lora.serve.store import Settled
from skip2lora.training.lab_set import LabSet
from skip2lora.training.rehearsal import ENOUGH, Keep


class Classes:
    """Labels that name a class; ``keep`` is the lab set, or None."""

    def __init__(self, frozen: Frozen, keep: Keep | None, *, all_classes: bool, seed: int) -> None:
        """With ``all_classes`` nothing is learned before three labels of each that is known."""
        self._frozen, self._all_classes, self._seed = frozen, all_classes, seed
        self._lab_set, self.base = keep, Version(0, frozen)

    @property
    def _keep(self) -> Keep | None:
        """The lab set, whose answers are outputs of the model, unless these are left out."""
        return self._lab_set if self._frozen.vocabulary.n_own else False

    def check(self, answer: object, known: tuple[str, ...], *, new: bool) -> str:
        """As :func:`~skip2lora.serve.learning.check_class`."""
        titles = dict.fromkeys((*self._frozen.vocabulary.titles, *known))
        return check_class(answer, tuple(titles), new=new)

    def labelled(self, stored: Settled) -> Labelled:
        """Labels as places of outputs."""
        return Labelled.of(stored, self.base)

    def waiting(self, labelled: Labelled) -> str | None:
        """What labels are waited for before anything can be learned; None: for none."""
        lacking = labelled.lacking()
        n_classes = len(np.unique(labelled.y))
        if n_classes >= 2 and (not lacking or not self._all_classes):
            return None
        named = listing([f"{title} ({count} of {ENOUGH})" for title, count in lacking.items()])
        return f"waiting for labels of: {named or 'a second class'}"

    def learned(self, labelled: Labelled) -> Candidate:
        """A candidate of all labels."""
        return learned(self._frozen, labelled, self._keep, seed=self._seed)

    def judged(
        self, labelled: Labelled, candidate: Candidate, current: Version, until: int,
        held_out: Mapping[str, Any],
    ) -> Verdict:  # fmt: skip
        """Held-out answers of the candidate beside those of ``current``, on the same samples.

        Of the version in use, too, answers are held out to the samples that it learned: what it has
        learned it knows, and nothing would ever beat it there. ``held_out`` are these, by numbers
        of samples; ``until`` is the newest label that had a part in adopting it.
        """
        stored = labelled.stored
        now = self._answers(current, stored, labelled.titles)
        names = [held_out.get(str(id)) for id in stored.ids.tolist()]
        learned_by_it = np.array([name is not None for name in names], np.bool_)
        now[learned_by_it] = places([name for name in names if name], labelled.titles)
        known = candidate.answers >= 0
        judged = verdict(
            labelled.y[known], now[known], candidate.answers[known],
            old=(stored.last <= until)[known], first=current.number == 0,
        )  # fmt: skip
        if not judged.adopt or not isinstance(self._keep, (tuple, LabSet)):
            return judged
        every = np.ones(len(labelled.y), np.bool_)
        outputs = labelled.encoded(every, self._frozen.vocabulary.names).all_outputs
        rows, y = lab_rows(self._frozen, outputs, self._keep)
        then = Version(current.number + 1, self._frozen, candidate.adapted)
        answers = (_answered(version, rows, labelled.titles) for version in (current, then))
        return kept_lab_set(judged, y, *answers)

    def contradicted(
        self, labelled: Labelled, current: Version, before: Version, new: NDArray[np.bool_]
    ) -> str | None:
        """How ``new`` labels, (labels,), prove ``before`` better than ``current``; None: not."""
        right = [
            self._answers(version, labelled.stored, labelled.titles)[new] == labelled.y[new]
            for version in (current, before)
        ]
        fixed, broke = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
        p = mcnemar(broke, fixed)
        if p >= FIRST:
            return None
        return (
            f"{int(new.sum())} later labels: version {before.number} is right where "
            f"{current.number} is not {broke} times, the other way round {fixed}, p = {p:.2g}"
        )

    def held_out(self, labelled: Labelled, candidate: Candidate) -> dict[int, Any]:
        """By numbers of samples, what the candidate answered that had not learned them."""
        pairs = zip(labelled.stored.ids.tolist(), candidate.answers.tolist(), strict=True)
        return {id: labelled.titles[place] for id, place in pairs if place >= 0}

    def _answers(
        self, version: Version, stored: Settled, titles: tuple[str, ...]
    ) -> NDArray[np.int64]:
        """Of a version, as places among ``titles``, (samples,)."""
        return _answered(version, self._frozen.unpacked(stored.rows), titles)


def _answered(
    version: Version, rows: NDArray[np.float32], titles: tuple[str, ...]
) -> NDArray[np.int64]:
    """Answers to rows as places among ``titles``, (samples,)."""
    return np.asarray(places(version.titles, titles)[version.logits(rows).argmax(axis=1)])
