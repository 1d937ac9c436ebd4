"""Folds: which samples are held out together, so that what was learned is judged by others.

Neighbouring rows of a recording are alike: random folds would judge by copies of what was trained
on. So a fold is a run of neighbouring rows of each class, or whole groups where these are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.arrays import listing, plain_array
from skip2lora.errors import DataError
from skip2lora.tasks.task import CLASSIFICATION, Task

#: Where samples are many.
N_FOLDS = 4
# Three of four folds of a few samples teach less than all do: so many samples are trained on in
# all folds together, by at most so many folds.
_IN_ALL, _MOST_FOLDS = 1000, 10


@dataclass(frozen=True, eq=False)
class Folds:
    """``of``, (n,), is the fold in which a sample is held out, from 0; -1 where it never is.

    ``count`` is 0 where no sample can be held out. ``notes`` say what is otherwise than one may
    expect. ``apart``: what is held out is for validation alone, and never trained on.
    """

    of: NDArray[np.int32]
    count: int
    notes: tuple[str, ...] = ()
    apart: bool = False

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Samples that are held out in some fold, (n,)."""
        return self.of >= 0

    def trained(self, fold: int | None = None) -> NDArray[np.bool_]:
        """Samples that are trained on without ``fold``, or in the end, (n,)."""
        if fold is None and not self.apart:
            return np.ones(len(self.of), np.bool_)
        return np.asarray(self.of != (0 if fold is None else fold))

    @classmethod
    def validation(cls, n_trained: int, n_held: int, n_known: int = 0) -> Folds:
        """One fold: ``n_held`` samples for validation alone after ``n_trained`` others.

        ``n_known`` of them are the same as some of these.
        """
        of = np.repeat(np.array([-1, 0], np.int32), [n_trained, n_held])
        note = f"{n_known:,} of {n_held:,} samples held out are trained on too, so it is too good"
        return cls(of, 1, (note,) if n_known else (), True)


