"""Cache and labels to adapters (Algorithm 1); network and data to network.

The loop over the batches of an epoch is in C, without the interpreter lock; the loop over epochs
is here, so that Ctrl-C stops within an epoch and a callback can follow.
"""

from __future__ import annotations

import numbers
import operator
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora import _core
from skip2lora.adapters import Adapters, LayerAdapters, SkipAdapters
from skip2lora.backbones import Backbone
from skip2lora.backbones.mlp import MLP
from skip2lora.cache import SkipCache
from skip2lora.errors import DataError, DivergedError, ParameterError
from skip2lora.methods import FT_ALL, Method
from skip2lora.rows import native
from skip2lora.samples import check_labels, check_samples

DEFAULT_BATCH_SIZE = 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to train; checked by :func:`check_options`."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


@dataclass(frozen=True, eq=False)
class EpochReport:
    """What a callback is told after each epoch.

    ``loss`` and ``accuracy`` (0 to 1) are means over the samples as they were seen in training.
    ``result()`` makes a copy of what is being trained as it is now.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    result: Callable[[], Any]


Callback = Callable[[EpochReport], None]


@dataclass(frozen=True)
class History:
    """One value an epoch, as in :class:`EpochReport`, and what was done in all.

    ``n_forwards`` counts the samples whose frozen layers were computed: each sample once with a
    full Skip-Cache, once an epoch without; 0 for methods that run through the whole network.
    """

    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    n_batches: int
    n_forwards: int


@dataclass(frozen=True)
class Timing:
    """Milliseconds that training took.

    ``cache_fill_ms`` is the forward pass of the frozen layers for rows that the cache lacked,
    ``training_ms`` everything else in the loop over batches, ``total_ms`` all from checked samples
    to adapters, callbacks included.
    """

    cache_fill_ms: float
    training_ms: float
    total_ms: float


@dataclass(frozen=True, eq=False)
class Trained:
    """Adapters and how they came about."""

    adapters: Adapters
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
    samples, labels = checked(model, X, y)
    options = check_options(
        len(samples), FT_ALL,
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
    )  # fmt: skip
    arrays = [layer.copy() for layer in model.layers]
    _train_network(
        model,
        arrays,
        FT_ALL,
        samples,
        labels,
        options,
        callback,
        lambda: model.with_layers(_copies(arrays)),
    )
    return model.with_layers(arrays)


def train_adapters(
    backbone: Backbone,
    samples: NDArray[np.float32],
    labels: NDArray[np.int32],
    *,
    method: Method,
    rank: int,
    options: Options,
    capacity: int | None = None,
    callback: Callback | None = None,
) -> Trained:
    """Train the adapters of ``method`` on checked samples.

    ``capacity`` bounds the number of cached samples; by default it is all of them for a method
    with a cache and none for one without. It changes the time and not a bit of the result.

    Raises:
        ParameterError: ``rank`` is out of range, or the method needs another backbone.
        DivergedError: the loss became infinite or NaN.
    """
    check_rank(rank, backbone, method)
    if method.skip:
        return _train_skip(backbone, samples, labels, method, rank, options, capacity, callback)
    return _train_layers(backbone, samples, labels, method, rank, options, callback)


def _train_skip(
    backbone: Backbone, samples: NDArray[np.float32], labels: NDArray[np.int32], method: Method,
    rank: int, options: Options, capacity: int | None, callback: Callback | None,
) -> Trained:  # fmt: skip
    start = time.perf_counter()
    if capacity is None:
        capacity = len(samples) if method.cache else 0
    first_tap = method.adapted_layers(len(backbone.tap_widths)).start
    cache = SkipCache.create(backbone, len(samples), first_tap=first_tap, capacity=capacity)
    packed = _core.SkipAdapter(cache.format.layout, rank)
    packed.init(options.seed)
    trainer = _core.SkipTrainer(packed, options.batch_size, options.learning_rate, options.seed)

    def compute(indices: NDArray[np.uint32], rows: NDArray[np.float32]) -> None:
        cache.format.compute(backbone, samples[indices], rows)

    forward = native(backbone) or compute
    epoch = partial(trainer.epoch, samples, labels, cache.rows, cache.filled, forward)
    result = partial(SkipAdapters.unpack, packed, cache.format, rank)
    history, fill, train = _run(epoch, options, callback, result)
    timing = _timing(start, fill, train)
    return Trained(result(), history, timing, cache.payload_bytes, cache.overhead_bytes)


def _train_layers(
    backbone: Backbone, samples: NDArray[np.float32], labels: NDArray[np.int32], method: Method,
    rank: int, options: Options, callback: Callback | None,
) -> Trained:  # fmt: skip
    if not isinstance(backbone, MLP):
        raise ParameterError(
            f"{method.name} needs a backward pass through the network, which "
            f"{type(backbone).__name__} does not have: use skip2-lora"
        )
    start = time.perf_counter()
    arrays = _with_fresh_lora(backbone, rank, options.seed)

    def result() -> LayerAdapters:
        return LayerAdapters(backbone.with_layers(_copies(arrays)))

    run = _train_network(backbone, arrays, method, samples, labels, options, callback, result)
    return Trained(result(), run[0], _timing(start, *run[1:]))


def _with_fresh_lora(model: MLP, rank: int, seed: int) -> list[tuple[Any, ...]]:
    """Writable tensors of ``model`` with a new adapter beside each layer.

    They start as the skip adapters do: lora_a uniform in +-1/sqrt(n_in), lora_b zero.
    """
    layout = _core.RowLayout(model.tap_widths, model.n_outputs, True)
    packed = _core.SkipAdapter(layout, rank)
    packed.init(seed)
    arrays = []
    for number, layer in enumerate(model.layers):
        n_in, n_out = layer.weight.shape
        lora_a = np.empty((n_in, rank), np.float32)
        packed.get(number, lora_a, np.empty((rank, model.n_outputs), np.float32))
        arrays.append((*layer.copy()[:-2], lora_a, np.zeros((rank, n_out), np.float32)))
    return arrays


def _train_network(
    model: MLP, arrays: list[tuple[Any, ...]], method: Method, samples: NDArray[np.float32],
    labels: NDArray[np.int32], options: Options, callback: Callback | None,
    result: Callable[[], Any],
) -> tuple[History, float, float]:  # fmt: skip
    """Train ``arrays``, the tensors of the layers, in place by the rows of ``method``."""
    network = _core.Network(arrays, model.bn_eps, model.bn_momentum)
    rows = method.rows(len(model.layers))
    trainer = _core.NetworkTrainer(
        network, rows, options.batch_size, options.learning_rate, options.seed
    )
    return _run(partial(trainer.epoch, samples, labels), options, callback, result)


def _run(
    epoch: Callable[[], tuple[int, float, int, int, int, int, float]],
    options: Options,
    callback: Callback | None,
    result: Callable[[], Any],
) -> tuple[History, float, float]:
    """All epochs; the history, seconds of frozen forward, seconds of the rest."""
    losses, accuracies = [], []
    n_batches = n_forwards = 0
    fill = total = 0.0
    for number in range(1, options.epochs + 1):
        start = time.perf_counter()
        status, loss, correct, seen, batches, forwards, forward_seconds = epoch()
        total += time.perf_counter() - start
        fill += forward_seconds
        if status != _core.OK:
            raise _diverged("loss", number, options)
        losses.append(loss)
        accuracies.append(correct / seen)
        n_batches += batches
        n_forwards += forwards
        if callback is not None:
            callback(EpochReport(number, options.epochs, loss, accuracies[-1], result))
    if not all(np.isfinite(array).all() for array in result().tensors().values()):
        raise _diverged("result", options.epochs, options)  # the last step may overflow
    return History(tuple(losses), tuple(accuracies), n_batches, n_forwards), fill, total - fill


def _diverged(what: str, epoch: int, options: Options) -> DivergedError:
    rate = options.learning_rate
    return DivergedError(
        f"the {what} is not finite in epoch {epoch} at learning_rate {rate:g}, "
        f"expected a finite {what}: try {rate / 10:g}"
    )


def _timing(start: float, fill: float, train: float) -> Timing:
    return Timing(1e3 * fill, 1e3 * train, 1e3 * (time.perf_counter() - start))


def _copies(arrays: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(None if a is None else a.copy() for a in of_layer) for of_layer in arrays]


def checked(
    backbone: Backbone, X: ArrayLike, y: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Samples and labels that ``backbone`` can be trained on.

    Raises:
        DataError: they do not fit it.
    """
    n_features = backbone.tap_widths[0] if backbone.first_tap_is_input else None
    samples, _ = check_samples(X, n_features=n_features)
    return samples, check_labels(y, len(samples), backbone.n_outputs)


