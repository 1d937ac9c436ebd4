"""Train a new network on data from the lab: all weights and biases, on scaled features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.arrays import SamplesLike
from skip2lora.backbones.base import check_backbone
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.recipe import PAPER
from skip2lora.errors import ParameterError
from skip2lora.methods import FT_ALL
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.labels import encode
from skip2lora.tasks.task import TASKS, Encoded, Outputs, Task
from skip2lora.tasks.weights import ClassWeight, check_weights, leave_out, weigh
from skip2lora.training.jobs import CheckedSamples, NetworkJob, weighed
from skip2lora.training.loop import Callback, EpochReport, checked, run
from skip2lora.training.options import asked_of, resolve_options
from skip2lora.training.skip_job import column_scale

# A feature may vary by 2^-10 of its mean, as the year does or the pressure of the air, and is still
# scaled in full; what one that varies less loses in float32 stays below 1e-4 of the logits.
_BITS = 10
#: Hidden layers of a network for numbers learn to tell these apart: docs/decisions/0012.
N_RANGES = 5


def pretrain(
    model: MLP,
    X: SamplesLike,
    y: ArrayLike | Encoded,
    *,
    epochs: int = 100,
    batch_size: int | None = None,
    learning_rate: float = 0.01,
    seed: int = 0,
    task: str | None = None,
    standardize: bool = True,
    sample_weight: ArrayLike | None = None,
    class_weight: ClassWeight | None = None,
    columns: Columns | None = None,
    callback: Callback | None = None,
) -> MLP:
    """Train all weights and biases by SGD (FT-All, section 3) and return the trained network.

    ``X`` is (samples, features), ``y`` (samples,) with labels 0, 1, ... or the names of ``model``;
    ``model`` is not changed. ``task`` is classification, multi-label (``y`` is (samples, n_outputs)
    of 0 and 1) or regression (numbers, also (samples,) of one output), by default that of
    ``model``. ``batch_size`` is by default 20, or the number of samples if that is smaller.
    ``sample_weight`` and ``class_weight`` are those of :func:`~skip2lora.adapt`.
    ``standardize`` trains on features, and numbers, scaled by their mean and deviation; the result
    takes and gives them as they are. The paper does not scale. The network keeps the names of the
    columns of a DataFrame, or ``columns``.

    Raises:
        DataError: samples or labels that do not fit the model, fewer than two samples.
        ParameterError: an option out of range, or one output where classes are learned.
        DivergedError: the loss became infinite or NaN.
    """
    asked = asked_of(locals()) | {"standardize": False}  # which is of taps
    columns = (columns or Columns()).over(check_backbone(model).columns).of(X)
    samples, own = checked(model, columns.take(X)), None
    if sample_weight is not None:
        own = check_weights(sample_weight, len(samples))
        samples, y, own = leave_out(samples, y, own)
    learned = TASKS[model.task if task is None else task]
    if model.n_outputs < 2 and learned.name == "classification":
        raise ParameterError(
            f"the model has {model.n_outputs} output, expected 2 or more to tell classes apart: "
            "create it with one an output, or learn numbers with task='regression'"
        )
    model = replace(model, task=learned.name, columns=columns)
    outputs = Outputs(range(model.n_outputs), model.class_names, in_order=True)
    encoded = encode(learned, y, len(samples), outputs)
    part = weighed(CheckedSamples(samples, encoded.y), weigh(learned, encoded, own, class_weight))
    scaled = _Scaled.of(part, learned) if standardize else None
    options = resolve_options(PAPER, model.tap_widths, len(part.x), method=FT_ALL.name, **asked)
    job = NetworkJob(model, part if scaled is None else scaled.part, options, task=learned)

    def network(tuned: Any) -> MLP:
        trained: MLP = tuned.model
        return trained if scaled is None else scaled.fold(trained)

    follow = None if callback is None else _reports(callback, network)
    return network(run(job, options, follow).result)


def _reports(callback: Callback, network: Callable[[Any], MLP]) -> Callback:
    """The callback of :func:`pretrain` is given networks."""

    def follow(report: EpochReport) -> None:
        fields = vars(report) | {"result": lambda: network(report.result())}
        callback(EpochReport(**fields))

    return follow


@dataclass(frozen=True, eq=False)
class _Scaled:
    """Scaled samples and answers, and how.

    Features are ``(x - mean) * scale``; numbers are ``(y - offset) / unit``, answers of other tasks
    are as they were.
    """

    part: CheckedSamples
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64] | None = None
    unit: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, part: CheckedSamples, task: Task) -> _Scaled:
        mean, deviation = _moments(part.x, part.weight)
        scale = column_scale(mean, deviation**2, _BITS)
        scaled = replace(part, x=((part.x - mean) * scale).astype(np.float32))
        if task.name != "regression":
            return cls(scaled, mean, scale)
        offset, unit = _moments(part.y, part.weight)
        unit[unit == 0] = 1
        targets = ((part.y - offset) / unit).astype(np.float32)
        return cls(replace(scaled, y=targets), mean, scale, offset, unit)

    def fold(self, network: MLP) -> MLP:
        """The same function of features as they are, in float64 up to its weights.

        The bias is that of the rounded weights: what rounding changed would be times the mean.
        """
        first, *others = (list(layer.arrays()) for layer in network.layers)
        last = (first, *others)[-1]
        if self.offset is not None and self.unit is not None:
            last[0] = (last[0] * self.unit).astype(np.float32)
            last[1] = last[1] * self.unit + self.offset
        first[0] = (first[0] * self.scale[:, None]).astype(np.float32)
        first[1] = first[1] - self.mean @ first[0].astype(np.float64)
        for layer in (first, last):
            layer[1] = layer[1].astype(np.float32)
        return network.with_layers([first, *others])


def _moments(
    values: NDArray[np.float32], weight: NDArray[np.float32] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each column, of samples that count as ``weight`` says."""
    if weight is None:
        return values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    mean: NDArray[np.float64] = np.average(values, axis=0, weights=weight.astype(np.float64))
    return mean, np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weight))


def ranges_of(targets: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which fifth of the samples each belongs to, by its number, or by the numbers' main axis."""
    values = targets.astype(np.float64) - targets.mean(axis=0, dtype=np.float64)
    values /= np.maximum(values.std(axis=0), np.finfo(np.float32).tiny)
    line = values[:, 0] if values.shape[1] == 1 else values @ np.linalg.svd(values)[2][0]
    edges = np.quantile(line, np.arange(1, N_RANGES) / N_RANGES)
    return np.asarray(np.searchsorted(edges, line))
