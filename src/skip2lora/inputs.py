"""Samples of a model that takes several inputs, or one that is no table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Inputs:
    """Named arrays; the first axis of each is the samples. Indexed like one array."""

    arrays: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Inputs:
        return Inputs({name: array[index] for name, array in self.arrays.items()})
