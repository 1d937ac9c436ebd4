"""Samples in a temporary file, as a reader of large tables leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from skip2lora.data import spool
from skip2lora.data.lazy import LazySamples
from skip2lora.data.spooled import Gathered


def in_a_file(x: NDArray[Any]) -> LazySamples:
    """``x``, however few samples it has."""
    with patch.object(spool, "IN_MEMORY", 0):
        gathered = Gathered(Path("x"), x.shape[1:], x.dtype)
        gathered.append(np.array(x))
        samples = gathered.samples()
    assert isinstance(samples, LazySamples)
    return samples