def check_options(
    n_samples: int,
    method: Method,
    *,
    epochs: int,
    batch_size: int | None,
    learning_rate: float,
    seed: int,
) -> Options:
    """Options in range for ``n_samples`` samples.

    Raises:
        ParameterError: one is not.
        DataError: one sample, where the method takes statistics of a batch.
    """
    if method.batch_statistics and n_samples < 2:
        raise DataError(
            f"got 1 sample, {method.name} needs at least 2 for the statistics of a batch: "
            "collect more, or adapt with skip2-lora"
        )
    size = min(DEFAULT_BATCH_SIZE, n_samples) if batch_size is None else batch_size
    low = 2 if method.batch_statistics else 1
    if size is not None and batch_size is not None and _whole("batch_size", size, low) > n_samples:
        raise ParameterError(
            f"batch_size is {size}, expected {low} to {n_samples}, the number of samples: "
            "make it smaller or leave it out"
        )
    if not _is_number(learning_rate) or not 1e-30 <= learning_rate <= 3e38:
        raise ParameterError(
            f"learning_rate is {learning_rate!r}, expected a number above 0 (1e-30 to 3e38)"
        )
    return Options(
        epochs=_whole("epochs", epochs, 1),
        batch_size=_whole("batch_size", size, low),
        learning_rate=float(learning_rate),
        seed=_whole("seed", seed, 0, (1 << 64) - 1),
    )


def check_rank(rank: int, backbone: Backbone, method: Method) -> None:
    """Raise ParameterError unless ``rank`` is 1 to the smallest width that gets an adapter."""
    layers = method.adapted_layers(len(backbone.tap_widths))
    widths = [backbone.tap_widths[layer] for layer in layers]
    _whole("rank", rank, 1, min(widths), "the smallest width of a tap")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real)


def _whole(name: str, value: int, low: int, high: int | None = None, why: str = "") -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise ParameterError(f"{name} is {value!r}, expected a whole number") from None
    if number < low or (high is not None and number > high):
        limit = f"from {low}" if high is None else f"from {low} to {high}"
        reason = f", {why}" if why else ""
        raise ParameterError(f"{name} is {number}, expected a whole number {limit}{reason}")
    return number
