"""What a version answers: one forward pass of the frozen model gives a row, all else reads rows."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapted import AdaptedModel
from skip2lora.adapters.adapters import Opened, SkipAdapters
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.field_mlp import field_statistics
from skip2lora.backbones.known_rows import RowsOf
from skip2lora.backbones.standins import for_task, over
from skip2lora.errors import ParameterError
from skip2lora.serve.vocabulary import Vocabulary
from skip2lora.tasks.task import CLASSIFICATION, softmax, task_for


@dataclass(frozen=True, eq=False)
class Served:
    """Answers to samples that were predicted together.

    ``ids`` number the samples for good, ``names`` are the answers, one a sample, ``probabilities``
    (samples, outputs) float32, whose columns are called ``outputs``; ``version`` is that of the
    adapter which gave them, 0 for the model alone. A model of numbers gives ``numbers``, (samples,)
    float32, ``names`` are their texts, and there are no probabilities: (samples, 0).
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]
    probabilities: NDArray[np.float32]
    version: int
    outputs: tuple[str, ...]
    numbers: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> Served:
        """The samples from ``start`` on, before ``stop``."""
        at = slice(start, stop)
        return Served(
            self.ids[at], self.names[at], self.probabilities[at], self.version, self.outputs,
            None if self.numbers is None else self.numbers[at],
        )  # fmt: skip


class Frozen:
    """The frozen model: samples become rows, here and nowhere else, by one thread at a time.

    A row is kept as its ``width`` floats, taps and base logits without the padding of the core.
    ``vocabulary`` are the classes that every version knows; an adapter that is given at the start
    may change it, before anything else is done.
    """

    def __init__(self, model: Backbone) -> None:
        self.model = model
        self.task = task_for(model, None).name
        self.vocabulary = Vocabulary.of_model(model)
        self.format = RowFormat.of(model, copy_input=True)
        self.rows_of = RowsOf.of(model, self.format.layout)
        self._lock = threading.Lock()
        layout, widths = self.format.layout, self.format.tap_widths
        starts = [*layout.tap_offsets, layout.logits_offset]
        parts = zip(starts, [*widths, self.format.n_outputs], strict=True)
        self._columns = np.concatenate([np.arange(at, at + width) for at, width in parts])
        self.width = len(self._columns)
        self._last_tap = slice(layout.tap_offsets[-1], layout.tap_offsets[-1] + widths[-1])

    @property
    def numbers(self) -> bool:
        """Whether it gives numbers and no classes."""
        return self.task != CLASSIFICATION.name

    def rows(self, x: Any) -> NDArray[np.float32]:
        """Rows of checked samples, (samples, row_stride), as the core reads them.

        Raises:
            ModelError: the model gave NaN, infinity or other shapes than it says.
        """
        rows = self.format.empty(len(x))
        if not len(x):
            return rows
        with self._lock:
            self.format.compute(self.model, x, rows)
        return rows

    def packed(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows without padding, (samples, width): a copy."""
        return rows[:, self._columns]

    def last_tap(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """That of rows, (samples, width): where it lies."""
        return rows[:, self._last_tap]

    def unpacked(self, packed: NDArray[np.float32]) -> NDArray[np.float32]:
        """What :meth:`packed` gave, as the core reads it."""
        rows = self.format.empty(len(packed))
        rows[:, self._columns] = packed
        return rows


@dataclass(frozen=True, eq=False)
class Version:
    """What answers: the frozen model, with the adapter of a version unless its ``number`` is 0."""

    number: int
    frozen: Frozen
    adapted: AdaptedModel | None = None

    def __post_init__(self) -> None:
        """Check that the adapter reads rows of the model.

        Raises:
            ParameterError: it changes the network or its layers, or learned another task.
        """
        adapted = self.adapted
        if adapted is None:
            return
        task = self.frozen.task
        if not isinstance(adapted.adapters, SkipAdapters) or adapted.task != task:
            of = "of classes" if task == CLASSIFICATION.name else f"for {task}"
            raise ParameterError(
                f"the adapter is of method {adapted.method} and task {adapted.task}, expected skip "
                f"adapters {of}, which read rows of the model: adapt with method skip2-lora"
            )

    @cached_property
    def model(self) -> Backbone | AdaptedModel:
        """What predicts a sample by itself."""
        return self.frozen.model if self.adapted is None else self.adapted

    @property
    def titles(self) -> tuple[str, ...]:
        """What each class is called: its name, or its number; nothing of a model of numbers."""
        if self.adapted is not None:
            return self._adapter_titles
        return self.frozen.vocabulary.own or Vocabulary.of_model(self.frozen.model).own

    @cached_property
    def _adapter_titles(self) -> tuple[str, ...]:
        return () if self.adapted is None else Vocabulary.of_adapter(self.adapted).titles

    @cached_property
    def _on_rows(self) -> Backbone:
        """The frozen model alone, of rows."""
        return for_task(self.frozen.rows_of, self.frozen.task)

    @cached_property
    def _opened(self) -> tuple[Opened, bool]:
        """The adapter, and whether it takes rows."""
        adapted = self.adapted
        if adapted is None or not isinstance(adapted.adapters, SkipAdapters):
            raise TypeError("a version without an adapter, expected one that has it: ask for both")
        own = bool(field_statistics(adapted.backbone))
        on = adapted.backbone if own else over(adapted.backbone, self.frozen.rows_of)
        return adapted.adapters.opened(on), not own

    def logits(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of rows of the frozen model, (samples, outputs); nothing passes the model again.

        But for an adapter with batch-norm statistics of its own, whose sample the row holds.
        """
        if self.adapted is None:
            return np.ascontiguousarray(self._on_rows.forward(rows).base_logits)
        opened, takes_rows = self._opened
        if not takes_rows:
            rows = np.ascontiguousarray(self.frozen.rows_of.forward(rows).taps[0])
        return opened.logits(rows)

    def probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax of :meth:`logits`, (samples, outputs)."""
        shares: NDArray[np.float32] = softmax(self.logits(rows))
        return shares

    def answers(self, rows: NDArray[np.float32]) -> Answers:
        """To rows of the frozen model."""
        if self.frozen.numbers:
            numbers = np.ascontiguousarray(self.logits(rows)[:, 0])
            names = tuple(f"{number:.7g}" for number in numbers.tolist())
            return Answers(names, np.empty((len(rows), 0), np.float32), numbers)
        shares = self.probabilities(rows)
        titles = self.titles
        return Answers(tuple([titles[at] for at in shares.argmax(axis=1).tolist()]), shares)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a version says of rows, as :class:`Served` has it."""

    names: tuple[str, ...]
    probabilities: NDArray[np.float32]
    numbers: NDArray[np.float32] | None = None

    def sureness(self, which: Sequence[int]) -> NDArray[np.floating[Any]]:
        """Of some rows, the probability of the answer and how far it is before the next, (n, 2).

        Both are 0 for numbers, which have neither.
        """
        if self.numbers is not None:
            return np.zeros((len(which), 2), np.float32)
        shares = self.probabilities[which]
        return np.stack([shares.max(axis=1), margins(shares)], axis=1)


def margins(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """How far the likeliest class is before the second, (samples,), 0 to 1."""
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities), probabilities.dtype)
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])
