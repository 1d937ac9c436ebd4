"""Samples for a PyTorch module: arrays checked once, and what their numbers are meant as."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from skip2lora.arrays import Inputs, as_array, as_float32, first_not_finite
from skip2lora.backbones.inputs import InputSpec, bounded, counting_value
from skip2lora.backbones.taps import Shapes
from skip2lora.errors import DataError, first_line

Samples = NDArray[Any] | Inputs
#: What an input is given as: floats of the module's type, whole numbers (int64), or truth values.
Numbers = Literal["f", "i", "b"]


def by_keyword(module: nn.Module, X: Any) -> Any:
    """What a user passes, a tuple or list of several inputs by the keywords of ``forward``.

    A list is several inputs where the module needs so many, and otherwise one array.

    Raises:
        DataError: more inputs than it takes, or one that it does not.
    """
    parameters = inspect.signature(module.forward).parameters
    positional = [each for each in parameters.values() if each.kind.name.startswith("POSITIONAL")]
    needed = sum(each.default is inspect.Parameter.empty for each in positional)
    name = type(module).__name__
    if isinstance(X, tuple) or (isinstance(X, list) and len(X) == needed > 1):
        names = [each.name for each in positional]
        if not names or len(X) > len(names):
            raise DataError(
                f"X has {len(X)} inputs, {name} takes {', '.join(names) or 'none'}: pass a mapping "
                "by those names, or an array for one input"
            )
        return dict(zip(names, X, strict=False))
    if isinstance(X, Mapping):
        wrong = [key for key in X if key not in parameters]
        kinds = {each.kind for each in parameters.values()}
        if wrong and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise DataError(
                f"X has input {wrong[0]!r}, which {name} does not take, expected "
                f"{', '.join(parameters)}: name the inputs as its forward does"
            )
    return X


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


def check_array(values: Any, name: str = "X") -> NDArray[Any]:
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
    floats = as_float32(bounded(array))
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


def specs_of(shapes: Shapes) -> tuple[InputSpec, ...]:
    """The inputs of samples of these shapes."""
    types = {"f": "float32", "i": "int64", "b": "bool"}
    return tuple(InputSpec(name or "X", shape, types[kind]) for name, shape, kind in shapes)


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


def extremes(x: Samples) -> Samples:
    """The one with the largest real number, and the one whose largest is the smallest.

    What a module does to a whole batch from some number on shows where both are in one.
    """
    sizes = np.zeros(min(len(x), _LOOKED_AT))
    for array in x.arrays.values() if isinstance(x, Inputs) else (x,):
        if array.dtype.kind == "f" and array[:1].size:
            rows = array[: len(sizes)].reshape(len(sizes), -1)
            np.maximum(sizes, np.maximum(rows.max(axis=1), -rows.min(axis=1)), out=sizes)
    return x[np.array([sizes.argmax(), sizes.argmin()])]


_LOOKED_AT = 4096  # samples


def different(x: Samples, count: int, *, varied: bool) -> Samples:
    """``count`` samples, each its own: the first of ``x``, then such as the last of ``x``.

    Numbers of a sample change places and the range of real ones shrinks, so that they stay such as
    the module takes; of a sample that has one number everywhere they are random. What is true or
    false stays, as do masks. Without ``varied`` all samples are alike.
    """
    if isinstance(x, Inputs):
        keep = {name for name in x.arrays if "mask" in name}
        return Inputs(
            {
                name: _different(array, count, varied and name not in keep, seed)
                for seed, (name, array) in enumerate(x.arrays.items())
            }
        )
    return _different(x, count, varied, 0)


def _different(array: NDArray[Any], count: int, varied: bool, seed: int) -> NDArray[Any]:
    samples = array[[0, *[-1 if varied else 0] * (count - 1)]]
    if not varied or array.dtype.kind == "b":
        return samples
    random = np.random.Generator(np.random.PCG64(seed))
    flat = samples.reshape(count, -1)
    reals, alike = array.dtype.kind == "f", (flat[1:] == flat[-1, 0]).all()
    for number in range(1, count):
        row = flat[number]
        if alike:
            row[:] = random.random(row.shape) if reals else random.integers(0, 2, row.shape)
        elif reals:
            row[:] = random.permutation(row) * random.uniform(0.25, 1, row.shape)
        else:
            row[:] = random.permutation(row)
    if reals and count > 2:  # one that is like another, which attention between samples looks at
        flat[2] = 0.9 * flat[1] + 0.1 * flat[2]
    return samples


def made_up(shapes: Shapes) -> Samples:
    """One sample of these shapes: ones, which are valid tokens, and masks by which all count."""
    types = {"f": np.float32, "i": np.int64, "b": np.bool_}
    arrays: dict[str, NDArray[Any]] = {
        name: np.full((1, *shape), counting_value(name), types[kind])
        for name, shape, kind in shapes
    }
    return arrays[""] if "" in arrays else Inputs(arrays)
