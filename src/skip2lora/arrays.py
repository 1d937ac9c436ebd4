"""Arrays from a user: one table, or several named inputs, and the check they pass on the way in."""

from __future__ import annotations

import numbers
import operator
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.errors import DataError, ParameterError, brief, first_line

_ALIGN_BYTES = 64  # S2_ALIGN


@dataclass(frozen=True, eq=False)
class Inputs:
    """Named arrays; the first axis of each is the samples. Indexed like one array."""

    arrays: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Inputs:
        return Inputs({name: array[index] for name, array in self.arrays.items()})


#: What a user passes as samples: one table or array, or one for each input of a model by its name
#: or in their order.
SamplesLike = ArrayLike | Inputs | Mapping[str, ArrayLike] | Sequence[ArrayLike]

# Finiteness is tested this many values at a time, so the mask stays at 64 KiB however big X is.
_CHUNK = 1 << 16


MAX_LABEL = np.iinfo(np.int32).max
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) *([A-Za-z]*)")
_UNITS = {"": 1, "b": 1}
_UNITS |= {f"{prefix}ib": 1 << 10 * power for power, prefix in enumerate("kmgt", 1)}
_UNITS |= {f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)}
_NUMBERS = (int, float, Decimal, np.bool_, np.integer, np.floating)


def check_samples(
    x: SamplesLike,
    y: ArrayLike | None = None,
    *,
    n_features: int | None = None,
    n_classes: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
    """Validate samples and labels from a user: the edge where arrays are checked, once.

    ``x`` is (samples, features), any real numbers; ``y`` is (samples,), integers (bool, and floats
    without a fraction, count as integers) in [0, ``n_classes``). ``n_features`` is the width the
    model expects. ``x`` comes back as it is when it is float32, C-contiguous and aligned already,
    otherwise as a new array of that kind.

    Raises:
        DataError: wrong shape, width, length or type, no samples, NaN, infinity or a value too big
            for float32, a label that is negative, fractional or unknown to the model.
    """
    if isinstance(x, Inputs):
        raise DataError(
            f"got several arrays ({listing(list(x.arrays))}), the model takes one table of samples "
            "(samples, features): call it X"
        )
    table = real_array(x, "X")
    if table.ndim != 2:
        hint = "pass X.reshape(1, -1) for one sample, X.reshape(-1, 1) for one feature"
        if table.ndim != 1:
            hint = "pass X.reshape(len(X), -1), each sample as one row"
        raise DataError(
            f"X has {table.ndim} dimensions {table.shape}, expected (samples, features): {hint}"
        )
    n_samples, width = table.shape
    if n_features is not None and width != n_features:
        raise DataError(
            f"X has {width} columns, the model expects {n_features}: "
            "pass the features the model was trained on, in the same order"
        )
    if n_samples == 0 or width == 0:
        raise DataError(
            f"X has {n_samples} samples and {width} features, expected at least one of each: "
            "check how X was selected"
        )
    values = as_float32(table)
    bad = first_not_finite(values)
    if bad is not None:
        count, row, column = bad
        raise DataError(
            f"X has {count} NaN, infinite or too large values, the first at row {row}, column "
            f"{column} (from 0), expected finite float32 numbers: remove or replace them"
        )
    if y is None:
        return values, None
    return values, check_labels(y, n_samples, n_classes)


def first_not_finite(x: NDArray[np.float32]) -> tuple[int, int, int] | None:
    """Return (how many, row, column) of the NaN and infinite values of ``x``, or None without any.

    ``x`` is (samples, features), C-contiguous. The extra memory does not grow with ``x``.
    """
    flat = x.reshape(-1)
    count, first = 0, -1
    for start in range(0, flat.size, _CHUNK):
        finite = np.isfinite(flat[start : start + _CHUNK])
        if finite.all():
            continue
        if first < 0:
            first = start + int(np.argmin(finite))
        count += finite.size - int(np.count_nonzero(finite))
    return None if first < 0 else (count, *divmod(first, x.shape[1]))


def not_finite(count: int) -> str:
    """How a message begins that so many values are not finite, before where the first one is."""
    are = "value is" if count == 1 else "values are"
    return f"{count} {are} NaN, infinite or too large, the first in "


def as_float32(x: NDArray[Any]) -> NDArray[np.float32]:
    """Return ``x`` itself when the kernels can read it in place, else a float32 copy.

    A value too big for float32 becomes infinity: call :func:`first_not_finite` on the result.
    """
    if x.dtype == np.float32 and x.flags.c_contiguous and x.flags.aligned:
        return x
    values = np.empty(x.shape, np.float32)
    with np.errstate(over="ignore"):
        values[...] = x
    return values


def as_array(values: Any) -> NDArray[Any]:
    """``values`` as NumPy reads them; a tensor of PyTorch without its gradients, in memory."""
    torch = sys.modules.get("torch")  # whoever has a tensor has imported it
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        if values.dtype == torch.bfloat16:  # unknown to NumPy
            values = values.float()
    return np.asarray(values)


def real_array(
    values: SamplesLike, name: str, *, fix: str = "convert it with .astype('float32')"
) -> NDArray[Any]:
    """Return ``values`` as an array of real numbers, without a copy where NumPy can.

    Raises:
        DataError: masked, missing, ragged or not numbers; ``name`` is what messages call it,
            ``fix`` what to do about other things than numbers.
    """
    array = plain_array(values, name)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} has dtype {array.dtype}, expected real numbers: {fix}")
    return array


