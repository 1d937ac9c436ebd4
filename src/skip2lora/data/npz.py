"""Read a ``.npz``: a table of samples, samples with more axes, or a model's several inputs."""

from __future__ import annotations

import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs, as_float32, listing
from skip2lora.data.lazy import CheckedSource, LazySamples, Picked
from skip2lora.data.parts import check_no_part, choose_part, part_called
from skip2lora.data.samples import Table
from skip2lora.data.stored import StoredArray, unpacked
from skip2lora.errors import DataError, first_line
from skip2lora.files import BAD_ZIP
from skip2lora.limits import check_bytes
from skip2lora.tasks.columns import Checked, Columns, Wanted
from skip2lora.tasks.targets import USUAL_ARRAYS
from skip2lora.tasks.task import Answers

# Arrays that are no samples.
_NAMES = ("class_names", "names", "feature_names", "target_names")
# What NumPy and zipfile raise for files that are cut, changed or of another kind.
_BAD_NPZ = (
    *BAD_ZIP,
    ValueError,
    KeyError,
    SyntaxError,
    MemoryError,
    TypeError,
    OverflowError,
    tokenize.TokenError,
)
_LAST_CODE, _SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)  # of Unicode, and what is none in it


def read_npz(source: Path, wanted: Wanted) -> Table:
    """What the file says.

    ``X`` holds the samples. Without it several arrays of numbers are the inputs of a model that
    takes several, each under its name. Whole numbers of more than a table keep their type. A large
    ``X`` is checked, and read where it is needed: from the file, or unpacked from another.
    Answers are one array, or several of which each is a column.

    Raises:
        DataError: damaged, pickled, no samples, no answers where they are required.
    """
    with source.open("rb") as stream:
        try:
            loaded = np.load(stream, allow_pickle=False)
        except _BAD_NPZ as error:
            raise _damaged(error) from error
        return _table(_Arrays(source, loaded, wanted.checked), wanted)


