"""A candidate from all labelled rows: learned anew from the base, judged on labels held out.

The way is that of ``adapt`` for any model, with the lab set, on rows in place of samples. The
folds by which it chooses give each labelled sample an answer of models that did not learn it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapt import adapt
from skip2lora.adapted import AdaptedModel, NewlyAdapted
from skip2lora.arrays import listing
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.derived import LOG, LOG_CENTRED, Derived
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.standins import over
from skip2lora.errors import DataError, brief
from skip2lora.methods import METHODS
from skip2lora.serve.answering import Frozen, Version
from skip2lora.serve.store import Settled
from skip2lora.tasks.task import CLASSIFICATION, TASKS, Encoded, NewLabels, Outputs
from skip2lora.training.lab_set import LabSet
from skip2lora.training.loop import checked
from skip2lora.training.rehearsal import ENOUGH, Keep, read_old
from skip2lora.training.suspects import UNLIKELY, Suspect

#: Labels from which on those that held-out answers find unlikely are left out of training.
SUSPECTS_FROM = 40


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled samples as places of outputs, ``y``, (samples,), which are called ``titles``.

    The first ``n_base`` titles are of the model's outputs. After them come classes that an adapter
    added which was given at the start, and new ones.
    """

    stored: Settled
    y: NDArray[np.int32]
    titles: tuple[str, ...]
    n_base: int

    @classmethod
    def of(cls, stored: Settled, base: Version) -> Labelled:
        """Without samples of new classes that have fewer than three."""
        known = base.frozen.vocabulary
        titles, counts = known.titles, Counter(stored.answers)
        new = [name for name in dict.fromkeys(stored.answers) if name not in titles]
        titles = (*titles, *(name for name in new if counts[name] >= ENOUGH))
        stay = np.array([answer in titles for answer in stored.answers], np.bool_)
        stored = stored.some(stay)
        places = {title: place for place, title in enumerate(titles)}
        y = np.array([places[answer] for answer in stored.answers], np.int32)
        return cls(stored, y, titles, known.n_own)

    def lacking(self) -> dict[str, int]:
        """Classes with fewer than three labels, and how many they have."""
        counts = np.bincount(self.y.astype(np.intp), minlength=len(self.titles)).tolist()
        pairs = zip(self.titles, counts, strict=True)
        return {title: count for title, count in pairs if count < ENOUGH}

    def encoded(self, stay: NDArray[np.bool_], names: tuple[str, ...] | None) -> Encoded:
        """The labels of some samples, (samples,), as ``adapt`` takes them."""
        new: Sequence[str] = self.titles[self.n_base :]
        labels: NewLabels = tuple(new)
        if names is None and all(name.isdecimal() for name in new):
            labels = tuple(map(int, new))
        return Encoded(self.y[stay], Outputs(range(self.n_base), names), labels)


@dataclass(frozen=True, eq=False)
class Candidate:
    """``adapted`` was learned of labelled samples, without those of ``suspects`` that are ``out``.

    ``answers``, (samples,), are places of outputs, each by a model that did not learn the sample;
    -1 where there is none. Of numbers they are these, NaN where there is none. ``suspects`` have as
    ``row`` the number of the sample.
    """

    adapted: AdaptedModel
    answers: NDArray[Any]
    suspects: tuple[Suspect, ...]
    n_out: int


def learned(frozen: Frozen, labelled: Labelled, keep: Keep | None, *, seed: int) -> Candidate:
    """A candidate of all ``labelled`` samples beside the old ones that ``keep`` means.

    Raises:
        DataError: they are of one class alone.
        ModelError, FileError: the lab set cannot be used.
    """
    stored, stay = labelled.stored, np.ones(len(labelled.y), np.bool_)
    adapted = _adapted(frozen, labelled, stay, keep, seed)
    suspects = () if adapted.fit is None else adapted.fit.suspects or ()
    answers = _held_out(adapted, stay)
    out = _to_leave_out(labelled, suspects)
    if out.any():
        stay = ~out
        adapted = _adapted(frozen, labelled, stay, keep, seed)
        answers = _held_out(adapted, stay)
    result = replace(adapted, backbone=over(adapted.backbone, frozen.model))
    if out.any():  # they were not learned at all
        version = Version(1, frozen, result)
        answers[out] = version.logits(frozen.unpacked(stored.rows[out])).argmax(axis=1)
    ids = [replace(each, row=int(stored.ids[each.row])) for each in suspects]
    return Candidate(result, answers, tuple(ids), int(out.sum()))


