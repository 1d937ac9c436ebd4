"""Samples for a PyTorch module: arrays checked once, and what their numbers are meant as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs, as_array, as_float32, first_not_finite
from skip2lora.backbones.inputs import counting_value, keyword_mask
from skip2lora.backbones.taps import Shapes
from skip2lora.errors import DataError, first_line

Samples = NDArray[Any] | Inputs
#: What an input is given as: floats of the module's type, whole numbers (int64), or truth values.
Numbers = Literal["f", "i", "b"]


def check_inputs(arrays: Mapping[str, Any]) -> Inputs:
    """Check named arrays: :func:`check_array` for each, and as many samples in all.

    Whole numbers in a mask that is 1 for what does not count become truth values: as floats,
    PyTorch would add them to the attention.
    """
    checked = {name: check_array(values, f'X["{name}"]') for name, values in arrays.items()}
    lengths = {name: len(array) for name, array in checked.items()}
    if len(set(lengths.values())) != 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items()) or "nothing"
        raise DataError(
            f"X has inputs of different length ({counts}), expected as many samples in each: pass "
            "the inputs of the same samples"
        )
    for name, array in checked.items():
        if counting_value(name) == 0 and array.dtype.kind == "i":
            checked[name] = array != 0
    return Inputs(checked)


def check_array(values: Any, name: str) -> NDArray[Any]:
    """One array of samples: float32 without NaN, int64 or bool."""
    try:
        array = as_array(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{name} cannot become an array ({first_line(error)}), expected samples of one "
            "shape: check it, or pad them"
        ) from error
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{name} has dtype {array.dtype}, expected real numbers: convert it with "
            ".astype('float32')"
        )
    if array.ndim == 0 or array.size == 0:
        raise DataError(
            f"{name} has shape {array.shape}, expected at least one sample, (samples, ...): check "
            "how it was selected"
        )
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    floats = as_float32(array)
    bad = first_not_finite(floats.reshape(len(floats), -1))
    if bad is not None:
        raise DataError(
            f"{name} has {bad[0]} NaN, infinite or too large values, the first in sample {bad[1]} "
            "(from 0), expected finite float32 numbers: remove or replace them"
        )
    return floats


def shapes_of(x: Samples) -> Shapes:
    """Shape of one sample and kind of numbers of each input; the only one has no name."""
    arrays = x.arrays if isinstance(x, Inputs) else {"": x}
    return tuple((name, array.shape[1:], array.dtype.kind) for name, array in arrays.items())


def told(shapes: Shapes) -> str:
    """Shapes for a person: ``ids int64 of shape (7,), mask bool of shape (7,)``."""
    types = {"f": "float32", "i": "int64", "b": "bool"}
    return ", ".join(
        f"{name} {types[kind]} of shape {shape}".strip() for name, shape, kind in shapes
    )


def readings(shapes: Shapes) -> Iterator[dict[str, Numbers]]:
    """What the numbers may be meant as: what they are, or all of them floats."""
    as_is: dict[str, Any] = {name: kind for name, _, kind in shapes}
    yield as_is
    if set(as_is.values()) != {"f"}:
        yield dict.fromkeys(as_is, "f")


def converted(x: Samples, numbers: Mapping[str, Numbers]) -> Samples:
    """``x`` with the numbers of each input read as told."""
    types = {"f": np.float32, "i": np.int64, "b": np.bool_}
    if isinstance(x, Inputs):
        return Inputs({k: a.astype(types[numbers[k]], copy=False) for k, a in x.arrays.items()})
    return x.astype(types[numbers[""]], copy=False)


def made_up(shapes: Shapes) -> Samples:
    """One sample of these shapes: ones, which are valid tokens, and masks by which all count."""
    types = {"f": np.float32, "i": np.int64, "b": np.bool_}
    arrays: dict[str, NDArray[Any]] = {
        name: np.full((1, *shape), counting_value(name), types[kind])
        for name, shape, kind in shapes
    }
    return arrays[""] if "" in arrays else Inputs(arrays)


def counting_tokens(x: Samples) -> NDArray[np.float32] | None:
    """1 for the tokens that count, (samples, tokens), where an input says so."""
    if isinstance(x, Inputs):
        name = keyword_mask({name: array.ndim - 1 for name, array in x.arrays.items()})
        if name is not None:
            counting = x.arrays[name] == counting_value(name)
            return np.asarray(counting, np.float32)
    return None
