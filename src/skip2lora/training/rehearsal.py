"""Rehearsal: samples of the old domain are trained on beside the new ones, so that it is kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.arrays import SamplesLike, listing, real
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.field_mlp import field_statistics
from skip2lora.backbones.known_rows import KnownRows
from skip2lora.errors import DataError, FewSamplesWarning, ForgettingWarning, ParameterError, warn
from skip2lora.methods import METHODS, Method
from skip2lora.tasks.labels import encode
from skip2lora.tasks.task import Answers, Encoded, Goal, Outputs, Task
from skip2lora.tasks.weights import ClassWeight, check_weights, combined, leave_out
from skip2lora.training.budget import check_unbounded
from skip2lora.training.exact_job import ExactJob, folds_of
from skip2lora.training.fit import Fit, suspects_of
from skip2lora.training.jobs import CheckedSamples, weighed
from skip2lora.training.lab_set import LabSet
from skip2lora.training.loop import Trained, train, train_on_rows
from skip2lora.training.options import Options
from skip2lora.training.projection import Start
from skip2lora.training.watch import NOBODY, Watch

#: Of every lab set's file; one that lies beside its model is called after it.
LAB_SET_SUFFIX = ".safetensors"
#: Samples of a class, below which adapting warns.
ENOUGH = 3
_Answers = ArrayLike | Answers | Encoded
#: What ``keep=`` may be: samples and labels, and their weights, a lab set or its file; False for
#: none.
Keep = (
    tuple[SamplesLike, _Answers] | tuple[SamplesLike, _Answers, ArrayLike]
    | LabSet | str | os.PathLike[str] | bool
)  # fmt: skip


def lab_set_beside(model: str | os.PathLike[str]) -> Path:
    """Where the lab set of the model in that file lies."""
    file = Path(model)
    return file.with_name(f"{file.name}.lab-set{LAB_SET_SUFFIX}")


@dataclass(frozen=True, eq=False)
class OldSamples:
    """Samples of the old domain: ``model`` gives their rows for ``x``, checked or known rows.

    ``y`` are encoded answers; ``weight``, (samples,), says how much each counts beside a new one,
    ``spent`` is as of ``CheckedSamples``.
    """

    model: Backbone
    x: Any
    y: NDArray[Any]
    weight: NDArray[np.float64]
    spent: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def weighed(self, weight: float | None, n_new: int) -> OldSamples:
        """The same, with :func:`old_weights` beside ``n_new`` new ones."""
        return replace(self, weight=old_weights(self.weight, weight, n_new))


def find_lab_set(
    model: Backbone, keep: Keep | None, *, keep_outputs: bool = True
) -> tuple[Any, ...] | LabSet | None:
    """``keep``, where it is None the lab set beside the file of ``model``, if there is one.

    Where the outputs of ``model`` are left out, so is that lab set.

    Raises:
        FileError: the lab set cannot be read.
        ModelError: it is damaged.
        ParameterError: ``keep`` is something else, or is set without ``keep_outputs``.
    """
    if keep is None and keep_outputs and model.base.path is not None:
        beside = lab_set_beside(model.base.path)
        keep = beside if beside.is_file() else None
    if keep is None or keep is False:
        return None
    if not keep_outputs:
        raise ParameterError(
            "keep is set with keep_outputs off, which leaves out what the model knew, expected one "
            "of them: leave keep out, or pass old samples with the others in X and y"
        )
    if isinstance(keep, str | os.PathLike):
        return LabSet.read(keep)
    if not isinstance(keep, LabSet) and not (isinstance(keep, tuple) and len(keep) in (2, 3)):
        raise ParameterError(
            f"keep is {type(keep).__name__}, expected samples and labels, (X, y), a lab set or its "
            "file: pass one, or leave keep out"
        )
    return keep


def old_samples(
    keep: Keep | None,
    weight: float | None,
    model: Backbone,
    encoded: Encoded,
    *,
    task: Task,
    method: Method,
    keep_outputs: bool,
    check: Callable[[Any], Any],
) -> OldSamples | None:
    """What ``keep`` means for ``model``, whose new samples have the answers ``encoded``.

    Their labels are those of the result, new classes among them. ``check`` gives ``X`` as ``model``
    takes it. How much they count is as of :func:`old_weights`.

    Raises:
        DataError: samples or labels that do not fit the model.
        FileError: the lab set cannot be read.
        ModelError: it is damaged, of another model, or of other taps.
        ParameterError: ``keep`` is something else, or a weight is out of range or of none.
    """
    chosen, old = find_lab_set(model, keep, keep_outputs=keep_outputs), None
    check_keep_weight(weight, chosen)
    if chosen is not None:
        old = read_old(chosen, model, encoded.all_outputs, task=task, method=method, check=check)
        old = old.weighed(weight, len(encoded.y))
    return old


def read_old(
    keep: tuple[Any, ...] | LabSet,
    model: Backbone,
    outputs: Outputs,
    *,
    task: Task,
    method: Method,
    check: Callable[[Any], Any],
) -> OldSamples:
    """Samples of the old domain, with answers that are ``outputs``, as :func:`old_samples`."""
    if isinstance(keep, LabSet):
        return _of_lab_set(keep, model, task, method)
    try:
        x, y, *more = keep
        x = check(x)
        each: NDArray[Any] = np.ones(len(x))
        if more:
            x, y, each = leave_out(x, y, check_weights(more[0], len(x)))
        return OldSamples(model, x, encode(task, y, len(x), outputs).y, each)
    except DataError as error:
        raise DataError(f"keep: {error}") from error


def check_keep_weight(weight: float | None, old: object) -> None:
    """Raise ParameterError for a weight out of range, or where ``old`` is None or False."""
    if weight is None:
        return
    real("keep_weight", weight, 1e-6, 1e6, "above 0 (1e-6 to 1e6)")
    if old is None or old is False:
        raise ParameterError(
            "keep_weight= is set without old samples, expected some whose weight it is: pass "
            "keep=, or leave keep_weight= out"
        )


def check_lab_set(
    lab_set: LabSet, model: Backbone, task: Task
) -> tuple[Backbone, NDArray[np.float32]]:
    """What has the rows in the place of ``model``, and these, as :meth:`LabSet.rows_for`.

    Raises:
        ModelError: the lab set is of another model, or lacks a tap of this one.
        ParameterError: it has answers for another task.
    """
    if lab_set.task is not task:
        raise ParameterError(
            f"{lab_set.path or 'the lab set'} has answers for {lab_set.task.name}, the task is "
            f"{task.name}, expected the same: leave the lab set with keep=False"
        )
    return lab_set.rows_for(model)


def _of_lab_set(lab_set: LabSet, model: Backbone, task: Task, method: Method) -> OldSamples:
    known, rows = check_lab_set(lab_set, model, task)
    # An MLP's first tap is the sample, which passes layers that change, or other statistics.
    if not method.skip or field_statistics(model):
        known, rows = model, lab_set.taps[0]
    return OldSamples(known, rows, lab_set.answers, np.ones(len(lab_set)))


def old_weights(own: NDArray[Any], weight: float | None, n_new: int) -> NDArray[np.float64]:
    """How much old samples count, each as much as ``weight`` of ``n_new`` new ones in the mean.

    ``own`` is how much they count beside each other. By default both domains count alike, but an
    old sample at least as much as a new one.
    """
    weight = max(1.0, n_new / len(own)) if weight is None else weight
    weights: NDArray[np.float64] = weight * own.astype(np.float64) / own.mean(dtype=np.float64)
    return weights


def weights_beside(old: NDArray[Any], new: NDArray[Any] | None, n_new: int) -> NDArray[np.float32]:
    """Weights of ``n_new`` new samples and of old ones, which count beside the mean new one."""
    new = np.ones(n_new) if new is None else new / new.mean(dtype=np.float64)
    return np.concatenate([new, old]).astype(np.float32)


def weighed_beside(
    part: CheckedSamples,
    old: OldSamples,
    own: NDArray[np.float32] | None,
    class_weight: ClassWeight,
    places: Mapping[Any, int],
) -> tuple[CheckedSamples, OldSamples | None]:
    """Both with weights of classes, which count the samples of both; those of 0 are left out.

    ``own`` are the weights of the new samples of ``part``, (n,), by themselves.
    """
    n_new = len(part.y)
    beside = weights_beside(old.weight, own, n_new)
    weights = combined(np.concatenate([part.y, old.y]), beside, class_weight, places)
    weights = np.ones(len(beside), np.float32) if weights is None else weights
    new, of_old = np.split(weights, [n_new])
    stay, of_old = of_old > 0, of_old / new.mean(dtype=np.float64)
    more = replace(old, x=old.x[stay], y=old.y[stay], weight=of_old[stay])
    return weighed(part, new), more if stay.any() else None


def rehearse(
    model: Backbone,
    part: CheckedSamples,
    options: Options,
    *,
    old: OldSamples | None,
    goal: Goal,
    watch: Watch = NOBODY,
    suspects: bool = False,
) -> Trained:
    """As :func:`~skip2lora.training.loop.train`, on the samples of ``part`` and ``old`` ones.

    Each sample passes the frozen model once, with a Skip-Cache and without, and a known row never.
    ``suspects`` lets the measure name labels that answers held out contradict: those of an exact
    fit on the same rows, where training itself holds none out.

    Raises:
        ModelError: the model gave other shapes than it announced, NaN or infinity.
        ParameterError: ``suspects`` of what has no classes, or no rows; or a limit of the cache.
        DivergedError: the loss became infinite or NaN.
    """
    method, joined = METHODS[options.method], part if old is None else _joined(part, old)
    if suspects and (goal.task.numeric_targets or not method.skip):
        raise ParameterError(
            f"suspects is on for {goal.task.name} with {method.name}, expected classification with "
            "skip2-lora, whose rows say of labels: leave suspects out"
        )
    if options.projection is not None:
        start = Start.of(model, part, joined, old, options, goal.task, suspects=suspects)
        done = rehearse(
            start.model, start.part, replace(options, projection=None), old=start.old, goal=goal,
            watch=start.watched(watch), suspects=suspects,
        )  # fmt: skip
        return start.after(done)
    if not method.skip or (old is None and not suspects):
        x = part.x if old is None else np.concatenate([part.x, old.x])
        return train(model, replace(joined, x=x), options, goal=goal, watch=watch)
    check_unbounded(options, "leave suspects out" if old is None else "pass keep=False")
    began = time.perf_counter()
    first_tap = range(len(model.tap_widths))[method.adapted].start
    cache = SkipCache.of(RowFormat.of(model, first_tap, copy_input=True), len(joined.y))
    cache.fill(model, part.x)
    n_forwards = len(part.y)
    if old is not None:
        cache.fill(old.model, old.x, len(part.y))
        n_forwards += len(old) if old.model is model else 0
    beside = part.validation
    if beside is not None:
        rows = SkipCache.of(cache.format, len(beside.y))
        rows.fill(model, beside.x)
        beside, n_forwards = replace(beside, x=rows.rows), n_forwards + len(beside.y)
    filled = time.perf_counter()
    joined = replace(joined, x=cache.rows, validation=beside)
    done = train_on_rows(cache, joined, options, goal=goal, watch=watch)
    if suspects and (options.solver != "exact" or beside is not None):
        done = _with_suspects(done, cache, joined, options, goal)
    return replace(done.after_fill(began, filled, n_forwards), rows_kept=True)


def _joined(part: CheckedSamples, old: OldSamples) -> CheckedSamples:
    """The old samples behind the new ones, ``x`` apart."""
    n_new = len(part.y)
    row, group = part.row, part.group
    if row is not None:
        row = np.concatenate([row, np.full(len(old), -1)])
    if group is not None:  # of old samples there is none
        group = np.concatenate([group, np.zeros(len(old), np.int64)])
    spent = None
    if part.spent is not None and old.spent is not None:
        spent = np.concatenate([part.spent, old.spent])
    return CheckedSamples(
        part.x, np.concatenate([part.y, old.y]), weights_beside(old.weight, part.weight, n_new),
        np.arange(n_new + len(old)) >= n_new, group, part.validation, row, spent, part.names,
    )  # fmt: skip


def _with_suspects(
    done: Trained, cache: SkipCache, part: CheckedSamples, options: Options, goal: Goal
) -> Trained:
    """The same, whose measure has suspects, by folds of an exact fit on the rows.

    Where no sample can be held out, or all have one label, none can be contradicted.
    """
    if len(np.unique(part.y)) < 2 or not folds_of(goal.task, part, None).count:
        return done
    rows = cache.format
    known = KnownRows(rows.tap_widths, rows.n_outputs, rows.layout)
    exact = replace(options, method="skip2-lora", solver="exact", penalty=None)
    job = ExactJob(known, part, exact, goal=goal)
    for _ in job.path():
        pass

    def measure(names: Sequence[str], n_base: int) -> Fit:
        of_job = suspects_of(job, goal.task, part, None, names)
        return replace(done.measure(names, n_base), suspects=of_job)

    return replace(done, measure=measure)


def warn_of_classes(answers: NDArray[Any], titles: Sequence[str], *, all_of: bool) -> None:
    """Say which of the classes ``titles`` have few of the samples with these encoded labels.

    ``all_of`` says that a class without a sample may be forgotten, as the model has it.
    """
    counts = np.bincount(answers.astype(np.intp), minlength=len(titles))
    named = np.array(titles, object)
    there, missing = ([*named[of]] for of in (counts > 0, counts == 0))
    if all_of and missing:
        warn(
            f"y has samples of {len(there)} of {len(titles)} classes ({listing(there)}), expected "
            f"some of all: {listing(missing)} may be forgotten, add samples of them, such as old "
            "ones with keep=",
            ForgettingWarning,
        )
    pairs = zip(titles, counts.tolist(), strict=True)
    few = [f"{title} {count}" for title, count in pairs if 0 < count < ENOUGH]
    if few:
        warn(
            f"y has few samples of {len(few)} class{'es' * (len(few) != 1)} ({listing(few)}), "
            f"expected at least {ENOUGH} of each to tell it from others: collect more",
            FewSamplesWarning,
        )