def _adapted(
    frozen: Frozen, labelled: Labelled, stay: NDArray[np.bool_], keep: Keep | None, seed: int
) -> NewlyAdapted:
    rows, n_own = frozen.unpacked(labelled.stored.rows[stay]), labelled.n_base
    model, names = learned_on(frozen, rows), frozen.vocabulary.names
    return adapt(
        model, rows, labelled.encoded(stay, names), task=CLASSIFICATION.name,
        keep_outputs=n_own > 0, new_classes=0 < n_own < len(labelled.titles),
        output_names=None if names == model.class_names else names, keep=keep, seed=seed,
    )  # fmt: skip


def learned_on(frozen: Frozen, rows: NDArray[np.float32]) -> Backbone:
    """What rows are learned on: of an ``MLP`` with logarithms of samples that have none below 0.

    These are the taps that adapt has there, too. The fit is that of any model, which is judged held
    out as it goes, and was better than steps with few labels.
    """
    model = frozen.model
    if not isinstance(model, MLP):
        return frozen.rows_of
    samples = frozen.rows_of.forward(rows).taps[0]
    if (samples < 0).any():
        return frozen.rows_of
    derived = Derived.of(model, (LOG, LOG_CENTRED), np.ascontiguousarray(samples))
    return over(derived, frozen.rows_of)


def as_rows(frozen: Frozen, keep: Keep | None) -> Keep | None:
    """``keep`` with rows in the place of samples, as candidates are learned of rows.

    Raises:
        DataError: samples the model cannot take.
        ModelError: the model gave NaN or infinity.
    """
    if not isinstance(keep, tuple):
        return keep
    return frozen.rows(checked(frozen.model, keep[0])), *keep[1:]


def lab_rows(
    frozen: Frozen, outputs: Outputs, keep: tuple[Any, ...] | LabSet
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Rows that ``keep`` means, (n, row_stride), and their answers as ``outputs``.

    These are places, (n,), or numbers, (n, outputs).

    Raises:
        DataError, ModelError, ParameterError: it does not fit.
    """
    old = read_old(
        keep, frozen.rows_of, outputs, task=TASKS[frozen.task], method=METHODS["skip2-lora"],
        check=lambda rows: checked(frozen.rows_of, rows),
    )  # fmt: skip
    return old.x, old.y


def _held_out(adapted: NewlyAdapted, stay: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Answers to all labelled samples, of which those that ``stay`` were passed."""
    answers = np.full(len(stay), -1, np.int64)
    held = None if adapted.fit is None else adapted.fit.answers
    if held is not None:
        new = held.row >= 0
        answers[np.flatnonzero(stay)[held.row[new]]] = held.logits[new].argmax(axis=1)
    return answers


def _to_leave_out(labelled: Labelled, suspects: Sequence[Suspect]) -> NDArray[np.bool_]:
    """Unlikely suspects that nobody confirmed, unless their class had too few then, (samples,).

    Of few labels that are contradicted most are right, and say most: those of the hard samples.
    """
    out = np.zeros(len(labelled.y), np.bool_)
    times = labelled.stored.times
    if len(out) < SUSPECTS_FROM:
        return out
    out[[each.row for each in suspects if each.label_probability < UNLIKELY]] = True
    out &= times < 2
    left = np.bincount(labelled.y[~out].astype(np.intp), minlength=len(labelled.titles))
    had = np.bincount(labelled.y.astype(np.intp), minlength=len(labelled.titles))
    few = (left < ENOUGH) & (had > left)
    return out & ~few[labelled.y]


def places(names: Sequence[str], titles: Sequence[str]) -> NDArray[np.int64]:
    """Where each of ``names`` is among ``titles``; -1 where it is not."""
    of = {title: place for place, title in enumerate(titles)}
    return np.array([of.get(name, -1) for name in names], np.int64)


def check_class(answer: object, titles: Sequence[str], *, new: bool) -> str:
    """``answer``, if it is one of ``titles``, or may become one.

    Raises:
        DataError: it is no text, or unknown and not ``new``.
    """
    is_text = isinstance(answer, str) or type(answer) is int  # of classes that have no names
    name = str(answer).strip() if is_text else ""
    if not name or len(name) > _MOST_LETTERS or not name.isprintable():
        raise DataError(
            f"the label is {brief(answer)!r}, expected a name of 1 to {_MOST_LETTERS} printable "
            "characters: correct it"
        )
    if name not in titles and not new:
        raise DataError(
            f"the label {name!r} is unknown, expected one of {listing(titles)}: correct it, or "
            "pass new=True for a new class"
        )
    return name


_MOST_LETTERS = 100