class _Arrays(Mapping[str, NDArray[Any]]):
    """The arrays of a file, each read when it is asked for; others cost nothing."""

    def __init__(
        self, source: Path, loaded: Any, checked: Checked | None,
        members: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._source, self._loaded, self._checked = source, loaded, checked
        # Anything else in the archive is no array.
        names = [] if isinstance(loaded, np.ndarray) else loaded.zip.namelist()
        inside = {name[:-4]: name for name in names if name.endswith(".npy")}
        self._members = inside if members is None else members
        self._arrays: dict[str, NDArray[Any]] = {}
        self._n_bytes = 0

    def of(self, names: Mapping[str, str]) -> _Arrays:
        """Some of them, under other names."""
        members = {name: self._members[inside] for name, inside in names.items()}
        return _Arrays(self._source, self._loaded, self._checked, members)

    def large(self, name: str) -> NDArray[Any] | LazySamples | None:
        """A large array of that name, to be read by samples; None where it is read at once."""
        if name not in self._members:
            return None
        try:
            member = self._loaded.zip.getinfo(self._members[name])
            array = StoredArray.open(self._source, member, self._checked)
            if array is None:
                return unpacked(self._source, self._loaded.zip, member)
        except _BAD_NPZ as error:
            raise _damaged(error) from error
        return LazySamples.of(array)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._arrays:
            member = self._members[name]
            size = int(self._loaded.zip.getinfo(member).file_size)
            self._n_bytes += size
            check_bytes(self._source, self._n_bytes)
            self._arrays[name] = _array(self._loaded, member, name, size)
        return self._arrays[name]


def _damaged(error: Exception) -> DataError:
    return DataError(
        f"it is damaged or no .npz ({first_line(error)}), expected plain arrays X and y: write it "
        "again with np.savez, X as numbers and y as numbers or text"
    )


def _table(arrays: _Arrays, wanted: Wanted) -> Table:
    arrays, notes = _one_part(arrays, wanted)
    listed = listing(list(arrays)) or "no name"
    given = [name for name in arrays if name != "X" and name not in _NAMES]
    places = replace(wanted, labels_required=False).answers(given, "arrays")
    y_names = [given[place] for place in places]
    wanted.beside([*arrays], y_names, "arrays")  # refuses
    beside = [*wanted.aside.values()]
    aside = {*y_names, *_NAMES, *wanted.ignore, *beside, *({*USUAL_ARRAYS} - {*wanted.inputs})}
    x, columns = _columns(arrays, _samples(arrays, aside, listed), wanted)
    if wanted.required and not y_names:
        raise DataError(
            f"it has arrays {listed}, expected the answers as y: add them, or say which hold them "
            "with target="
        )
    return Table(
        x=x,
        answers=Answers(
            _answers(arrays, y_names) if y_names else None,
            class_names=_names(arrays, "class_names" if "class_names" in arrays else "names"),
            column_names=tuple(y_names) if len(y_names) > 1 else _names(arrays, "target_names"),
        ),
        columns=columns,
        aside=dict(zip(wanted.aside, map(arrays.__getitem__, beside), strict=True)),
        notes=notes,
    )


def _array(loaded: Any, member: str, name: str, n_bytes: int) -> NDArray[Any]:
    try:
        array: Any = loaded[member]
    except _BAD_NPZ as error:
        if "Object arrays" not in str(error):
            raise _damaged(error) from error
        raise DataError(
            f"{name} is an array of Python objects, expected numbers or text: write "
            f"np.array({name}.tolist())"
        ) from error
    if not isinstance(array, np.ndarray) or array.size > n_bytes:  # values of no bytes
        raise _damaged(ValueError(f"{name} holds no values"))
    if array.dtype.kind == "U":
        codes = np.ascontiguousarray(array).view(f"{array.dtype.byteorder}u4")
        bad = (codes > _LAST_CODE) | ((codes >= _SURROGATES[0]) & (codes <= _SURROGATES[1]))
        if bad.any():
            raise _damaged(ValueError(f"{name} has {hex(int(codes[bad][0]))}, no character"))
    return array


def _one_part(arrays: _Arrays, wanted: Wanted) -> tuple[_Arrays, tuple[str, ...]]:
    """Arrays such as ``x_train`` and ``y_train`` as X and y, of one part, and a note of it."""
    parts: dict[str, dict[str, str]] = {}
    others = {}
    for name in arrays:
        words = name.lower().split("_")
        part = part_called(words[1]) or part_called(words[0]) if len(words) == 2 else None
        axis = next((word for word in words if word in ("x", "y")), None)
        if part is None or axis is None:
            others[name] = name
        else:
            parts.setdefault(part, {})["X" if axis == "x" else "y"] = name
    if "X" in arrays or not any("X" in part for part in parts.values()):
        check_no_part(wanted, arrays)
        return arrays, ()
    chosen, note = choose_part(parts, wanted)
    return arrays.of(others | chosen), (note,)


def _columns(arrays: Mapping[str, NDArray[Any]], x: Any, wanted: Wanted) -> tuple[Any, Columns]:
    """A table as the model learned its columns, where it has their names, and what they are."""
    if isinstance(x, Inputs) or len(x.shape) != 2 or "feature_names" not in arrays:
        return x, wanted.columns(None)
    names = _names(arrays, "feature_names", x.shape[1]) or ()
    places = wanted.features(names)
    if places != list(range(len(names))):
        at = np.array(places, np.intp)
        if isinstance(x, LazySamples):
            x = LazySamples.of(Picked(cast("CheckedSource", x.source), at))
        else:
            x = np.ascontiguousarray(x[:, at])
    return x, wanted.columns([names[at] for at in places])


def _answers(arrays: Mapping[str, NDArray[Any]], names: list[str]) -> NDArray[Any]:
    if len(names) == 1:
        return arrays[names[0]]
    for name in names:
        if arrays[name].ndim != 1 or len(arrays[name]) != len(arrays[names[0]]):
            raise DataError(
                f"{name} has shape {arrays[name].shape}, expected ({len(arrays[names[0]])},), one "
                "answer a sample, as it is one of several columns: correct target="
            )
    return np.stack([arrays[name] for name in names], axis=1)


def _samples(arrays: _Arrays, aside: set[str], listed: str) -> NDArray[Any] | Inputs | LazySamples:
    large = arrays.large("X")
    if large is not None:
        return large
    x = arrays.get("X")
    if x is not None:
        if x.ndim < 2 or x.dtype.kind not in "fiub":
            raise DataError(
                f"X is {x.dtype} of shape {x.shape}, expected numbers (samples, features), or "
                "(samples, ...) as the model takes them: write one row a sample"
            )
        return as_float32(x) if x.ndim == 2 or x.dtype.kind == "f" else x
    named = {name: array for name, array in arrays.items() if name not in aside}
    if len(named) < 2:
        raise DataError(f"it has arrays of {listed}, expected the samples as X: rename them")
    for name, array in named.items():
        if array.ndim == 0 or array.dtype.kind not in "fiub":
            raise DataError(
                f"{name} is {array.dtype} of shape {array.shape}, expected numbers (samples, ...), "
                "one array an input of the model, or all samples as X: write it again"
            )
    lengths = {name: len(array) for name, array in named.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(
            f"its arrays have different numbers of samples ({counts}), expected as many in each "
            "input of the model: write it again"
        )
    return Inputs({n: as_float32(a) if a.dtype.kind == "f" else a for n, a in named.items()})


def _names(
    arrays: Mapping[str, NDArray[Any]], key: str, count: int | None = None
) -> tuple[str, ...] | None:
    if key not in arrays:
        return None
    names = tuple(str(name) for name in arrays[key].ravel())
    is_text = arrays[key].ndim == 1 and arrays[key].dtype.kind == "U" and len(names) > 0
    if not is_text or len(set(names)) != len(names) or (count is not None and count != len(names)):
        expected = "distinct names" if count is None else f"{count} distinct names"
        raise DataError(
            f"{key} is {arrays[key].dtype} of shape {arrays[key].shape}, "
            f"expected {expected} as text, one a {key.split('_')[0]}: write them again"
        )
    return names
