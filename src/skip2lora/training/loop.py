"""Cache and labels to adapters (Algorithm 1); network and data to network.

The loop over the batches of an epoch is in C, without the interpreter lock; the loop over epochs
is here, so that Ctrl-C stops within an epoch and a callback can follow.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora import _core
from skip2lora.adapters.adapters import Result, SkipAdapters
from skip2lora.arrays import check_labels
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.backbones.mlp import MLP
from skip2lora.checks import whole
from skip2lora.errors import DivergedError, ParameterError
from skip2lora.methods import FT_ALL, Method
from skip2lora.tasks.task import PLAIN, Goal, Task, mean_loss
from skip2lora.training.jobs import Job, NetworkJob, Part, SkipJob
from skip2lora.training.options import Options, check_options, n_validation


@dataclass(frozen=True, eq=False)
class EpochReport:
    """What a callback is told after each epoch.

    ``loss`` and ``accuracy`` (0 to 1) are means over the samples as they were seen in training;
    ``validation_loss`` is None without a validation part. ``result()`` makes a copy of what is
    being trained as it is now.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    validation_loss: float | None
    result: Callable[[], Any]


Callback = Callable[[EpochReport], None]


@dataclass(frozen=True)
class History:
    """One value an epoch, as in :class:`EpochReport`, and what was done in all.

    ``best_epoch``, from 1, is the one whose result was kept: the last, or the one with the smallest
    validation loss. ``n_forwards`` counts the samples whose frozen layers were computed: each
    sample once with a full Skip-Cache, once an epoch without; 0 where the whole network is run.
    """

    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    validation_loss: tuple[float, ...]
    best_epoch: int
    n_batches: int
    n_forwards: int


@dataclass(frozen=True)
class Timing:
    """Milliseconds that training took.

    ``cache_fill_ms`` is the forward pass of the frozen layers for rows that the cache lacked,
    ``training_ms`` everything else in the loop over batches, ``total_ms`` all from checked samples
    to adapters, validation and callbacks included.
    """

    cache_fill_ms: float
    training_ms: float
    total_ms: float


@dataclass(frozen=True, eq=False)
class Trained:
    """A result and how it came about."""

    adapters: Result
    history: History
    timing: Timing
    cache_bytes: int = 0
    cache_overhead_bytes: int = 0


def pretrain(
    model: MLP,
    X: ArrayLike,
    y: ArrayLike,
    *,
    epochs: int = 100,
    batch_size: int | None = None,
    learning_rate: float = 0.01,
    seed: int = 0,
    callback: Callback | None = None,
) -> MLP:
    """Train all weights and biases by SGD (FT-All, section 3) and return the trained network.

    ``X`` is (samples, features), ``y`` (samples,) with labels 0, 1, ...; ``model`` is not changed.
    ``batch_size`` is by default 20, or the number of samples if that is smaller.

    Raises:
        DataError: samples or labels that do not fit the model, fewer than two samples.
        ParameterError: an option out of range.
        DivergedError: the loss became infinite or NaN.
    """
    samples = checked(model, X)
    labels = check_labels(y, len(samples), model.n_outputs)
    options = check_options(
        len(samples), FT_ALL,
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
    )  # fmt: skip
    job = NetworkJob(model, Part(samples, labels), FT_ALL, 1, options, capacity=0)
    follow = None if callback is None else _model_reports(callback)
    trained: MLP = _run(job, options, None, follow).result.model
    return trained


def _model_reports(callback: Callback) -> Callback:
    """The callback of :func:`pretrain` is given networks."""

    def follow(report: EpochReport) -> None:
        fields = vars(report) | {"result": lambda: report.result().model}
        callback(EpochReport(**fields))

    return follow


def train(
    backbone: Backbone,
    samples: Any,
    labels: NDArray[np.int32] | NDArray[np.float32],
    *,
    method: Method,
    rank: int,
    options: Options,
    goal: Goal = PLAIN,
    cache: bool | None = None,
    capacity: int | None = None,
    callback: Callback | None = None,
    profile: _core.Profile | None = None,
    start: SkipAdapters | None = None,
) -> Trained:
    """Run ``method`` on checked samples.

    ``cache`` keeps what the frozen layers computed, by default where the method is named for it;
    ``capacity`` keeps it for so many samples only. ``profile`` counts where the time goes. None of
    them changes a bit of the result. ``start`` are skip adapters to go on from, of the same rank
    and outputs; the optimiser starts anew.

    Raises:
        ParameterError: ``rank`` is out of range, or the method needs another backbone or goal.
        DivergedError: the loss became infinite or NaN.
    """
    check_rank(rank, backbone, method)
    began = time.perf_counter()
    kept, held = _split(samples, labels, options)
    if capacity is None:
        keep = method.cache if cache is None else cache
        capacity = len(kept.x) if keep else 0
    job: Job
    if method.skip:
        job = SkipJob(backbone, kept, method, rank, options, capacity, goal, profile, start)
    elif goal is not PLAIN:
        raise ParameterError(
            f"{method.name} learns labels the model knows, without new_classes, another task or "
            "standardize: use skip2-lora"
        )
    elif isinstance(backbone, MLP):
        job = NetworkJob(backbone, kept, method, rank, options, capacity, profile)
    else:
        raise ParameterError(
            f"{method.name} needs a backward pass through the network, which "
            f"{type(backbone).__name__} does not have: use skip2-lora"
        )
    validate = None if held is None else _validator(job, backbone, held, goal.task)
    done = _run(job, options, validate, callback)
    timing = Timing(1e3 * done.fill, 1e3 * done.rest, 1e3 * (time.perf_counter() - began))
    sizes = (job.cache.payload_bytes, job.cache.overhead_bytes) if job.cache else (0, 0)
    return Trained(done.result, done.history, timing, *sizes)


