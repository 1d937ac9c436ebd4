"""What everything that gives logits can do: predict labels and probabilities, and be scored."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.samples import check_labels


class Classifier(ABC):
    """Predictions from logits; ``x`` is (samples, features).

    Every method raises :class:`~skip2lora.errors.DataError` for samples the model cannot take.
    """

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Number of classes."""

    @abstractmethod
    def logits(self, x: ArrayLike) -> NDArray[np.float32]:
        """Outputs before softmax, (samples, n_outputs)."""

    def predict(self, x: ArrayLike) -> NDArray[np.int64]:
        """Labels of the largest logits, (samples,)."""
        labels: NDArray[np.int64] = self.logits(x).argmax(axis=1)
        return labels

    def predict_proba(self, x: ArrayLike) -> NDArray[np.float32]:
        """Softmax of the logits, (samples, n_outputs)."""
        return softmax(self.logits(x))

    def score(self, x: ArrayLike, y: ArrayLike) -> float:
        """Share of samples predicted right, 0 to 1; ``y`` is (samples,)."""
        predictions = self.predict(x)
        return float((predictions == check_labels(y, len(predictions), self.n_outputs)).mean())


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows that add up to one, (samples, outputs)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
