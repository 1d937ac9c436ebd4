"""How good a result is: the base model and the adapted one, on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import ParameterError
from skip2lora.methods import METHODS, Method
from skip2lora.tasks.task import Measures, Task, measure
from skip2lora.training.exact_job import ExactJob
from skip2lora.training.jobs import CheckedSamples, Job
from skip2lora.training.options import Options
from skip2lora.training.suspects import Suspect, suspects_in


@dataclass(frozen=True, eq=False)
class HeldAnswers:
    """What models that did not learn them say of samples held out, and what they are.

    ``logits`` is (n, n_outputs), ``y`` the encoded answers, (n,) or (n, n_outputs). ``row``, (n,),
    numbers the samples as they were passed to be learned, from 0; it is -1 of all others.
    """

    logits: NDArray[np.float32]
    y: NDArray[Any]
    row: NDArray[np.int64]

    @classmethod
    def of(
        cls, logits: NDArray[np.float32], part: CheckedSamples, at: NDArray[np.bool_] | None = None
    ) -> HeldAnswers:
        """Those to the samples of ``part``, or to some, ``at``, (n,)."""
        row = np.arange(len(part.y)) if part.row is None else part.row
        row = row if part.old is None else np.where(part.old, -1, row)
        which = slice(None) if at is None else at
        return cls(logits[which], part.y[which], row[which])


@dataclass(frozen=True)
class Fit:
    """The base model and the adapted one, measured on the same ``n_measured`` samples.

    These are the samples held out where there are any (``held_out``), else those trained on.
    ``before`` is None where the base model has no such outputs: new classes, or outputs that are
    learned anew. ``on_all`` is the adapted model on all samples, trained on and held out.
    ``old`` is the same of samples of the old domain, where such were trained on too; they count
    nowhere else. ``suspects`` are new samples whose labels held-out answers contradict; None where
    no answers are held out, or there are no classes. ``answers`` are those held out, of both
    domains; None where nothing was.
    """

    before: Measures | None
    after: Measures
    on_all: Measures
    held_out: bool
    n_measured: int
    old: Fit | None = None
    suspects: tuple[Suspect, ...] | None = None
    answers: HeldAnswers | None = field(default=None, repr=False, compare=False)


def measure_fit(
    job: Job | ExactJob,
    result: Any,
    task: Task,
    part: CheckedSamples,
    held: CheckedSamples | None,
    *,
    names: Sequence[str],
    n_base: int,
) -> Fit:
    """Measure ``result`` of ``job`` by its rows; ``names`` are those of the outputs.

    The base model has the first ``n_base`` of them. Where folds held samples out and the result is
    mixed by them, each counts as it is answered without its fold.
    """
    answered = job.answered
    fit = _measured(job, answered, result, task, part, held, names, n_base)
    if answered is None:
        return fit
    at = np.asarray(~np.isnan(answered).any(axis=1))
    if held is None and at.any():
        fit = replace(fit, answers=HeldAnswers.of(answered, part, at))
    return replace(fit, suspects=suspects_of(job, task, part, held, names))


def suspects_of(
    job: Job | ExactJob,
    task: Task,
    part: CheckedSamples,
    held: CheckedSamples | None,
    names: Sequence[str],
) -> tuple[Suspect, ...] | None:
    """New samples whose labels answers held out by ``job`` contradict; None where it has none.

    Samples for validation alone were not passed to be learned, and are none.
    """
    answered = None if task.numeric_targets else job.answered
    if answered is None:
        return None
    parts = [part] if held is None else [part, held]
    rows = [np.arange(len(each.y)) if each.row is None else each.row for each in parts]
    of_new = [np.ones(len(each.y), np.bool_) if each.old is None else ~each.old for each in parts]
    row = np.concatenate(rows)
    new = np.concatenate(of_new) & (row >= 0) & ~np.isnan(answered).any(axis=1)
    labels = np.concatenate([each.y for each in parts])
    return suspects_in(answered[new], labels[new], names, row[new]) if new.any() else None


def _measured(
    job: Job | ExactJob,
    answered: NDArray[np.float32] | None,
    result: Any,
    task: Task,
    part: CheckedSamples,
    held: CheckedSamples | None,
    names: Sequence[str],
    n_base: int,
) -> Fit:
    if answered is not None and job.mixed_by_folds and held is None:
        return _fit_of_folds(job, answered, result, part, task, names, n_base)
    parts = [part] if held is None else [part, held]
    outputs = [
        job.outputs(
            result, held_out=each is held,
            with_base=n_base > 0 and (each is parts[-1] or part.old is not None),
        )
        for each in parts
    ]  # fmt: skip

    def fit(places: Sequence[NDArray[np.intp]], n_known: int) -> Fit:
        """Of the samples at ``places`` of each part, whose answers are below ``n_known``."""
        pairs = zip(places, parts, outputs, strict=True)
        chosen = [(of.adapted[at], of.base, part.y[at], at) for at, part, of in pairs if len(at)]
        adapted, base, answers, at = chosen[-1]
        after = on_all = measure(task, adapted, answers, names)
        before = None
        if base is not None and n_known <= n_base:
            before = measure(task, base[at, :n_base], answers, names)
        if len(chosen) > 1:
            everything, true = (np.concatenate([each[of] for each in chosen]) for of in (0, 2))
            on_all = measure(task, everything, true, names)
        held_out = places[-1] is at and held is not None
        return Fit(before, after, on_all, held_out, len(at), answers=answers_held)

    answers_held = None if held is None else HeldAnswers.of(outputs[-1].adapted, held)
    if part.old is None:
        return fit([np.arange(len(each.y)) for each in parts], len(names))
    olds = [np.zeros(len(each.y), np.bool_) if each.old is None else each.old for each in parts]
    n_old = max(_n_known(task, each.y[old], names) for each, old in zip(parts, olds, strict=True))
    of_old = fit([np.flatnonzero(old) for old in olds], n_old)
    return replace(fit([np.flatnonzero(~old) for old in olds], len(names)), old=of_old)


def _n_known(task: Task, answers: NDArray[Any], names: Sequence[str]) -> int:
    """How many outputs a model must have for such answers."""
    return len(names) if task.numeric_targets else 1 + int(answers.max(initial=0))


def _fit_of_folds(
    job: Job | ExactJob,
    answered: NDArray[np.float32],
    result: Any,
    part: CheckedSamples,
    task: Task,
    names: Sequence[str],
    n_base: int,
) -> Fit:
    every = job.outputs(result, held_out=False, with_base=True)
    counted = ~np.isnan(answered).any(axis=1)
    if part.weight is not None:
        counted &= part.weight > 0

    def fit(which: NDArray[np.bool_], n_known: int) -> Fit:
        at = which & counted
        held_out = bool(at.any())
        judged, at = (answered, at) if held_out else (every.adapted, which)
        before = None
        if every.base is not None and 0 < n_known <= n_base:
            before = measure(task, every.base[at, :n_base], part.y[at], names)
        after = measure(task, judged[at], part.y[at], names)
        on_all = measure(task, every.adapted[which], part.y[which], names)
        return Fit(before, after, on_all, held_out, int(at.sum()))

    if part.old is None:
        return fit(np.ones(len(part.y), np.bool_), len(names))
    of_old = fit(part.old, _n_known(task, part.y[part.old], names))
    return replace(fit(~part.old, len(names)), old=of_old)


def check_judges(options: Options, groups: Any, validation: Any) -> None:
    """Check what results are judged by.

    Raises:
        ParameterError: groups or samples for validation beside what makes no use of them.
    """
    if validation is not None and options.validation:
        raise ParameterError(
            f"validation={options.validation:g} is set beside validation_data=, expected one of "
            "them: leave validation= out"
        )
    if groups is not None and options.solver != "exact":
        raise ParameterError(
            "groups= is set, but nothing is held out by groups in training by steps, expected the "
            "recipe auto: leave out what is set of steps, or groups="
        )
    if groups is not None and (validation is not None or options.validation):
        raise ParameterError(
            "groups= is set beside samples for validation, expected one of them: leave groups= out"
        )


def check_outputs(
    method: Method, task: Task, keep: bool, new_classes: bool, names: Sequence[str] | None
) -> None:
    """Check options that may mean nothing with the task, or with the outputs kept.

    Raises:
        ParameterError: they mean nothing.
    """
    if new_classes and task.numeric_targets:
        raise ParameterError(
            f"new_classes is on with task {task.name}, expected classification: "
            "leave one of them out"
        )
    if keep:
        return
    if not method.skip:
        able = ", ".join(name for name, each in METHODS.items() if each.skip)
        raise ParameterError(
            f"keep_outputs is off with method {method.name}, which needs the network to its end, "
            f"expected one of {able}: use skip2-lora"
        )
    if new_classes:
        raise ParameterError(
            "new_classes is on with keep_outputs off, which learns all labels anew, expected one "
            "of them: leave new_classes out"
        )
    if names is not None and not task.numeric_targets:
        raise ParameterError(
            "output_names is set with keep_outputs off, expected none, as classes are called as in "
            "y: leave output_names out, or pass names as y"
        )
