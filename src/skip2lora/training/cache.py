"""Skip-Cache (section 4.2): what the frozen layers compute is kept for each training sample."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.base import Backbone


@dataclass(frozen=True, eq=False)
class SkipCache:
    """Rows of the first ``capacity`` samples, filled as they are first seen.

    Sample i has its row at ``rows[i]`` once ``filled[i]`` is 1: look-up is O(1). Samples beyond the
    capacity are computed each time they appear; a capacity of 0 is Skip-LoRA. With a fresh
    permutation an epoch, keeping some rows for good saves more than replacing them.
    """

    format: RowFormat
    rows: NDArray[np.float32]
    filled: NDArray[np.uint8] = field(repr=False)

    @classmethod
    def create(
        cls, backbone: Backbone, n_samples: int, *, first_tap: int = 0, capacity: int | None = None
    ) -> SkipCache:
        """An empty cache for ``n_samples`` samples, or for the first ``capacity`` of them."""
        return cls.of(RowFormat.of(backbone, first_tap), n_samples, capacity)

    @classmethod
    def of(cls, row_format: RowFormat, n_samples: int, capacity: int | None = None) -> SkipCache:
        """As :meth:`create`, for rows of that format."""
        n_rows = n_samples if capacity is None else min(capacity, n_samples)
        return cls(row_format, row_format.empty(n_rows), np.zeros(n_rows, np.uint8))

    @property
    def payload_bytes(self) -> int:
        """Bytes of taps and base logits, without padding: the paper's figure."""
        return len(self.rows) * self.format.payload_bytes

    @property
    def overhead_bytes(self) -> int:
        """Bytes beyond the payload: padding of the rows, and one flag a row."""
        return self.rows.nbytes + self.filled.nbytes - self.payload_bytes
