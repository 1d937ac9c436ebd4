"""What everything that gives logits can do: predict labels and probabilities, and be scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.arrays import check_labels
from skip2lora.errors import ModelError, ParameterError
from skip2lora.members import member
from skip2lora.tasks.labels import is_named, number
from skip2lora.tasks.measures import r2
from skip2lora.tasks.task import CLASSIFICATION, TASKS, Task, chances, check_answers, decided


def lacks(model: object, name: str, expected: str) -> ModelError:
    """The error for a class that does not define a required member."""
    return ModelError(
        f"{type(model).__name__} has no {name}, expected {expected}: define it in the class"
    )


class Predictor(ABC):
    """Predictions from logits, or numbers; ``x`` is (samples, features) or what the model takes.

    Every method raises :class:`~skip2lora.errors.DataError` for samples the model cannot take.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: nothing here changes, and scikit-learn copies models for every candidate."""
        return self

    @member
    def n_outputs(self) -> int:
        """Number of classes, or of numbers; required."""
        raise lacks(self, "n_outputs", "the number of outputs, 0 for a model without any")

    @member
    def task(self) -> str:
        """What the outputs mean: a name of :data:`skip2lora.tasks.task.TASKS`."""
        return CLASSIFICATION.name

    @member
    def learned(self) -> Task:
        """What the outputs mean, as ``task`` says."""
        return TASKS[self.task]

    @member
    def class_names(self) -> tuple[str, ...] | None:
        """The name of each output, None where they have none."""
        return None

    @member
    def classes_(self) -> NDArray[Any]:
        """The label of each output, (n_outputs,)."""
        return np.arange(self.n_outputs)

    @abstractmethod
    def logits(self, x: ArrayLike) -> NDArray[np.float32]:
        """Outputs before softmax or sigmoid, (samples, n_outputs)."""

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """Labels of the largest logits, (samples,); of several labels 0 or 1 for each; numbers."""
        made = decided(self.learned, self.logits(x))
        if self.learned.targets:
            return made
        labels: NDArray[Any] = self.classes_[made]
        return labels

    def predict_proba(self, x: ArrayLike) -> NDArray[np.float32]:
        """Softmax of the logits, or their sigmoid for several labels: (samples, n_outputs).

        Raises:
            ParameterError: the outputs are numbers.
        """
        made = chances(self.learned, self.logits(x))
        if made is None:
            raise ParameterError("the outputs are numbers, which have no probabilities: predict")
        return made

    def _labels(self, y: ArrayLike, n_samples: int) -> NDArray[Any]:
        """Labels to compare predictions with, checked: names where the classes have names."""
        classes = self.classes_
        if classes.dtype.kind == "U":
            outputs, _ = number(y, n_samples, len(classes), classes.tolist(), new_classes=False)
            return classes[outputs]
        if is_named(y):
            outputs, _ = number(y, n_samples, len(classes), self.class_names, new_classes=False)
            return classes[outputs]
        return check_labels(y, n_samples, int(classes.max()) + 1)

    def score(self, x: ArrayLike, y: ArrayLike) -> float:
        """Share of samples predicted right, 0 to 1; of numbers R2, at most 1.

        ``y`` is (samples,), or (samples, n_outputs) for several labels or numbers. Several labels
        are right when all are; R2 is the mean of the outputs', as in scikit-learn.
        """
        predictions = self.predict(x)
        if not self.learned.targets:
            return float((predictions == self._labels(y, len(predictions))).mean())
        answers = check_answers(self.learned, y, len(predictions), self.n_outputs)
        if self.learned.name == "multi-label":
            return float((predictions == answers).all(axis=1).mean())
        return float(r2(predictions, answers).mean())
