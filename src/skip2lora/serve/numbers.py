"""What a service of numbers learns of labels, and how a candidate of them is judged.

A label is a number in the unit that the model gives. There are no classes to wait for, no names to
confuse, and no probabilities: what a model of numbers is unsure of, it does not say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapt import adapt
from skip2lora.backbones.standins import over
from skip2lora.errors import DataError, brief
from skip2lora.serve.answering import Frozen, Version
from skip2lora.serve.gate import Verdict
from skip2lora.serve.learning import Candidate, lab_rows, learned_on
from skip2lora.serve.nearness import contradicted, kept_lab_set, verdict
from skip2lora.serve.store import Settled
from skip2lora.tasks.task import REGRESSION, Outputs
from skip2lora.training.lab_set import LabSet
from skip2lora.training.rehearsal import Keep

#: Labels from which on something is learned: two of each of five folds.
LEAST = 10
_MOST_LETTERS = 40
_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Measured:
    """Labelled samples with their numbers, ``y``, (samples,) float64."""

    stored: Settled
    y: NDArray[np.float64]


class Numbers:
    """Labels that are numbers; ``keep`` is the lab set, or False."""

    def __init__(self, frozen: Frozen, keep: Keep, *, seed: int) -> None:
        self._frozen, self._keep, self._seed = frozen, keep, seed

    def check(self, answer: object, known: tuple[str, ...] = (), *, new: bool = False) -> str:
        """``answer`` as the text that is kept, the same for the same number.

        Raises:
            DataError: it is no finite number that float32 holds.
        """
        number = math.nan
        if isinstance(answer, (int, float)) and not isinstance(answer, bool):
            number = float(answer) if abs(answer) <= _MOST else math.nan
        elif isinstance(answer, str) and len(answer) <= _MOST_LETTERS and answer.isascii():
            number = _read(answer)
        if not abs(number) <= _MOST:
            raise DataError(
                f"the label is {brief(answer)!r}, expected a finite number such as 21.5: correct it"
            )
        return repr(number + 0.0)  # of both zeros one

    def labelled(self, stored: Settled) -> Measured:
        """Labels as numbers."""
        return Measured(stored, np.array([float(each) for each in stored.answers], np.float64))

    def waiting(self, labelled: Measured) -> str | None:
        """What labels are waited for before anything can be learned; None: for none."""
        n = len(labelled.y)
        if n < LEAST:
            return f"waiting for labels: {n} of {LEAST}"
        return None if len(np.unique(labelled.y)) > 1 else "waiting for labels of another number"

    def learned(self, labelled: Measured) -> Candidate:
        """A candidate of all labels, with numbers that it answers held out."""
        rows = self._frozen.unpacked(labelled.stored.rows)
        adapted = adapt(
            learned_on(self._frozen, rows), rows, labelled.y.astype(np.float32),
            task=REGRESSION.name, keep=self._keep, seed=self._seed,
        )  # fmt: skip
        answers = np.full(len(rows), np.nan)
        held = None if adapted.fit is None else adapted.fit.answers
        if held is not None:
            new = held.row >= 0
            answers[held.row[new]] = held.logits[new, 0]
        result = replace(adapted, backbone=over(adapted.backbone, self._frozen.model))
        return Candidate(result, answers, (), 0)

    def judged(
        self, labelled: Measured, candidate: Candidate, current: Version, until: int,
        held_out: Mapping[str, Any],
    ) -> Verdict:  # fmt: skip
        """As of classes: numbers held out of both, on the same samples."""
        stored = labelled.stored
        now = self._answers(current, labelled)
        for at, id in enumerate(stored.ids.tolist()):
            now[at] = held_out.get(str(id), now[at])
        known = np.isfinite(candidate.answers)
        judged = verdict(
            labelled.y[known], now[known], candidate.answers[known],
            old=(stored.last <= until)[known], first=current.number == 0,
        )  # fmt: skip
        if not judged.adopt or not isinstance(self._keep, (tuple, LabSet)):
            return judged
        outputs = Outputs.of(self._frozen.model, REGRESSION)
        rows, y = lab_rows(self._frozen, outputs, self._keep)
        then = Version(current.number + 1, self._frozen, candidate.adapted)
        return kept_lab_set(
            judged, y[:, 0], *(version.logits(rows)[:, 0] for version in (current, then))
        )

    def contradicted(
        self, labelled: Measured, current: Version, before: Version, new: NDArray[np.bool_]
    ) -> str | None:
        """How ``new`` labels, (labels,), prove ``before`` better than ``current``; None: not."""
        numbers = [self._answers(version, labelled)[new] for version in (current, before)]
        proved, how = contradicted(labelled.y[new], *numbers)
        if not proved:
            return None
        return f"{int(new.sum())} later labels, to which version {before.number} is {how}"

    def held_out(self, labelled: Measured, candidate: Candidate) -> dict[int, Any]:
        """By numbers of samples, what the candidate answered that had not learned them."""
        pairs = zip(labelled.stored.ids.tolist(), candidate.answers.tolist(), strict=True)
        return {id: number for id, number in pairs if math.isfinite(number)}

    def _answers(self, version: Version, labelled: Measured) -> NDArray[np.float64]:
        rows = self._frozen.unpacked(labelled.stored.rows)
        return np.asarray(version.logits(rows)[:, 0], np.float64)


def _read(text: str) -> float:
    try:
        return float(text.strip()) if "_" not in text else math.nan
    except ValueError:
        return math.nan
