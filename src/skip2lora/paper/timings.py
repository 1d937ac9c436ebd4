"""Times of the paper's methods (Tables 2, 6 and 7): measured in this process, alone, on one core.

A fine-tuning runs twice: with no mark inside, for its whole time, and with phase timers inside the
same steps. Both count the loop over batches in the C core, from the first epoch to the last, and
nothing of Python.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.adapters import Result, SkipAdapters
from skip2lora.adapters.rows import RowFormat
from skip2lora.arrays import check_labels
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.recipe import PAPER
from skip2lora.datasets import Split
from skip2lora.methods import METHODS, Method
from skip2lora.paper import protocol
from skip2lora.paper.protocol import BATCH_SIZE, LEARNING_RATE, RANK
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import Trained, checked, train
from skip2lora.training.options import resolve_options

PHASES = ("rows", "forward", "backward", "update", "rest")
_PREDICT_PASSES = 5
Follow = Callable[[], object]


@dataclass(frozen=True)
class Run:
    """One fine-tuning by one method.

    ``untimed_us`` is a batch of the run with no mark inside, ``phases_us`` those of the run with
    marks. ``predict_us`` is one sample through the core, from its features to its logits.
    """

    untimed_us: float
    phases_us: dict[str, float]
    predict_us: float
    n_batches: int

    @property
    def forward_us(self) -> float:
        """Cache look-up, the frozen layers of missing samples, and what is trained, of a batch."""
        return self.phases_us["rows"] + self.phases_us["forward"]

    @property
    def sum_us(self) -> float:
        """All phases of a batch."""
        return sum(self.phases_us.values())


@dataclass(frozen=True)
class MethodTimes:
    """Repetitions of every method on one data set.

    ``core_share`` is the share of the time, 0 to 1, in which this thread ran: less than about 0.99
    says that something else ran on its core.
    """

    dataset: str
    widths: tuple[int, ...]
    epochs: int
    n_samples: int
    core_share: float
    runs: dict[str, tuple[Run, ...]]


@dataclass(frozen=True, eq=False)
class LayerTimes:
    """Repetitions of FT-All-LoRA on one data set, each (n_layers, 2, 4), microseconds a batch.

    The axes are layers; forward and backward; FC, LoRA, batch norm, activation.
    """

    dataset: str
    epochs: int
    core_share: float
    repetitions: tuple[NDArray[np.float64], ...]


@contextmanager
def one_core() -> Iterator[Callable[[], float]]:
    """Keep this thread on one of its processors, the last, where the system can.

    Yields what says the share of the time since then, 0 to 1, in which the thread ran.
    """
    start, ran = time.perf_counter(), time.thread_time()

    def share() -> float:
        return (time.thread_time() - ran) / (time.perf_counter() - start)

    if not hasattr(os, "sched_setaffinity"):
        yield share
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield share
    finally:
        os.sched_setaffinity(0, before)


def _load(task: str, data: Path) -> tuple[Split, MLP]:
    split = protocol.load_split(task, data)
    return split, protocol.pretrained(split, protocol.TASKS[task], seed=0)


def time_methods(
    dataset: str, task: str, data: Path, *, n_runs: int, follow: Follow = lambda: None
) -> MethodTimes:
    """Every method ``n_runs`` times, in turn, so that a slow moment meets all of them.

    ``follow`` is called ``n_runs`` times the number of methods.

    Raises:
        FileError, DataError: the data cannot be read.
    """
    split, model = _load(task, data)
    epochs = protocol.TASKS[task].epochs
    runs: dict[str, list[Run]] = {name: [] for name in METHODS}
    with one_core() as share:
        for method in METHODS.values():
            _fit(model, split, method, 1, 0, None)  # warm caches and clock
        for seed in range(n_runs):
            for name, method in METHODS.items():
                runs[name].append(_run(model, split, method, epochs, seed))
                follow()
        core_share = share()
    method_runs = {name: tuple(of) for name, of in runs.items()}
    return MethodTimes(
        dataset, model.widths, epochs, len(split.finetune.x), core_share, method_runs
    )


def time_layers(
    dataset: str, task: str, data: Path, *, n_runs: int, follow: Follow = lambda: None
) -> LayerTimes:
    """FT-All-LoRA ``n_runs`` times with a mark after each part of a layer.

    ``follow`` is called ``n_runs`` times.

    Raises:
        FileError, DataError: the data cannot be read.
    """
    split, model = _load(task, data)
    epochs = protocol.TASKS[task].epochs
    method, repetitions = METHODS["ft-all-lora"], []
    with one_core() as share:
        _fit(model, split, method, 1, 0, None)
        for seed in range(n_runs):
            profile = _core.Profile(n_layers=len(model.layers))
            done = _fit(model, split, method, epochs, seed, profile)
            repetitions.append(np.array(profile.parts_ns) / (1e3 * done.history.n_batches))
            follow()
        core_share = share()
    return LayerTimes(dataset, epochs, core_share, tuple(repetitions))


def _fit(
    model: MLP, split: Split, method: Method, epochs: int, seed: int, profile: _core.Profile | None
) -> Trained:
    samples = checked(model, split.finetune.x)
    labels = check_labels(split.finetune.labels, len(samples), model.n_outputs)
    options = resolve_options(
        PAPER, model.tap_widths, len(samples), method=method.name, rank=RANK, epochs=epochs,
        batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, seed=seed,
    )  # fmt: skip
    return train(model, CheckedSamples(samples, labels), options, profile=profile)


def _run(model: MLP, split: Split, method: Method, epochs: int, seed: int) -> Run:
    untimed, phases = _core.Profile(phases=False), _core.Profile()
    done = _fit(model, split, method, epochs, seed, untimed)
    _fit(model, split, method, epochs, seed, phases)
    a_batch = 1e3 * done.history.n_batches
    by_phase = (ns / a_batch for ns in phases.phases_ns)
    return Run(
        untimed.total_ns / a_batch,
        dict(zip(PHASES, by_phase, strict=True)),
        predict_us(model, done.adapters, split.test.x),
        done.history.n_batches,
    )


def predict_us(model: MLP, result: Result, x: NDArray[np.float32]) -> float:
    """Microseconds a sample of ``x``, (samples, features), one after the other in the C core.

    From the features to the logits: the forward pass, with the adapters as they are kept. Not the
    largest of the logits, and no call from Python for each sample.
    """
    if isinstance(result, SkipAdapters):
        network, row_format = model.network, RowFormat.of(model, result.first_tap)
        packed = result.pack(row_format)
    else:
        network, row_format = result.model.network, RowFormat.of(model, len(model.layers) - 1)
        packed = None
    rows = row_format.empty(len(x))
    logits = np.empty((len(x), model.n_outputs), np.float32)
    start = time.perf_counter()
    for _ in range(_PREDICT_PASSES):
        network.forward(x, row_format.layout, row_format.first_tap, rows, 1)
        if packed is not None:
            packed.forward(x, rows, logits, 1)
    return 1e6 * (time.perf_counter() - start) / (_PREDICT_PASSES * len(x))
