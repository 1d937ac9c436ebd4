"""Samples: a table of features with its answers, encoded or as a file says them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs
from skip2lora.data.lazy import LazySamples
from skip2lora.data.media import Media
from skip2lora.errors import DataError
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.task import Answers


@dataclass(frozen=True, eq=False)
class Samples:
    """A table of samples, as a file or a dataset gives it.

    ``x`` is (samples, features) float32; images and the like have more axes, and what a model with
    several inputs takes is :class:`~skip2lora.arrays.Inputs`. ``y`` is (samples,) int64 with labels
    0, 1, ..., or (samples, outputs) float32 with several labels or numbers, or None when the
    samples have no labels. ``class_names[label]``, the names of the columns of such a ``y``, and
    ``feature_names[column]`` are None when unknown. ``names_guessed`` says that the classes are in
    the order of their sorted names, as the file tells no other. ``notes`` say how a file was
    understood that is not written as most are. ``columns`` are those of the file, for a model that
    learns them. ``weight``, (samples,), says how much each counts where the file says so.
    ``images`` is how images, recordings or streams became numbers.
    """

    x: Any
    y: NDArray[Any] | None = None
    class_names: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    names_guessed: bool = False
    notes: tuple[str, ...] = ()
    columns: Columns = field(default_factory=Columns)
    weight: NDArray[np.float32] | None = None
    images: Media | None = None

    @property
    def labels(self) -> NDArray[Any]:
        """``y`` where it is needed: labels, or the targets of several labels or numbers.

        Raises:
            DataError: the samples have none.
        """
        if self.y is None:
            raise DataError("the samples have no labels, expected one each: add y")
        return self.y


@dataclass(frozen=True, eq=False)
class LabelledSamples(Samples):
    """A table of samples with their answers, as a dataset gives it."""

    x: NDArray[np.float32]
    y: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Spans:
    """Which part of a recording each sample is: start and end in ``seconds``, (samples, 2).

    Of a stream without a clock these are ``unit`` rows.
    """

    seconds: NDArray[np.float64]
    unit: str = "s"


@dataclass(frozen=True, eq=False)
class Table:
    """What a file says, before its answers are encoded.

    ``x`` is as in :class:`Samples`, or yet to be read; ``answers`` has its text or numbers as they
    are. ``columns`` are those of ``x`` as the model learned them, or is to. ``aside`` has what was
    to be read beside these, (samples,) each, as the file says it. ``files`` are the names of
    images or recordings, and ``images`` how they became numbers; ``spans`` is which part of a
    recording each sample is, ``places`` columns that say so of an image, (samples,) each.
    """

    x: NDArray[Any] | Inputs | LazySamples
    answers: Answers
    columns: Columns = field(default_factory=Columns)
    aside: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] | None = None
    images: Media | None = None
    spans: Spans | None = None
    places: Mapping[str, Sequence[Any]] = field(default_factory=dict)
