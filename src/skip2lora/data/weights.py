"""Weights of the samples in a file: rows of weight 0 are as if they were not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import number_or_none
from skip2lora.data.samples import Table
from skip2lora.errors import DataError, brief
from skip2lora.tasks.weights import check_weights


def weighted(table: Table) -> Table:
    """With the weights that were read ``aside`` as numbers, and without rows of weight 0.

    Raises:
        DataError: one is no number from 0, or all are zero.
    """
    values = table.aside["weight"].reshape(-1)
    place = table.answers.place
    if values.dtype.kind == "U":
        numbers = [number_or_none(text) for text in values.tolist()]
        row = next((row for row, number in enumerate(numbers) if number is None), None)
        if row is not None:
            raise DataError(
                f'{place(row)} has the weight "{brief(values[row])}", expected a number from 0: '
                "correct it, or choose another column with weight="
            )
        values = np.array(numbers, np.float64)
    weights = check_weights(values, len(table.x), "the weight", place)
    return _rows(replace(table, aside={**table.aside, "weight": weights}), weights > 0)


def _rows(table: Table, stay: NDArray[np.bool_]) -> Table:
    """Those that stay, with their places in the file; images have no column of weights.

    The number of each among all rows stands aside as "row".
    """
    if stay.all():
        return table
    rows = np.flatnonzero(stay)
    place, answers = table.answers.place, table.answers.values
    return replace(
        table,
        x=table.x[rows],
        answers=replace(
            table.answers,
            values=None if answers is None else answers[rows],
            place=lambda row: place(int(rows[row])),
        ),
        aside={"row": rows} | {name: values[rows] for name, values in table.aside.items()},
    )
