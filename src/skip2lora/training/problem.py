"""What a convex fit is to learn, of which outputs, and what becomes of the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.errors import DataError
from skip2lora.tasks.task import Task, predictions_of, sample_losses


def shares_of(n_samples: int, weight: NDArray[np.floating] | None) -> NDArray[np.float64]:
    """Shares of the samples, (n,), which add up to 1; None: all the same."""
    shares = np.ones(n_samples) if weight is None else weight.astype(np.float64)
    return np.asarray(shares / shares.sum())


def learned_outputs(
    task: Task, answers: NDArray[Any], weight: NDArray[Any] | None, n_outputs: int
) -> NDArray[np.int64]:
    """Outputs that samples with a ``weight``, (n,), tell anything of; None: all samples.

    Raises:
        DataError: the same labels in all samples.
    """
    some = answers if weight is None else answers[weight > 0]
    if task.name == "regression":
        return np.arange(n_outputs)
    if not task.numeric_targets:
        learned = np.unique(some).astype(np.int64)
    else:
        learned = np.flatnonzero((some != some[0]).any(axis=0))
    if not len(learned):
        raise _nothing_to_tell_apart("the same labels", len(some))
    return learned


def check_contrast(labels: NDArray[Any]) -> None:
    """Raise DataError for one class alone in encoded ``labels``, (n,)."""
    if len(np.unique(labels)) < 2:
        raise _nothing_to_tell_apart("one class alone", len(labels))


def _nothing_to_tell_apart(what: str, n_samples: int) -> DataError:
    all_of = f"all {n_samples:,} samples" if n_samples > 1 else "the only sample"
    return DataError(
        f"got {what} in {all_of}, expected others too, to tell them apart: add some, such as old "
        "ones with keep=, or pass solver='steps'"
    )


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be learned of the samples.

    ``answers`` are labels, (n,), or targets, (n, n_outputs). ``base_logits``, (n, n_outputs), are
    where outputs begin, times ``base_factor``. ``weight`` are shares, (n,), that add up to 1; 0
    leaves a sample out. ``trained``, (n,), are the samples that are trained on in the end.
    ``smoothing`` moves that share of a label to all classes alike.
    ``squared``: the squared loss to one half where a class or label applies, and to minus one half
    where not, is what is made small; such outputs are logits when they are multiplied by
    ``factor``.
    ``learned`` are the outputs that samples with a weight tell anything of: classes that occur,
    labels that some have and some have not. The others keep their base logits.
    """

    task: Task
    answers: NDArray[Any]
    base_logits: NDArray[np.float32]
    weight: NDArray[np.float64]
    trained: NDArray[np.bool_]
    learned: NDArray[np.int64]
    base_factor: float = 1.0
    smoothing: float = 0.0
    squared: bool = False
    factor: float = 1.0

    @property
    def loss(self) -> int:
        """What is made small, as the core counts it."""
        return _core.SQUARED if self.squared else self.task.loss

    @classmethod
    def of(
        cls,
        task: Task,
        answers: NDArray[Any],
        base_logits: NDArray[np.float32],
        *,
        weight: NDArray[np.float32] | None = None,
        trained: NDArray[np.bool_] | None = None,
        base_factor: float = 1.0,
        smoothing: float = 0.0,
    ) -> Problem:
        """The problem of checked samples.

        ``weight``, (n,), is relative. ``trained``, (n,), marks samples that are ever trained on,
        where others are for validation alone.

        Raises:
            DataError: the same labels in all samples.
        """
        shares = shares_of(len(answers), weight)
        counts = shares > 0 if trained is None else (shares > 0) & trained
        learned = learned_outputs(task, answers, counts, base_logits.shape[1])
        return cls(task, answers, base_logits, shares, counts, learned, base_factor, smoothing)

    @cached_property
    def targets(self) -> NDArray[np.float64]:
        """What the outputs that are learned should be, (n, learned)."""
        if not self.task.numeric_targets:
            same = self._places[:, None] == np.arange(len(self.learned))
            shares: NDArray[np.float64] = (1 - self.smoothing) * same
            shares += self.smoothing / len(self.learned)
            return shares - 0.5 if self.squared else shares
        wanted: NDArray[np.float64] = self.answers[:, self.learned].astype(np.float64)
        if self.task.name == "regression":
            return wanted
        wanted = (1 - self.smoothing) * wanted + self.smoothing / 2
        return wanted - 0.5 if self.squared else wanted

    @cached_property
    def offsets(self) -> NDArray[np.float32]:
        """Where the outputs that are learned begin, (n, learned)."""
        return self.base_logits[:, self.learned] * np.float32(self.base_factor)

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Where the label of each sample is in ``learned``; one more where it is not."""
        places = np.full(self.base_logits.shape[1], len(self.learned))
        places[self.learned] = np.arange(len(self.learned))
        of: NDArray[np.int64] = places[self.answers]
        return of

    @property
    def known(self) -> NDArray[np.bool_]:
        """Samples whose label is among those learned, (n,)."""
        if self.task.numeric_targets:
            return np.ones(len(self.answers), np.bool_)
        return self._places < len(self.learned)

    @cached_property
    def _others(self) -> NDArray[np.float64] | None:
        """The base logits of classes without samples as that of one class, (n,); or None."""
        if self.task.numeric_targets or len(self.learned) == self.base_logits.shape[1]:
            return None
        values = np.delete(self.base_logits, self.learned, axis=1).astype(np.float64)
        top = values.max(axis=1)
        return np.asarray(top + np.log(np.exp(values - top[:, None]).sum(axis=1)))

    def mean_loss(
        self,
        logits: NDArray[np.floating],
        rows: NDArray[np.bool_],
        scale: NDArray[np.floating] | None = None,
    ) -> float:
        """The weighted loss of ``rows``, (n,), as :meth:`losses` has it."""
        losses = self.losses(logits, rows, scale)[rows]
        return float(np.average(losses, weights=self.weight[rows]))

    def losses(
        self,
        logits: NDArray[np.floating],
        rows: NDArray[np.bool_],
        scale: NDArray[np.floating] | None = None,
    ) -> NDArray[np.float64]:
        """The loss of each of ``rows``, (n,), NaN for others, by the task.

        ``logits`` are the learned outputs, (n, learned); numbers are multiplied by ``scale``,
        (learned,).
        """
        values, answers = self.compared(logits, rows)
        if scale is not None and self.task.name == "regression":
            values, answers = values * scale, answers * scale
        losses = np.full(len(rows), np.nan)
        losses[rows] = sample_losses(self.task, values, answers)
        return losses

    def compared(
        self, logits: NDArray[np.floating], rows: NDArray[np.bool_], *, others: bool = True
    ) -> tuple[NDArray[np.floating], NDArray[Any]]:
        """Outputs and answers of ``rows``, (n,), as losses take them.

        ``logits`` are the learned outputs, (n, learned); classes without samples are one more,
        unless ``others`` are left out, as of rows that are all :attr:`known`.
        """
        values = logits[rows]
        if self.task.numeric_targets:
            return values, self.answers[rows][:, self.learned]
        if others and self._others is not None:
            values = np.c_[values, self._others[rows]]
        return values, self._places[rows]

    def accuracy(self, logits: NDArray[np.floating], rows: NDArray[np.bool_]) -> float:
        """The share of ``rows``, (n,), that is right, of numbers 0; as :meth:`mean_loss`."""
        if self.task.name == "regression":
            return 0.0
        right = predictions_of(self.task, self.outputs(logits)[rows]) == self.answers[rows]
        return float(np.mean(right.reshape(len(right), -1).all(axis=1)))

    def outputs(self, logits: NDArray[np.floating]) -> NDArray[np.float32]:
        """All outputs, (n, n_outputs), from those learned, (n, learned)."""
        every = self.base_logits + self._fixed_bias.astype(np.float32)
        every[:, self.learned] = logits
        return every

    def settled(
        self, logits: NDArray[np.floating], trained: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """What is added to all outputs so that those without samples are not predicted any more.

        As no sample tells how likely they are, they keep what the base model says of them, but at
        most a mean probability of 1 in n + 1 or, where a label has no contrast, of 1 in n + 2.
        ``logits`` are (n, learned), ``trained`` are the samples that count, (n,).
        """
        more = self._fixed_bias.copy()
        if self._others is not None:
            shares, n = self.weight[trained] / self.weight[trained].sum(), int(trained.sum())
            top = logits[trained].max(axis=1).astype(np.float64)
            known = top + np.log(np.exp(logits[trained] - top[:, None]).sum(axis=1))
            margins = self._others[trained] - known
            more[self.learned] = _shift(margins[:, None], shares, 1 / (n + 1))
        return more

    @cached_property
    def _fixed_bias(self) -> NDArray[np.float64]:
        """That of labels without contrast, (n_outputs,); 0 for all other outputs."""
        bias = np.zeros(self.base_logits.shape[1])
        fixed = np.setdiff1d(np.arange(len(bias)), self.learned)
        if self.task.name == "multi-label" and len(fixed):
            rows = self.trained
            shares, n = self.weight[rows] / self.weight[rows].sum(), int(rows.sum())
            sign = 1 - 2 * self.answers[np.argmax(rows), fixed].astype(np.float64)
            margins = sign * self.base_logits[rows][:, fixed].astype(np.float64)
            bias[fixed] = -sign * _shift(margins, shares, 1 / (n + 2))
        return bias


def _shift(
    margins: NDArray[np.float64], shares: NDArray[np.float64], most: float
) -> NDArray[np.float64]:
    """The least c from 0 of each column for which the mean of sigmoid(margins - c) is ``most``."""

    def mean(c: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(shares @ (0.5 - 0.5 * np.tanh(0.5 * (c - margins))))

    low = np.zeros(margins.shape[1])
    high = np.where(mean(low) > most, margins.max(axis=0) - np.log(most / (1 - most)), 0)
    for _ in range(50 if high.any() else 0):
        middle = (low + high) / 2
        fits = mean(middle) <= most
        low, high = np.where(fits, low, middle), np.where(fits, middle, high)
    return high