def plain_array(values: Any, name: str) -> NDArray[Any]:
    """``values`` as an array, of text or numbers where they are objects, as those of pandas are.

    Raises:
        DataError: masked, missing or ragged values, or objects of several kinds.
    """
    if np.ma.is_masked(values):
        raise DataError(f"{name} has masked values, expected all present: fill in or drop them")
    try:
        array = as_array(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{name} cannot become an array ({first_line(error)}), "
            "expected rows of equal length: check it"
        ) from error
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    return _of_objects(array, name) if array.dtype == object else array


def _of_objects(array: NDArray[np.object_], name: str) -> NDArray[Any]:
    if array.ndim == 0:
        raise DataError(
            f"{name} is a {type(array.item()).__name__}, expected an array: pass such, as "
            ".toarray() makes of a sparse matrix"
        )
    values = array.reshape(-1).tolist()
    kinds = {type(value) for value in values}
    if all(issubclass(kind, bytes | str) for kind in kinds):
        texts = [
            value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            for value in values
        ]
        return np.array(texts, np.str_).reshape(array.shape)
    if all(issubclass(kind, _NUMBERS) for kind in kinds):
        return np.array(
            [value if isinstance(value, int) else float(value) for value in values]
        ).reshape(array.shape)
    present = [value for value in values if not _is_missing(value)]
    first = type(present[0]) if present else type(None)
    wrong = [
        at for at, value in enumerate(values) if _is_missing(value) or type(value) is not first
    ]
    if not wrong:  # neither text nor numbers
        return array
    place = np.unravel_index(wrong[0], array.shape)
    where = f"row {place[0]}" + "".join(f", column {column}" for column in place[1:2])
    got = brief(repr(values[wrong[0]]))
    if _is_missing(values[wrong[0]]):
        raise DataError(
            f"{name} has {got} at {where} (from 0), a missing value, expected all present: fill it "
            "in, or drop the row"
        )
    raise DataError(
        f"{name} has {got} at {where} (from 0), expected {first.__name__} as in other rows: "
        "convert it"
    )


