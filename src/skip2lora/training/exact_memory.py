"""The memory that a convex fit takes in the coordinates of the samples, before any work."""

from __future__ import annotations

from dataclasses import dataclass

from skip2lora import _core
from skip2lora.adapters.rows import FLOAT_BYTES, RowFormat
from skip2lora.errors import DataError
from skip2lora.limits import VARIABLE, max_bytes
from skip2lora.training.folds import N_FOLDS

_PENALTIES = 7  # of a path, whose solutions are all kept


def lanes_of(n_samples: int) -> int:
    """Floats from one output to the next, where samples lie side by side."""
    return -(-n_samples // _core.SAMPLE_LANES) * _core.SAMPLE_LANES


@dataclass(frozen=True)
class ExactMemory:
    """Bytes of a path with folds: its rows, the matrix with its workspace, solutions and folds."""

    rows_bytes: int
    matrix_bytes: int
    fits_bytes: int

    @classmethod
    def of(cls, rows: RowFormat, n_samples: int, n_learned: int, n_designs: int = 1) -> ExactMemory:
        """For ``n_samples`` of which ``n_learned`` outputs are learned.

        ``n_designs`` says of how many selections of taps there is a Gram matrix.
        """
        width, lanes = sum(rows.tap_widths), lanes_of(n_samples)
        n_floats = (N_FOLDS + 1) * (2 * n_learned + 1) * lanes  # with what they start from next
        n_floats += 2 * (_PENALTIES + 1) * lanes * n_learned + 2 * width * n_learned
        return cls(
            n_samples * rows.row_bytes,
            n_designs * FLOAT_BYTES * n_samples * lanes + _core.gram_bytes(n_samples),
            FLOAT_BYTES * n_floats + _core.dual_bytes(n_samples, n_learned, N_FOLDS + 1),
        )

    @property
    def n_bytes(self) -> int:
        """All of it."""
        return self.rows_bytes + self.workspace_bytes

    @property
    def workspace_bytes(self) -> int:
        """All but the rows."""
        return self.matrix_bytes + self.fits_bytes


def exact_memory(
    rows: RowFormat,
    n_samples: int,
    n_learned: int,
    limit: int | None = None,
    *,
    n_designs: int = 1,
) -> ExactMemory:
    """As :meth:`ExactMemory.of`, of what takes at most ``limit`` bytes.

    By default those that :func:`~skip2lora.limits.max_bytes` allows.

    Raises:
        DataError: it takes more.
    """
    limit = max_bytes() if limit is None else limit
    memory = ExactMemory.of(rows, n_samples, n_learned, n_designs)
    if memory.n_bytes <= limit:
        return memory
    fits, beyond = 0, n_samples
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        least = ExactMemory.of(rows, middle, n_learned, n_designs).n_bytes
        fits, beyond = (middle, beyond) if least <= limit else (fits, middle)
    raise DataError(
        f"{n_samples:,} samples of {sum(rows.tap_widths):,} columns take "
        f"{memory.n_bytes / 1e6:,.1f} MB to be solved exactly, expected at most "
        f"{limit / 1e6:,.1f} MB, which {fits:,} samples take: pass fewer, tap fewer layers, or set "
        f"{VARIABLE} to more"
    )