def _split(samples: Any, labels: NDArray[Any], options: Options) -> tuple[Part, Part | None]:
    """The part to train on, and the part held out: the same share of each class, by chance."""
    if not options.validation:
        return Part(samples, labels), None
    random = np.random.Generator(np.random.PCG64([options.seed, len(samples)]))
    shuffled = random.permutation(len(samples))
    order = labels[shuffled] if labels.ndim == 1 else labels[shuffled][:, 0]
    by_class = shuffled[np.argsort(order, kind="stable")]
    # Every k-th of the samples sorted by class, at evenly spaced places.
    n_held = n_validation(len(samples), options.validation)
    places = ((np.arange(n_held) + 0.5) * len(samples) / n_held).astype(np.int64)
    held = np.zeros(len(samples), bool)
    held[by_class[places]] = True
    return Part(samples[~held], labels[~held]), Part(samples[held], labels[held])


def _validator(job: Job, backbone: Backbone, held: Part, task: Task) -> Callable[[], float]:
    """Mean loss of the part held out."""
    return lambda: mean_loss(task, job.result().logits(backbone, held.x), held.y)


@dataclass(frozen=True, eq=False)
class _Run:
    result: Any
    history: History
    fill: float  # seconds of frozen forward
    rest: float  # seconds of everything else in the epochs


def _run(
    job: Job, options: Options, validate: Callable[[], float] | None, callback: Callback | None
) -> _Run:
    """All epochs, or as many as bring something better."""
    losses: list[float] = []
    accuracies: list[float] = []
    validation: list[float] = []
    n_batches = best = 0
    n_forwards, fill = job.n_filled, job.fill_seconds
    total = fill
    kept: Result | None = None
    for number in range(options.epochs):
        start = time.perf_counter()
        epoch = job.epoch(options.rate(number))
        total += time.perf_counter() - start
        fill += epoch.forward_seconds
        if epoch.status != _core.OK:
            raise _diverged("loss", number + 1, options)
        losses.append(epoch.loss)
        accuracies.append(epoch.n_correct / epoch.n_seen)
        n_batches += epoch.n_batches
        n_forwards += epoch.n_forward
        if validate is not None:
            validation.append(validate())
            if validation[-1] < validation[best] or number == 0:
                best, kept = number, job.result()
        if callback is not None:
            last = validation[-1] if validation else None
            report = (number + 1, options.epochs, epoch.loss, accuracies[-1], last, job.result)
            callback(EpochReport(*report))
        if options.patience is not None and number - best >= options.patience:
            break
    history = History(
        tuple(losses), tuple(accuracies), tuple(validation),
        best + 1 if validation else len(losses), n_batches, n_forwards,
    )  # fmt: skip
    result = kept or job.result()
    if not all(np.isfinite(array).all() for array in result.tensors().values()):
        raise _diverged("result", len(losses), options)  # the last step may overflow
    return _Run(result, history, fill, total - fill)


def _diverged(what: str, epoch: int, options: Options) -> DivergedError:
    rate = options.learning_rate
    return DivergedError(
        f"the {what} is not finite in epoch {epoch} at learning_rate {rate:g}, "
        f"expected a finite {what}: try {rate / 10:g}"
    )


def checked(backbone: Backbone, X: Any) -> Any:
    """Samples that ``backbone`` can be trained on.

    Raises:
        DataError: they do not fit it.
        ParameterError: ``backbone`` is no model, or one with adapters in its layers.
    """
    check_backbone(backbone)
    if isinstance(backbone, MLP) and any(layer.lora_a is not None for layer in backbone.layers):
        raise ParameterError(
            "the model has adapters in its layers, expected none: pass model.merged()"
        )
    return backbone.check(X)


def check_rank(rank: int, backbone: Backbone, method: Method) -> None:
    """Raise ParameterError unless ``rank`` fits the taps or layers that get an adapter.

    Skip adapters may have more than a narrow tap needs; beside a layer it is too much.
    """
    layers = method.adapted_layers(len(backbone.tap_widths))
    widths = [backbone.tap_widths[layer] for layer in layers]
    if widths:
        if method.skip:
            whole("rank", rank, 1, max(widths), "the largest width of a tap")
        else:
            whole("rank", rank, 1, min(widths), "the smallest width of a layer")
