"""Whether the shapes of a .tflite file fit together, before a runtime allocates memory by them.

A runtime takes a damaged size for a large one: it would fill memory, or not come back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

#: Operators that slide a window over a map, and where their data is.
_WINDOWS = {
    "CONV_2D": 0, "DEPTHWISE_CONV_2D": 0, "AVERAGE_POOL_2D": 0, "MAX_POOL_2D": 0, "L2_POOL_2D": 0,
}  # fmt: skip
_SAME = 0  # schema.Padding


def fault_of(name: str, options: Any, read: Sequence[Any], written: Sequence[Any]) -> str | None:
    """What does not fit in one operator, None where nothing was found.

    ``read`` and ``written`` are the shapes of its tensors, None for one that is not known.
    """
    if name in _WINDOWS and options is not None:
        return _window_fault(options, read, written)
    if name == "FULLY_CONNECTED":
        return _product_fault(read, written)
    return None


def _window_fault(options: Any, read: Sequence[Any], written: Sequence[Any]) -> str | None:
    data, out = read[0], written[0]
    steps = (options.strideH, options.strideW)
    filters = getattr(options, "filterHeight", None) is None
    spread = (getattr(options, "dilationHFactor", 1), getattr(options, "dilationWFactor", 1))
    if min(*steps, *spread) < 1:
        return f"has strides {steps} and dilations {spread}"
    window: Sequence[int]
    if filters:
        if len(read) < 2 or read[1] is None or len(read[1]) != 4:
            return None
        window = read[1][1:3]
    else:
        window = (options.filterHeight, options.filterWidth)
    if min(window) < 1:
        return f"has a window of {tuple(window)}"
    if data is None or out is None or len(data) != 4 or len(out) != 4:
        return None
    places = [
        _places(size, width, step, apart, same=options.padding == _SAME)
        for size, width, step, apart in zip(data[1:3], window, steps, spread, strict=True)
    ]
    if tuple(places) != tuple(out[1:3]):
        return f"makes {tuple(places)} places of {tuple(data[1:3])}, the file says {out[1:3]}"
    return None


def _places(size: int, window: int, step: int, apart: int, *, same: bool) -> int:
    """Places along one axis of the output."""
    if same:
        return -(-size // step)
    return max(0, -(-(size - (window - 1) * apart) // step))


def _product_fault(read: Sequence[Any], written: Sequence[Any]) -> str | None:
    if len(read) < 2 or read[0] is None or read[1] is None or written[0] is None:
        return None
    data, weight, out = read[0], read[1], written[0]
    if len(weight) != 2 or not data or not out or 0 in weight:
        return None
    rows, left = divmod(math.prod(data), weight[1])
    if left or math.prod(out) != rows * weight[0]:
        return f"makes {list(out)} of {list(data)} with weights {list(weight)}"
    return None
