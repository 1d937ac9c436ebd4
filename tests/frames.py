"""A DataFrame as far as this package looks at one, without a library of them."""

from __future__ import annotations

from typing import Any

import numpy as np


class Frame:
    """Columns by name, such as ``Frame(a=[1, 2], b=[3, 4])``."""

    def __init__(self, **columns: Any) -> None:
        self.data = columns
        self.columns: list[Any] = list(columns)
        self.shape = (len(next(iter(columns.values()))), len(columns))

    @classmethod
    def of(cls, x: np.ndarray, names: str) -> Frame:
        return cls(**dict(zip(names, x.T, strict=True)))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, name: str) -> Any:
        return self.data[name]
