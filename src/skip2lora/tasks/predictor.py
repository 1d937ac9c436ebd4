"""What everything that gives logits can do: predict labels and probabilities, and be scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.arrays import SamplesLike
from skip2lora.errors import ModelError, ParameterError
from skip2lora.tasks.labels import encode
from skip2lora.tasks.task import (
    CLASSIFICATION,
    TASKS,
    Outputs,
    Task,
    predictions_of,
    probabilities_of,
    r2,
)
from skip2lora.tasks.thresholds import (
    NO_PLACE,
    NONE_OF_THESE,
    Threshold,
    Thresholds,
    checked_thresholds,
    choose_thresholds,
    decide,
)

if TYPE_CHECKING:
    # To type checkers it is what it acts as: a property that anything may override.
    from builtins import property as member
else:

    class member:  # noqa: N801, it stands where property would
        """A property with which nothing collides.

        A subclass may define the member as a property, a cached property, an attribute of the
        class or of the instance, or a field of a dataclass, frozen or not: unlike a ``property``
        it lets instances have a value of that name, and a dataclass does not take it for the
        default of a field.
        """

        def __init__(self, compute: Callable[[Any], Any]) -> None:
            self.compute = compute
            self.__doc__ = compute.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self.name = name

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is None:
                raise AttributeError(f"{self.name} is a member of the instances")
            return self.compute(instance)


__all__ = ["member"]


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
    def class_numbers(self) -> NDArray[np.int64]:
        """The number that is the label of each output, (n_outputs,): its place, unless defined."""
        return np.arange(self.n_outputs)

    @member
    def thresholds(self) -> Thresholds | None:
        """Least probabilities that predictions go by, None for none."""
        return None

    @member
    def classes_(self) -> NDArray[Any]:
        """What :meth:`predict` calls each output, (n_outputs,): its name, or its number.

        Names that are but the numbers of the outputs count as none.
        """
        names = self.class_names
        if names is None or list(names) == [str(at) for at in range(len(names))]:
            return self.class_numbers
        return np.array(names, np.str_)

    @abstractmethod
    def logits(self, x: SamplesLike) -> NDArray[np.float32]:
        """Outputs before softmax or sigmoid, (samples, n_outputs)."""

    def predict(self, x: SamplesLike, *, threshold: Threshold | None = None) -> NDArray[Any]:
        """The label of the largest logit, (samples,), as in ``classes_``: names, or numbers.

        Of several labels 0 or 1 for each, of numbers the numbers: (samples, n_outputs).
        ``threshold`` is the least probability of a class, one for all, one each, or some by label:
        below it a sample is "none of these", -1 where labels are numbers. Of several labels it
        stands for one half. Without it ``thresholds`` are gone by, if there are any.

        Raises:
            ParameterError: ``threshold`` is no probability, or the outputs are numbers.
        """
        predictions = self.predict_index(x, threshold=threshold)
        if self.learned.numeric_targets:
            return predictions
        labels: NDArray[Any] = self.classes_[predictions]
        if threshold is None and self.thresholds is None:
            return labels
        named = labels.dtype.kind == "U"
        return np.where(predictions == NO_PLACE, NONE_OF_THESE if named else NO_PLACE, labels)

    def predict_index(self, x: SamplesLike, *, threshold: Threshold | None = None) -> NDArray[Any]:
        """As :meth:`predict`, with the place of the output, from 0, for its label; -1 for none.

        Raises:
            ParameterError: as :meth:`predict`.
        """
        if threshold is not None:
            least = checked_thresholds(self.learned, threshold, self.classes_.tolist())
        elif self.thresholds is not None:
            least = self.thresholds.least(self.learned)
        else:
            return predictions_of(self.learned, self.logits(x))
        return decide(self.learned, self.predict_proba(x), least)

    def choose_threshold(
        self, x: SamplesLike, y: ArrayLike, *, precision: float = 0.95
    ) -> dict[Any, float]:
        """The ``threshold`` of each label from which on predictions are right as often as asked.

        ``x`` and ``y`` are samples that the model was not trained on, and that it is not measured
        on later. ``precision`` is the share of predictions of a label, at or above its threshold,
        that is right on them. A label that never gets there has infinity: it is not predicted.

        Raises:
            ParameterError: ``precision`` is no share, or the outputs are numbers.
        """
        task, logits = self.learned, self.logits(x)
        answers = encode(task, y, len(logits), Outputs.of(self, task)).y
        shares = probabilities_of(task, logits)
        least = choose_thresholds(task, logits if shares is None else shares, answers, precision)
        return dict(zip(self.classes_.tolist(), least.tolist(), strict=True))

    def predict_proba(self, x: SamplesLike) -> NDArray[np.float32]:
        """Softmax of the logits, or their sigmoid for several labels: (samples, n_outputs).

        Raises:
            ParameterError: the outputs are numbers.
        """
        probabilities = probabilities_of(self.learned, self.logits(x))
        if probabilities is None:
            raise ParameterError(
                "the outputs are numbers, expected classes or labels for probabilities: call "
                "predict"
            )
        return probabilities

    def score(self, x: SamplesLike, y: ArrayLike) -> float:
        """Share of samples predicted right, 0 to 1, whatever ``thresholds``; of numbers R2.

        ``y`` is (samples,), or (samples, n_outputs) for several labels or numbers. Several labels
        are right when all are; R2 is the mean of the outputs', as in scikit-learn.
        """
        task, logits = self.learned, self.logits(x)
        answers = encode(task, y, len(logits), Outputs.of(self, task)).y
        predictions = predictions_of(task, logits)
        if task.name == "regression":
            return float(r2(predictions, answers).mean())
        right = predictions == answers
        return float((right.all(axis=1) if task.numeric_targets else right).mean())
