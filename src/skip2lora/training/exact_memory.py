"""Which way a convex fit is solved, and the memory that it takes: counted before any work.

In the coordinates of the samples (dual) with their Gram matrix; in those of the columns (primal),
with the matrix of all columns; or with that of a subset of the samples, where neither fits.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from skip2lora import _core
from skip2lora.adapters.rows import FLOAT_BYTES, RowFormat
from skip2lora.errors import DataError
from skip2lora.limits import VARIABLE, max_bytes
from skip2lora.training.folds import folds_for

#: Samples up to which squared loss may be solved by a factor of the Gram matrix.
MOST_FACTORED = 2048
_FACTOR_BYTES = 16  # of the factor itself, in double, and of the rows and panels of a fit's samples
_PENALTIES = 7  # of a path, whose solutions are all kept
# Of several designs: of each candidate one solution is kept, and what is held out at all penalties.
CANDIDATES = 3


def lanes_of(n_samples: int) -> int:
    """Floats from one output to the next, where samples lie side by side."""
    return -(-n_samples // _core.SAMPLE_LANES) * _core.SAMPLE_LANES


@dataclass(frozen=True)
class ExactMemory:
    """Bytes of a path with folds: its rows, the matrix with its workspace, solutions and folds.

    ``result_bytes`` are those of what comes after the fits: adapters of each solution that is part
    of the result, beside the result, and the matrices.
    """

    solver: int
    rows_bytes: int
    matrix_bytes: int
    fits_bytes: int
    result_bytes: int = 0

    @classmethod
    def of(
        cls,
        solver: int,
        rows: RowFormat,
        n_samples: int,
        n_learned: int,
        n_designs: int = 1,
        factored: bool = True,
    ) -> ExactMemory:
        """By ``solver``, for ``n_samples`` of which ``n_learned`` outputs are learned.

        ``n_designs`` says of how many selections of taps there is a Gram matrix; ``factored`` that
        one may be factored.
        """
        width, lanes = sum(rows.tap_widths), lanes_of(n_samples)
        dual = solver == _core.SOLVE_DUAL
        unknowns, fold = (lanes if dual else width) * n_learned, lanes * n_learned
        n_fits = folds_for(n_samples) + 1
        fits = n_fits * (unknowns + fold + lanes)  # with what they start from next
        fits += 2 * fold + 2 * width * n_learned
        if n_designs > 1:  # losses are doubles
            fits += CANDIDATES * (unknowns + _PENALTIES * (fold + 2 * lanes))
        else:
            fits += _PENALTIES * (unknowns + fold)
        more = 0
        if dual:  # all folds are solved at once
            more = _core.dual_bytes(n_samples, n_learned, n_fits)
            more -= _core.dual_bytes(n_samples, n_learned)
            more += (n_designs - 1) * FLOAT_BYTES * n_samples * lanes
            more += _FACTOR_BYTES * n_samples * lanes * (factored and n_samples <= MOST_FACTORED)
        n_solutions = CANDIDATES if n_designs > 1 else 1
        result = n_solutions * (width * n_learned + unknowns + _PENALTIES * fold)
        grams = n_designs * n_samples * lanes if dual else 0
        return cls(
            solver,
            n_samples * rows.row_bytes,
            _core.solver_bytes(solver, n_samples, width, n_learned),
            FLOAT_BYTES * fits + more,
            FLOAT_BYTES * (result + grams),
        )

    @property
    def n_bytes(self) -> int:
        """All of it."""
        return self.rows_bytes + self.workspace_bytes

    @property
    def workspace_bytes(self) -> int:
        """All but the rows."""
        return max(self.matrix_bytes + self.fits_bytes, self.result_bytes)


def exact_memory(
    rows: RowFormat,
    n_samples: int,
    n_learned: int,
    limit: int | None = None,
    *,
    n_designs: int = 1,
    factored: bool = True,
) -> ExactMemory:
    """Of the quickest way that takes at most ``limit`` bytes, as :meth:`ExactMemory.of`.

    By default those that :func:`~skip2lora.limits.max_bytes` allows.

    Raises:
        DataError: none does.
    """
    limit = max_bytes() if limit is None else limit
    quickest = _quickest(rows, n_samples, n_learned, limit, n_designs)
    if quickest.n_bytes <= limit:
        return ExactMemory.of(quickest.solver, rows, n_samples, n_learned, n_designs, factored)
    fits, beyond = 0, n_samples
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        least = _quickest(rows, middle, n_learned, limit, n_designs).n_bytes
        fits, beyond = (middle, beyond) if least <= limit else (fits, middle)
    raise DataError(
        f"{n_samples:,} samples of {sum(rows.tap_widths):,} columns take "
        f"{quickest.n_bytes / 1e6:,.1f} MB to be solved exactly, expected at most "
        f"{limit / 1e6:,.1f} MB, which {fits:,} samples take: pass fewer, tap fewer layers, set "
        f"{VARIABLE} to more, or pass solver='steps'"
    )


def _quickest(
    rows: RowFormat, n_samples: int, n_learned: int, limit: int, n_designs: int
) -> ExactMemory:
    """Of the quickest solver that fits, or of the one that needs least."""
    width, room, least = sum(rows.tap_widths), sys.maxsize, None
    while True:
        solver = _core.exact_choose(n_samples, width, n_learned, room)
        if solver == _core.SOLVE_NONE and least is not None:
            return least
        memory = ExactMemory.of(solver, rows, n_samples, n_learned, n_designs)
        if memory.n_bytes <= limit:
            return memory
        if least is None or memory.n_bytes < least.n_bytes:
            least = memory
        room = memory.matrix_bytes - 1
