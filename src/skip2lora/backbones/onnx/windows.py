"""Windows that a model of a chain takes, one by one, of what the models before it give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from skip2lora.errors import ModelError


@dataclass(frozen=True)
class Windows:
    """Windows along an ``axis`` of ``size``, ``width`` wide and ``hop`` apart."""

    axis: int
    size: int
    width: int
    hop: int

    @property
    def count(self) -> int:
        """How many there are."""
        return (self.size - self.width) // self.hop + 1

    def left_out(self, name: str) -> str:
        """What is behind the last one, before the model ``name``, in words; "" where nothing is."""
        rest = self.size - (self.count - 1) * self.hop - self.width
        if not rest:
            return ""
        windows = f"{self.count:,} windows of {self.width:,}, hop {self.hop:,}"
        return (
            f"of {self.size:,} steps before {name} the last {rest:,} are left out, as "
            f"{windows}, end before them"
        )


def windows_of(before: Sequence[int], shape: Sequence[int], hop: int | None, name: str) -> Windows:
    """Those that a model takes of one sample, (shape), of what the models ``before`` it give.

    ``name`` is what messages call it.

    Raises:
        ModelError: there is no axis to cut along, or no hop.
    """
    given = [size for size in before if size != 1]
    taken = [size for size in shape if size != 1]
    apart = [at for at, (one, other) in enumerate(zip(given, taken, strict=False)) if one != other]
    fits = len(given) == len(taken) and len(apart) == 1 and given[apart[0]] > taken[apart[0]]
    if not fits or hop is None:
        further = "" if fits else ", or a hop where one axis alone is longer"
        expected = f"{math.prod(shape)} in the same axes{further}"
        if fits:
            expected = "hop = NUMBER between windows of them"
        raise ModelError(
            f"{name} takes {list(shape)} of a sample, the models before it give "
            f"{list(before)}, expected {expected}: correct the chain"
        )
    axis = [at for at, size in enumerate(before) if size != 1][apart[0]]
    return Windows(axis, before[axis], taken[apart[0]], hop)
