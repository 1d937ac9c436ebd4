"""What a runtime says its inputs are, and the check that a user's samples pass on the way in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.errors import DataError
from skip2lora.inputs import Inputs
from skip2lora.samples import as_float32, check_samples, first_not_finite, real_array


@dataclass(frozen=True)
class InputSpec:
    """One input: ``shape`` of one sample, and the type the runtime reads.

    A quantised input has a ``scale`` above 0: q means ``scale * (q - zero_point)``. ``alias`` is
    another name that is accepted.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero_point: int = 0
    alias: str = ""

    def quantised(self, values: NDArray[Any]) -> NDArray[Any]:
        """``values`` as the runtime reads them; those of its own type are taken as they are."""
        if values.dtype == self.dtype:
            return values
        if self.scale == 0:
            return values.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        scaled = np.rint(values / np.float32(self.scale)) + self.zero_point
        whole: NDArray[Any] = np.clip(scaled, limits.min, limits.max).astype(self.dtype)
        return whole


Given = ArrayLike | Inputs | Mapping[str, ArrayLike] | Sequence[ArrayLike]


def check_arrays(specs: Sequence[InputSpec], given: Given) -> NDArray[Any] | Inputs:
    """Samples as the runtime reads them: an array for one input, ``Inputs`` for several.

    ``given`` is one array for a model with one input, (samples, ...); for several a mapping by
    name, or a sequence of arrays in the order of ``specs``. Real numbers become the input's type:
    they are quantised where it is quantised, unless they have that very type already.

    Raises:
        DataError: a name, number of inputs, shape, type or length that does not fit, no samples,
            NaN, infinity, or a number the type cannot hold.
    """
    if len(specs) == 1 and not isinstance(given, Inputs | Mapping):
        return _checked(specs[0], given, "X")
    named = _named(specs, given)
    arrays = {
        spec.name: _checked(spec, array, f'input "{spec.name}"')
        for spec, array in zip(specs, named, strict=True)
    }
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(
            f"the inputs have different numbers of samples ({told}), expected as many in each: "
            "pass the same samples"
        )
    return arrays[specs[0].name] if len(specs) == 1 else Inputs(arrays)


def _named(specs: Sequence[InputSpec], given: Any) -> list[Any]:
    names = ", ".join(spec.name for spec in specs)
    if isinstance(given, Inputs):
        given = given.arrays
    if isinstance(given, Mapping):
        known = {spec.alias or spec.name: spec.name for spec in specs}
        arrays = {known.get(name, name): array for name, array in given.items()}
        if len(arrays) != len(given) or set(arrays) != set(known.values()):
            raise DataError(
                f"X has the inputs {', '.join(map(str, given))}, expected {names}: "
                "pass a mapping with these names"
            )
        return [arrays[spec.name] for spec in specs]
    if not isinstance(given, list | tuple) or len(given) != len(specs):
        got = f"{len(given)} arrays" if isinstance(given, list | tuple) else type(given).__name__
        raise DataError(
            f"X is {got}, the model has {len(specs)} inputs ({names}): "
            "pass a mapping by name, or a list of arrays in this order"
        )
    return list(given)


def _checked(spec: InputSpec, given: Any, what: str) -> NDArray[Any]:
    own = isinstance(given, np.ndarray) and given.dtype == spec.dtype and spec.dtype.kind in "iub"
    if not own and len(spec.shape) == 1 and what == "X" and _takes_reals(spec):
        return spec.quantised(check_samples(given, n_features=spec.shape[0])[0])
    array = real_array(given, what)
    _check_shape(spec, array.shape, what)
    if own:
        return array
    if not _takes_reals(spec):
        return _whole(spec, array, what)
    values = as_float32(array)
    bad = first_not_finite(values.reshape(len(values), -1))
    if bad is not None:
        count, row, _ = bad
        raise DataError(
            f"{what} has {count} NaN, infinite or too large values, the first at row {row} "
            "(from 0), expected finite float32 numbers: remove or replace them"
        )
    return spec.quantised(values)


def _takes_reals(spec: InputSpec) -> bool:
    return spec.dtype.kind == "f" or spec.scale > 0


def _whole(spec: InputSpec, array: NDArray[Any], what: str) -> NDArray[Any]:
    """Whole numbers such as token ids; bool takes 0 and 1."""
    is_bool = spec.dtype.kind == "b"
    low, high = (0, 1) if is_bool else (np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max)
    good = (array >= low) & (array <= high)
    if array.dtype.kind == "f":
        good &= np.floor(array) == array
    if not good.all():
        row = int(np.argmin(good.reshape(len(array), -1).all(axis=1)))
        value = array[row][~good[row]].flat[0]
        raise DataError(
            f"{what} has {value} at row {row} (from 0), the model expects {spec.dtype}, whole "
            f"numbers from {low} to {high}: convert it as in training"
        )
    return array.astype(spec.dtype)


def _check_shape(spec: InputSpec, shape: tuple[int, ...], what: str) -> None:
    if shape[1:] == spec.shape and len(shape) == 1 + len(spec.shape):
        if shape[0] == 0:
            raise DataError(
                f"{what} has 0 samples, expected at least one: check how {what} was selected"
            )
        return
    expected = f"(samples, {', '.join(map(str, spec.shape))})" if spec.shape else "(samples,)"
    hint = "prepare the samples as in training"
    if shape == spec.shape:
        hint = "X[None] makes one sample of it"
    elif len(shape) == len(spec.shape) + 1 == 4:
        if (shape[2], shape[3], shape[1]) == spec.shape:
            hint = "the model has channels last, X.transpose(0, 2, 3, 1) moves them"
    elif len(shape) > 1 and np.prod(shape[1:]) == np.prod(spec.shape):
        hint = f"X.reshape({', '.join(map(str, (-1, *spec.shape)))}) lays the samples out so"
    raise DataError(f"{what} has shape {shape}, expected {expected}: {hint}")
