"""Samples of noise, for times that do not depend on values."""

from __future__ import annotations

from typing import Any

import numpy as np

from skip2lora.backbones.base import Backbone
from skip2lora.backbones.inputs import counting_value
from skip2lora.errors import DataError


def random_samples(model: Backbone, count: int, *, open_size: int | None = None) -> Any:
    """Checked samples: random numbers, or ones where whole numbers are read.

    Sizes that the model leaves open are ``open_size``. None where that is None, or where the model
    takes no such numbers.
    """
    random = np.random.Generator(np.random.PCG64(0))
    arrays = {}
    shape: list[Any]
    for spec in model.inputs:
        shape = [count, *(size or open_size for size in spec.shape)]
        if None in shape or (model.takes_table and None in spec.shape):
            return None
        # Token 1 and a mask by which all count are valid wherever whole numbers are read.
        value = counting_value(spec.name)
        arrays[spec.name] = (
            random.random(shape, np.float32) if spec.reals else np.full(shape, value, np.int32)
        )
    given = arrays if len(arrays) > 1 else next(iter(arrays.values()))
    try:
        return model.check(given)
    except DataError:
        return None
