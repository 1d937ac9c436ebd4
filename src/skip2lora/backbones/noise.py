"""Samples of noise, for times that do not depend on values."""

from __future__ import annotations

from typing import Any

import numpy as np

from skip2lora.backbones import headless
from skip2lora.backbones.base import Backbone, check_inputs
from skip2lora.errors import DataError


def random_samples(model: Backbone, count: int, *, open_size: int | None = None) -> Any:
    """Checked samples: random numbers, or ones where whole numbers are read.

    Sizes that the model leaves open are ``open_size``. None where that is None, or where the model
    takes no such numbers.
    """
    inputs = getattr(headless.whole(model), "inputs", None)
    random = np.random.Generator(np.random.PCG64(0))
    if inputs is None:
        width = model.tap_widths[0] if model.first_tap_is_input else None
        width = getattr(headless.whole(model), "n_features", width)
        if width is None:
            return None
        return check_inputs(model, random.random((count, width), dtype=np.float32))
    arrays = {}
    shape: list[Any]
    for spec in inputs:
        shape = [count, *(size or open_size for size in spec.shape)]
        if None in shape:
            return None
        reals = np.dtype(spec.dtype).kind == "f" or getattr(spec, "scale", 0)
        # Token 1 and a mask of ones are valid wherever whole numbers are read.
        arrays[spec.name] = random.random(shape, np.float32) if reals else np.ones(shape, np.int32)
    given = arrays if len(arrays) > 1 else next(iter(arrays.values()))
    try:
        return check_inputs(model, given)
    except DataError:
        return None
