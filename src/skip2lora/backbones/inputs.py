"""Inputs of a model in another runtime: shapes, types, the mask, and the check of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.arrays import Inputs, as_array, shape_text
from skip2lora.errors import DataError


@dataclass(frozen=True)
class InputSpec:
    """One input: ``shape`` is that of a sample, with None for a size that may change.

    With a ``hop``, the first axis are calls of a model with a state between them, and a call goes
    on by so much along its own first axis.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    hop: int | None = field(default=None, kw_only=True)

    @property
    def title(self) -> str:
        """All that it is called."""
        return self.name

    @property
    def reals(self) -> bool:
        """Whether it takes real numbers, not whole ones or truth values."""
        return np.dtype(self.dtype).kind == "f"

    def __str__(self) -> str:
        return shape_text(("samples", *self.shape))


def check_inputs(x: Any, inputs: Sequence[InputSpec]) -> NDArray[Any] | Inputs:
    """What the user passes, with the types and shapes that the model takes.

    One array for a model with one input; for several a mapping by name, or a list or tuple of
    arrays in their order. A table whose width is the product of a sample's sizes is reshaped.

    Raises:
        DataError: a missing or unknown input, another shape or rank, no samples, ragged samples,
            NaN, fractions where whole numbers are expected, a value out of range.
    """
    arrays = _by_name(x, inputs)
    checked = {each.name: _check(arrays[each.name], each, len(inputs)) for each in inputs}
    counts = {name: len(array) for name, array in checked.items()}
    if len(set(counts.values())) > 1:
        given = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(
            f"the inputs have different numbers of samples ({given}), expected one: pass equal ones"
        )
    if len(inputs) == 1 and not isinstance(x, Mapping | Inputs):
        return checked[inputs[0].name]
    return Inputs(checked)


def _by_name(x: Any, inputs: Sequence[InputSpec]) -> dict[str, Any]:
    names = [each.name for each in inputs]
    listed = ", ".join(names)
    if isinstance(x, Inputs):
        x = x.arrays
    if isinstance(x, Mapping):
        missing = [name for name in names if name not in x]
        if missing:
            raise DataError(
                f"X has no input {missing[0]}, expected {listed}: pass an array for each"
            )
        strangers = [str(name) for name in x if name not in names]
        if strangers:
            raise DataError(f"X has input {strangers[0]}, the model takes {listed}: leave it out")
        return dict(x)
    if len(inputs) == 1:
        return {names[0]: x}
    if isinstance(x, list | tuple) and len(x) == len(names):
        return dict(zip(names, x, strict=True))
    raise DataError(
        f"X is {type(x).__name__}, the model takes {len(names)} inputs: pass a dict of arrays "
        f"named {listed}"
    )


def _check(values: ArrayLike, wanted: InputSpec, n_inputs: int) -> NDArray[Any]:
    name = "X" if n_inputs == 1 else wanted.name
    try:
        array = as_array(values)
    except (ValueError, RuntimeError) as error:
        raise DataError(
            f"{name} has samples of different sizes, expected one array {wanted}: pad them to one "
            "size (with an attention mask where the model has one), or pass them apart"
        ) from error
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{name} has dtype {array.dtype}, expected {wanted.dtype} {wanted}: convert it first"
        )
    array = _shaped(array, wanted, name)
    if len(array) == 0:
        raise DataError(f"{name} has no samples, expected at least one: check how it was selected")
    return _typed(array, wanted, name)


def _shaped(array: NDArray[Any], wanted: InputSpec, name: str) -> NDArray[Any]:
    shape = wanted.shape
    fixed = all(size is not None for size in shape)
    if array.ndim == 2 and len(shape) != 1 and fixed:
        width = int(np.prod([size for size in shape if size is not None]))
        if array.shape[1] == width:
            return array.reshape(len(array), *[size or 0 for size in shape])
    got = array.shape[1:]
    same = array.ndim == len(shape) + 1 and all(
        size is None or size == has for size, has in zip(shape, got, strict=True)
    )
    if same:
        return array
    raise DataError(
        f"{name} has shape {array.shape}, the model expects {wanted}: {_advice(got, shape)}"
    )