def _is_missing(value: object) -> bool:
    """None, NaN, or NA and NaT of pandas."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def check_labels(y: ArrayLike | None, n_samples: int, n_classes: int | None) -> NDArray[np.int32]:
    """Validate the labels of ``n_samples`` samples alone, as :func:`check_samples` does."""
    if y is None:
        raise DataError("y is None, expected one label a sample: pass the labels")
    fix = "number the classes with np.unique(y, return_inverse=True)[1]"
    labels = real_array(label_array(y), "y", fix=fix)
    if labels.ndim != 1:
        raise DataError(
            f"y has {labels.ndim} dimensions {labels.shape}, expected one label a sample "
            f"({n_samples},): pass y.argmax(axis=1) of one-hot rows"
        )
    if labels.size != n_samples:
        raise DataError(
            f"y has {labels.size} labels, expected {n_samples}, one a sample of X: "
            "pass the labels of these samples"
        )
    if labels.dtype.kind == "f":
        # NaN and infinity differ from their own floor or are caught by the range below.
        whole = np.floor(labels) == labels
        if not whole.all():
            row = int(np.argmin(whole))
            raise DataError(
                f"y has {labels[row]} at row {row} (from 0), expected whole numbers "
                "0, 1, ...: number the classes, or learn numbers with task='regression'"
            )
    limit = MAX_LABEL + 1 if n_classes is None else n_classes
    known = (labels >= 0) & (labels < limit)
    if not known.all():
        row = int(np.argmin(known))
        raise DataError(_unknown_label(labels, row, n_classes))
    return np.ascontiguousarray(labels, dtype=np.int32)


def label_array(y: Any) -> NDArray[Any]:
    """Labels as an array of text or numbers, (samples,) where they are (samples, 1).

    Raises:
        DataError: as :func:`plain_array`.
    """
    labels = plain_array(y, "y")
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def fix_of_label(labels: NDArray[Any], row: int, fix: str) -> str:
    """What to do about the label at ``row``: ``fix``, unless -1 means something else than a class.

    Others mark samples without a label by -1, or call two classes -1 and 1.
    """
    if labels[row] != -1:
        return fix
    if np.isin(labels, (-1, 1)).all() and (labels == 1).any():
        return "number the two classes 0 and 1, such as y > 0"
    return "leave samples out that have no label, if -1 marks them, such as y >= 0"


def _unknown_label(labels: NDArray[Any], row: int, n_classes: int | None) -> str:
    got = f"got label {labels[row]:.0f} at row {row} (from 0)"
    if n_classes is None:
        fix = fix_of_label(labels, row, "number the classes from 0")
        return f"{got}, expected a whole number from 0 to {MAX_LABEL}: {fix}"
    fix = fix_of_label(labels, row, "correct the label, or train a model with more outputs")
    return (
        f"the model has {n_classes} outputs (0..{n_classes - 1}), {got}, expected one of them: "
        f"{fix}"
    )


def number_or_none(text: str) -> float | None:
    """Return the number that ``text`` is, or None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def shape_text(shape: Iterable[int | str | None]) -> str:
    """A shape for a person: ``(samples, 3, any)``, with any for a size that may change."""
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def listing(names: Sequence[str]) -> str:
    """The names on one line; of more than eight the first eight, and how many there are."""
    few = ", ".join(names[:8])
    return few if len(names) <= 8 else f"{few}, ... ({len(names)} in all)"


def whole(name: str, value: int, low: int, high: int | None = None, why: str = "") -> int:
    """``value`` if it is a whole number in range, else ParameterError."""
    limit = f"from {low}" if high is None else f"from {low} to {high}"
    reason = f", {why}" if why else ""
    try:
        number = operator.index(value if not isinstance(value, bool) else None)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        raise ParameterError(
            f"{name} is {value!r}, expected a whole number {limit}{reason}: choose another"
        )
    return number


def size(name: str, value: int | str) -> int:
    """Bytes, a whole number or text such as 64KiB or 2GB, else ParameterError."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match and match[2].lower() in _UNITS:
            return int(Decimal(match[1]) * _UNITS[match[2].lower()])
        raise ParameterError(
            f"{name} is {value!r}, expected bytes such as 65536, 64KiB or 1.5GB: correct it"
        )
    return whole(name, value, 0)


def real(name: str, value: float, low: float, high: float, limits: str) -> float:
    """``value`` if it is a number in range, else ParameterError that says ``limits``."""
    if not _is_number(value) or not low <= value <= high:
        raise ParameterError(f"{name} is {value!r}, expected a number {limits}: choose another")
    return float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def choice(name: str, value: str, known: tuple[str, ...]) -> str:
    """``value`` if it is one of ``known``, else ParameterError."""
    if value not in known:
        raise ParameterError(f"{name} is {value!r}, expected one of {', '.join(known)}: choose one")
    return value


def zeros(n_rows: int, stride: int) -> NDArray[np.float32]:
    """Zeros, (n_rows, stride), aligned for the kernels of the core."""
    spare = _ALIGN_BYTES // 4
    floats = np.zeros(n_rows * stride + spare, np.float32)
    start = -floats.ctypes.data % _ALIGN_BYTES // 4
    return floats[start : start + n_rows * stride].reshape(n_rows, stride)
