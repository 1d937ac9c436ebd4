"""Samples of noise, for times, and for what holds of any samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from skip2lora.backbones.base import Backbone
from skip2lora.backbones.inputs import drawn
from skip2lora.errors import DataError


def random_samples(
    model: Backbone, count: int, *, open_size: int | None = None, n_tokens: int = 0
) -> Any:
    """Checked samples: random numbers, or ones where whole numbers are read.

    Sizes that the model leaves open are ``open_size``. With ``n_tokens`` samples are more
    different (:func:`~skip2lora.backbones.inputs.drawn`). None where ``open_size`` is None and
    needed, or where the model takes no such numbers.
    """
    specs = [
        replace(spec, shape=tuple(size or open_size for size in spec.shape))
        for spec in model.inputs
    ]
    if any(None in spec.shape for spec in specs):
        return None
    if model.takes_table and any(None in spec.shape for spec in model.inputs):
        return None
    arrays = drawn(specs, count, n_tokens=n_tokens)
    given = arrays if len(arrays) > 1 else next(iter(arrays.values()))
    try:
        return model.check(given)
    except DataError:
        return None
