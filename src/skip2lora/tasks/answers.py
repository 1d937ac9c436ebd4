"""Answers of samples, the outputs of a model, and answers encoded as those outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import DataError

#: Labels of outputs that a model does not have: numbers, or names where labels are names.
NewLabels = tuple[int, ...] | tuple[str, ...]


def _row(row: int) -> str:
    return f"row {row} (from 0)"


@dataclass(frozen=True, eq=False)
class Answers:
    """What a file says of its samples, as it says it.

    ``values`` are text or numbers, (samples,) or (samples, columns), None where it has none.
    ``class_names`` are those the file itself defines: labels are names among them, or their places.
    ``column_names`` are those of the columns; ``chosen`` says that the user named the columns.
    ``place(row)`` names a row, counted from 0, and ``source`` the file, in errors.
    """

    values: NDArray[Any] | None
    class_names: tuple[str, ...] | None = None
    column_names: tuple[str, ...] | None = None
    place: Callable[[int], str] = _row
    source: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Outputs:
    """What the outputs of a model are called.

    ``numbers`` has the number that is the label of each, None without a model: as many as there
    are. ``names`` has the name of each, None where they have none.
    """

    numbers: Sequence[int] | None = None
    names: tuple[str, ...] | None = None

    @property
    def count(self) -> int | None:
        """How many they are; None without a model."""
        return None if self.numbers is None else len(self.numbers)

    @property
    def titles(self) -> tuple[str, ...]:
        """The name of each, or its number."""
        return self.names or tuple(map(str, self.numbers or ()))

    @property
    def is_plain(self) -> bool:
        """Whether they are but numbered: 0, 1, ..."""
        return self.names is None and list(self.numbers or ()) == list(range(self.count or 0))


#: Those of a model whose own are left out: all are new.
NO_OUTPUTS = Outputs(range(0))


@dataclass(frozen=True, eq=False)
class Encoded:
    """Answers as the core takes them.

    ``y`` is int32 (samples,) with the place of an output, or float32 (samples, n_outputs) with
    targets. Places from ``outputs.count`` on are ``new_labels``. ``outputs.names`` are the model's,
    or the file's where the model has none. ``names_adopted`` says that such names stand for the
    outputs only because the file has them in that order, ``names_sorted`` that not even the file
    gives an order.
    """

    y: NDArray[np.int32] | NDArray[np.float32]
    outputs: Outputs
    new_labels: NewLabels = ()
    names_adopted: bool = False
    names_sorted: bool = False

    @property
    def titles(self) -> tuple[str, ...]:
        """The name of each place, or its number, the new ones last."""
        return (*self.outputs.titles, *map(str, self.new_labels))


def naming(source: str, error: DataError) -> DataError:
    """An error that names the file ``source``, on one line; itself without one."""
    if not source:
        return error
    # A quoted cell of a .csv may hold line breaks.
    return DataError(" ".join(f"{source}: {error}".splitlines()))
