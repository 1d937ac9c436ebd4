"""Answers of several files or calls, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skip2lora.errors import DataError
from skip2lora.tasks.task import Encoded


def joined(parts: Sequence[Encoded]) -> Encoded:
    """Answers of several files, one after the other, as those of one: new labels are sorted.

    Raises:
        DataError: they are of several kinds, or of other outputs.
    """
    first, *others = parts
    new = {label for part in parts for label in part.new_labels}
    if len({type(label) for label in new}) > 1:
        text, number = sorted(map(repr, new))[0], sorted(map(repr, new))[-1]
        raise DataError(
            f"new classes are called {text} and {number}, expected names or numbers: write all as "
            "the one or the other"
        )
    for part in others:
        if part.outputs.titles != first.outputs.titles or part.y.shape[1:] != first.y.shape[1:]:
            raise DataError(
                f"answers are of the outputs {', '.join(first.outputs.titles)} and of "
                f"{', '.join(part.outputs.titles)}, expected the same: correct the names"
            )
    if first.y.ndim > 1:
        return replace(first, y=np.concatenate([part.y for part in parts]))
    labels: Any = tuple(sorted(new))
    count = first.outputs.count or 0
    y = []
    for part in parts:
        places = [*range(count), *(count + labels.index(label) for label in part.new_labels)]
        y.append(np.array(places, np.int32)[part.y] if new else part.y)
    return replace(first, y=np.concatenate(y), new_labels=labels)
