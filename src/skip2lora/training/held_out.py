"""What held-out answers say of a result: its loss, its accuracy, how far that may be off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.tasks.evaluation import wilson_interval
from skip2lora.tasks.task import Task, predictions_of, r2, sample_losses


@dataclass(frozen=True)
class HeldOut:
    """Answers to ``n_samples`` samples, each by what was trained without it.

    ``measure`` says what ``value`` is: accuracy of classes, exact_match of several labels, r2 of
    numbers (the mean of the columns). ``low`` and ``high`` are Wilson's interval, None of r2.
    ``loss`` is the mean of the loss that training makes small. ``n_folds`` is 1 for samples that
    are for validation alone. ``notes`` are those of the folds.
    """

    measure: str
    value: float
    low: float | None
    high: float | None
    loss: float
    n_samples: int
    n_folds: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For a person, such as ``accuracy 96.4 % (94.2 to 97.9 %), 4 folds``."""
        value = f"{self.value:.4f}"
        if self.low is not None and self.high is not None:
            value = f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f} %)"
        samples = f"{self.n_samples:,} sample{'s' * (self.n_samples != 1)} held out"
        by = f"{self.n_folds} folds" if self.n_folds > 1 else samples
        return f"{self.measure.replace('_', ' ')} {value}, {by}"

    @classmethod
    def of(
        cls,
        task: Task,
        logits: NDArray[Any],
        answers: NDArray[Any],
        n_folds: int,
        weight: NDArray[np.floating] | None = None,
    ) -> HeldOut:
        """Of held-out ``logits``, (n, n_outputs), and their ``answers``; n is at least 1.

        ``weight``, (n,), counts in the loss, as in training, and not in the accuracy.
        """
        loss = float(np.average(sample_losses(task, logits, answers), weights=weight))
        predictions = predictions_of(task, logits)
        if task.name == "regression":
            score = float(r2(predictions, answers).mean())
            return cls("r2", score, None, None, loss, len(answers), n_folds)
        right = predictions == answers
        if task.numeric_targets:
            right = right.all(axis=1)
        n_right = int(np.count_nonzero(right))
        low, high = wilson_interval(n_right, len(answers))
        measure = "exact_match" if task.numeric_targets else "accuracy"
        return cls(measure, n_right / len(answers), low, high, loss, len(answers), n_folds)