def _advice(got: tuple[int, ...], shape: tuple[int | None, ...]) -> str:
    if got and (got[-1], *got[:-1]) == shape:
        return "move channels first, np.moveaxis(X, -1, 1)"
    if got and (*got[1:], got[0]) == shape:
        return "move channels last, np.moveaxis(X, 1, -1)"
    if got[1:] == () and len(shape) > 1:
        return "pass each sample with all its axes, or one sample as X[None]"
    if len(got) == len(shape) == 1:
        return "pass the features the model was trained on, in the same order"
    if len(got) + 1 == len(shape):
        return "add the missing axis, X[None] for one sample, X[:, None] for one channel"
    return "resize or crop the samples to it"


def _typed(array: NDArray[Any], wanted: InputSpec, name: str) -> NDArray[Any]:
    dtype, array = np.dtype(wanted.dtype), bounded(array)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
        raise DataError(
            f"{name} has NaN or infinite values, the first in sample {row} (from 0), expected "
            "finite numbers: remove or replace them"
        )
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if array.dtype.kind == "f" and not (np.floor(array) == array).all():
            raise DataError(
                f"{name} has fractions, expected whole numbers ({dtype}): round them, or was the "
                "wrong array passed?"
            )
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise DataError(
                f"{name} has values from {array.min()} to {array.max()}, expected {dtype}, "
                f"{limits.min} to {limits.max}: scale them"
            )
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(array.astype(dtype))
    if dtype.kind == "f" and not np.isfinite(converted).all():
        raise DataError(
            f"{name} has values too large for {dtype}, expected finite ones: scale them"
        )
    return converted


def bounded(array: NDArray[Any]) -> NDArray[Any]:
    """The array, but a mask of zeros and -infinity with large finite numbers in their place.

    They hide as much, and leave numbers where all is hidden.
    """
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array
    hidden = np.isneginf(array)
    if not ((array == 0) | hidden).all():
        return array
    return np.where(hidden, np.finfo(np.float16).min, array).astype(array.dtype)


#: Keywords of PyTorch's modules and of those built from them, first come first: what a mask of that
#: name holds where a token counts, 1, or 0 where true marks padding.
KEYWORDS = {
    "attention_mask": 1,
    "src_key_padding_mask": 0,
    "key_padding_mask": 0,
    "padding_mask": 0,
}


#: The mask of a model in which all tokens count.
NO_MASK = "none"


def counting_value(name: str) -> int:
    """What an input of that name holds where all tokens count; 1 is also a valid token."""
    return KEYWORDS.get(name, 1)


def drawn(inputs: Sequence[InputSpec], count: int, *, n_tokens: int = 0) -> dict[str, NDArray[Any]]:
    """``count`` samples of noise for inputs of known sizes: each the same, whatever their number.

    Real numbers lie between 0 and 1. Whole numbers are ones, which are valid tokens and masks by
    which all count. With ``n_tokens`` samples are more different: the range of real numbers changes
    from sample to sample, bytes are any, other whole numbers but those of masks are below it.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for number, spec in enumerate(inputs):
        random = np.random.Generator(np.random.PCG64(number))
        shape = (count, *(size or 1 for size in spec.shape))
        if spec.reals:
            arrays[spec.name] = random.random(shape, np.float32)
            if n_tokens:
                ranges = (1 + np.arange(count) % 4) / np.float32(4)
                arrays[spec.name] *= ranges.reshape(-1, *[1] * len(spec.shape))
                # One that is like another, which attention between samples would look at.
                if count > 2:
                    arrays[spec.name][2] += 9 * arrays[spec.name][1]
                    arrays[spec.name][2] /= 10
        elif n_tokens and not _masks(spec.name):
            most = 256 if spec.dtype == "uint8" and len(spec.shape) > 1 else n_tokens
            arrays[spec.name] = random.integers(0, most, shape).astype(np.int32)
        else:
            arrays[spec.name] = np.full(shape, counting_value(spec.name), np.int32)
    return arrays


def _masks(name: str) -> bool:
    """Whether an input of that name says which tokens count."""
    return name in KEYWORDS or "mask" in name.lower()
