"""What a row of a folder takes to read on this machine, from a file that is written for it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from skip2lora.system import announce, forget, read_at
from skip2lora.training.beyond import BLOCK

# Of the file, or of a few of the widest rows; of rows in a batch that is announced before.
_BYTES, _LEAST_ROWS, _BATCH = 1 << 24, 32, 8
_PIECE = bytes(range(256)) * 4096


def seconds_a_row(folder: Path, row_bytes: int, *, in_blocks: bool) -> float | None:
    """Wall time of a row that is in no memory yet, in the order in which training reads them.

    Rows are read one by one, each batch announced before, or ``in_blocks`` of neighbours. The file
    has no name and lies where ``folder`` is, or is to be; None where nothing can be written there.
    """
    n_rows = max(_LEAST_ROWS, _BYTES // row_bytes)
    places = (folder.absolute(), *folder.absolute().parents)
    there = next(place for place in places if place.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there, buffering=0) as file:
            for _ in range(-(-n_rows * row_bytes // len(_PIECE))):
                file.write(_PIECE)
            os.fsync(file.fileno())
            forget(file.fileno())
            began = time.perf_counter()
            for some in _batches(n_rows, in_blocks=in_blocks):
                for first, count in some:
                    announce(file.fileno(), first * row_bytes, count * row_bytes)
                for first, count in some:
                    read_at(file.fileno(), count * row_bytes, first * row_bytes)
            return (time.perf_counter() - began) / n_rows
    except OSError:
        return None


def _batches(n_rows: int, *, in_blocks: bool) -> Iterator[list[tuple[int, int]]]:
    """Runs of rows that are announced together: the first of each, and how many it has."""
    if in_blocks:
        starts = range(0, n_rows, BLOCK)
        yield from ([(start, min(BLOCK, n_rows - start))] for start in starts)
        return
    order = np.random.Generator(np.random.PCG64(0)).permutation(n_rows).tolist()
    for at in range(0, n_rows, _BATCH):
        yield [(row, 1) for row in order[at : at + _BATCH]]