def folds_for(n_samples: int) -> int:
    """How many folds ``n_samples`` are cut into: 10 up to 100 of them, 4 from 201 on."""
    return max(N_FOLDS, min(_MOST_FOLDS, _IN_ALL // max(n_samples, 1)))


def block_folds(
    answers: NDArray[Any],
    task: Task = CLASSIFICATION,
    *,
    n_folds: int = N_FOLDS,
    groups: NDArray[np.int64] | None = None,
    names: Sequence[str] | None = None,
    copies: NDArray[np.int64] | None = None,
) -> Folds:
    """Folds of checked ``answers``: labels, (n,), or targets, (n, n_outputs).

    The samples of a class are cut into ``n_folds`` runs in the order of their rows; rows with the
    same set of labels count as a class, those with numbers as one. With ``groups``, (n,), from
    :func:`check_groups`, whole groups are held out instead, so that each fold has its share of
    every class as far as that goes. There are fewer folds where no class has so many samples, or
    where there are fewer groups. What would leave a class without a sample to train on is never
    held out, so each fold can learn every class. ``names`` are those of the outputs, for notes.
    ``copies``, (n,), has the same number for samples that are the same: without groups they are
    held out together, where the first of them is.
    """
    classes = _classes(answers, task)
    first = _first_ones(len(classes), None if groups is not None else copies)
    different = first == np.arange(len(first))
    if groups is None:
        most = int(np.bincount(classes[different].astype(np.intp)).max())
        what = "samples" if task.name == "regression" else "samples of a class"
        count = min(n_folds, most)
        of = np.zeros(len(classes), np.int32)
        of[different] = _runs(classes[different], count)
        of = of[first]
    else:
        groups = np.unique(groups, return_inverse=True)[1]
        most, what = int(groups.max()) + 1, "groups"
        count = min(n_folds, most)
        of = _grouped(groups, classes, count)
    if count < 2:  # one sample of numbers, or one group
        of[:] = -1
    alone = []
    for name, needed in _needed(answers, task, names):
        if len(np.unique(of[needed])) < 2:
            of[needed] = -1
            alone.append(name)
    notes = []
    if 1 < count < min(n_folds, N_FOLDS):
        notes.append(f"{count} folds, as there are but {count} {what}")
    if alone:
        notes.append(f"never held out, as all of it would be in one fold: {listing(alone)}")
    n_copies = np.count_nonzero(~different)
    if n_copies:
        notes.append(f"{n_copies:,} samples are there more than once, and held out together")
    return Folds(of, numbered(of), tuple(notes))


def _first_ones(n_samples: int, copies: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The place of the first sample with the same number, (n,): of all their own without any."""
    if copies is None:
        return np.arange(n_samples)
    _, first, of_copy = np.unique(copies, return_index=True, return_inverse=True)
    return first.astype(np.int64)[of_copy]


def numbered(of: NDArray[np.int32]) -> int:
    """How many folds there are in ``of``, (n,), which are numbered anew from 0 in place."""
    used, of_used = np.unique(of[of >= 0], return_inverse=True)
    of[of >= 0] = of_used
    return len(used)


def check_groups(groups: ArrayLike, n_samples: int) -> NDArray[np.int64]:
    """The number of the group of each sample, (n_samples,), from numbers or names.

    Raises:
        DataError: as :func:`groups_of`, or all samples are of one group.
    """
    names, numbers = np.unique(groups_of(groups, n_samples), return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f'groups has 1 group ("{names[0]}"), expected at least 2, as whole groups are held '
            "out: leave groups= out, or name another column"
        )
    return numbers.astype(np.int64)


def groups_of(groups: ArrayLike, n_samples: int) -> NDArray[Any]:
    """The group of each sample, (n_samples,), a number or a name.

    Raises:
        DataError: not one a sample, or a value is missing.
    """
    values = plain_array(groups, "groups")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (n_samples,):
        raise DataError(
            f"groups has shape {values.shape}, expected ({n_samples},), one a sample of X: pass "
            "the group of each"
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise DataError(
            f"groups has {values[row]} at row {row} (from 0), expected the number or name of a "
            "group: fill it in, or drop the row"
        )
    return values


def _classes(answers: NDArray[Any], task: Task) -> NDArray[np.int64]:
    """What is spread evenly over the folds, numbered from 0: labels, sets of labels, or nothing."""
    if task.name == "regression":
        return np.zeros(len(answers), np.int64)
    if task.numeric_targets:
        _, sets, counts = np.unique(answers, axis=0, return_inverse=True, return_counts=True)
        answers = np.where(counts[sets] > 1, sets, -1)  # sets of one sample go together
    return np.unique(answers, return_inverse=True)[1].astype(np.int64)


def _runs(classes: NDArray[np.int64], count: int) -> NDArray[np.int32]:
    """Runs of neighbouring rows of each class, the first ones in fold 0.

    Runs of all classes are alike in their place, as those were recorded in the same minutes. Those
    with fewer samples than folds start in turn at another fold.
    """
    of = np.empty(len(classes), np.int32)
    for number, size in enumerate(np.bincount(classes.astype(np.intp)).tolist()):
        shift = number if size < count else 0
        of[classes == number] = (np.arange(size) * count // size + shift) % count
    return of


def _grouped(
    groups: NDArray[np.int64], classes: NDArray[np.int64], count: int
) -> NDArray[np.int32]:
    """Whole groups, the largest first, each to the fold that it makes the least uneven."""
    table = np.zeros((groups.max() + 1, classes.max() + 1))
    np.add.at(table, (groups, classes), 1)
    table /= table.sum(axis=0)
    shares = np.zeros((count, table.shape[1]))
    fold_of = np.empty(len(table), np.int32)
    order = np.argsort(-table.sum(axis=1), kind="stable")
    for place, group in enumerate(order):
        uneven = ((shares + table[group]) ** 2 - shares**2).sum(axis=1)
        fold = place if place < count else int(uneven.argmin())  # none stays empty
        fold_of[group] = fold
        shares[fold] += table[group]
    return fold_of[groups]


def _needed(
    answers: NDArray[Any], task: Task, names: Sequence[str] | None
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Samples of which one at least must be trained on, and what they are called."""
    if task.name == "regression":
        return
    if not task.numeric_targets:
        for label in np.unique(answers).tolist():
            yield f"class {label}" if names is None else names[label], answers == label
        return
    for column in range(answers.shape[1]):
        name = f"label {column}" if names is None else names[column]
        has = answers[:, column] > 0
        if 0 < np.count_nonzero(has) < len(has):
            yield from ((name, has), (f"no {name}", ~has))
