"""HAR task: what is a person doing? Six activities from the motion of a smartphone on the waist.

The data are "Human Activity Recognition Using Smartphones" of Anguita, Ghio, Oneto, Parra and
Reyes-Ortiz, ESANN 2013: 561 features a window of 2.56 s, 30 persons ("subjects"). They are for
research, to be cited, and never shipped: the user has them. Five persons are the new surroundings
(Skip2-LoRA, Sec. 5.1): a network learns from the others and then meets these.

The original (a folder or a zip) has a training and a test part, by subject. The task takes the
whole training part and, of the test part, subject 9: 7,640 windows.
"""

from __future__ import annotations

import io
import os
import tokenize
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import first_not_finite, number_or_none
from skip2lora.data.samples import LabelledSamples
from skip2lora.datasets import Split
from skip2lora.errors import DataError, FileError, Skip2LoraError, brief, first_line
from skip2lora.files import BAD_ZIP, unreadable

N_FEATURES = 561
N_CLASSES = 6
N_SUBJECTS = 30
DRIFTED = (9, 14, 16, 19, 25)
FROM_TEST = 9  # the only one of them whose windows lie in the test part

NPZ = "har.npz"
FOLDER = "UCI HAR Dataset"
FILES = (
    "features.txt",
    "activity_labels.txt",
    *(f"{part}/{kind}_{part}.txt" for part in ("train", "test") for kind in ("X", "y", "subject")),
)

_ARRAYS = ("X", "y", "subject", "feature_names", "activity_names")
# What zipfile and NumPy raise for files that are cut, changed or of another kind.
_BAD_ZIP = (*BAD_ZIP, ValueError)
_BAD_HEADER = (SyntaxError, tokenize.TokenError, TypeError, OverflowError, MemoryError)


@dataclass(frozen=True, eq=False)
class Windows:
    """All windows of the task's persons, in the order of the source: those of a recording together.

    Neighbours in a recording overlap by half.
    """

    x: NDArray[np.float32]  # (samples, 561)
    y: NDArray[np.int64]  # (samples,): 0..5
    subject: NDArray[np.int64]  # (samples,): 1..30
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]


def load_task(source: str | os.PathLike[str]) -> Split:
    """Return the pre-training, fine-tuning and test samples: (5894, 561), (1048, 561), (698, 561).

    Features are as in the source, within -1..1; labels 0 walking, 1 upstairs, 2 downstairs,
    3 sitting, 4 standing, 5 laying. Pre-training is every subject but 9, 14, 16, 19 and 25. Of
    these five the first 60 % of each activity, in row order, are for fine-tuning and the rest for
    the test: neighbouring windows overlap by half, so a random split would leak.

    ``source`` is the original folder ``UCI HAR Dataset`` or the one that holds it, the original
    zip (also with a second zip inside, as it is handed out today), or an ``.npz`` of the task's
    rows (a folder with ``har.npz``): X (samples, 561), y (samples,) 0..5, subject (samples,),
    feature_names (561,), activity_names (6,). Of the original's test part only the windows of
    subject 9 are parsed.

    Raises:
        FileError: ``source`` or one of its files is missing or cannot be read.
        DataError: a file is damaged (the message names it and, where known, the line), the files
            disagree, or one of the five subjects is absent.
    """
    path = Path(source)
    with _naming(path):
        table = read_windows(path)
        if len(set(table.class_names)) != N_CLASSES:
            raise DataError(
                f"the activities are {', '.join(table.class_names)}, expected {N_CLASSES} distinct "
                "names: copy the data again"
            )
        return _split(table)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the source in every error raised inside."""
    try:
        yield
    except Skip2LoraError as error:
        raise type(error)(f"{path}: {error}") from error.__cause__
    except OSError as error:
        raise unreadable(error.filename or path, error) from error


def read_windows(path: Path) -> Windows:
    """Return all windows of a source as :func:`load_task` takes it, with its errors."""
    if path.is_dir():
        root = _root(path)
        if (path / NPZ).is_file():
            return _read_npz(path / NPZ)
        if root is not None:
            return _read_original(root)
        if (path / f"{FOLDER}.zip").is_file():
            return _read_zip(path / f"{FOLDER}.zip")
        raise FileError(
            f"the folder has no {NPZ} and no {FOLDER}, expected one of them: check the path, or "
            "get the data from the UCI Machine Learning Repository"
        )
    path.stat()  # a missing path is reported as such, whatever its suffix
    if path.suffix.lower() == ".npz":
        return _read_npz(path)
    if path.suffix.lower() == ".zip":
        return _read_zip(path)
    raise DataError(
        f'got a file with suffix "{path.suffix}", expected the folder {FOLDER}, its .zip or an '
        ".npz: pass one of them"
    )


# --- the split --------------------------------------------------------------------------------


def _split(table: Windows) -> Split:
    drifted = np.isin(table.subject, DRIFTED)
    first = np.zeros(drifted.size, np.bool_)
    for person in DRIFTED:
        rows = np.flatnonzero(table.subject == person)
        if rows.size == 0:
            raise DataError(
                f"subject {person} has no rows, expected the subjects "
                f"{', '.join(map(str, DRIFTED))} for fine-tuning and test: is the data whole?"
            )
        first[_first_of_each(table.y, rows)] = True
    masks = (~drifted, drifted & first, drifted & ~first)
    for mask, name in zip(masks, Split._fields, strict=True):
        if not mask.any():
            raise DataError(
                f"no rows are left for {name}, expected some in each part: is the data whole?"
            )
    return Split(
        *(
            LabelledSamples(table.x[mask], table.y[mask], table.class_names, table.feature_names)
            for mask in masks
        )
    )


def _first_of_each(y: NDArray[np.int64], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return those of a subject's ``rows`` that are the first 60 % of each activity.

    60 % is seldom a whole number. It is rounded for the activities 0..k together, which carries
    the fraction to the next activity: each gets its 60 % rounded up or down, and the subject the
    nearest number to 60 % of its rows. That makes 1,048 rows of the five subjects; to round each
    activity alone would make 1,046.
    """
    by_activity = rows[np.argsort(y[rows], kind="stable")]
    counts = np.bincount(y[rows].astype(np.intp), minlength=N_CLASSES)
    ends = np.cumsum(counts)
    taken = np.diff((3 * ends + 2) // 5, prepend=0)  # 3 / 5 of ends, to the nearest: never a tie
    place = np.arange(rows.size) - np.repeat(ends - counts, counts)
    return by_activity[place < np.repeat(taken, counts)]


# --- the original -----------------------------------------------------------------------------


def _root(folder: Traversable) -> Traversable | None:
    """Return ``folder``, or the original in it, whichever has one of the files."""
    for root in (folder, folder / FOLDER):
        if any((root / name).is_file() for name in FILES):
            return root
    return None


def _read_zip(path: Path) -> Windows:
    try:
        with zipfile.ZipFile(path) as outer:
            root, inner = _root(zipfile.Path(outer)), f"{FOLDER}.zip"
            if root is not None:
                return _read_original(root)
            if inner in outer.namelist():
                with zipfile.ZipFile(io.BytesIO(outer.read(inner))) as archive:
                    root = _root(zipfile.Path(archive))
                    if root is not None:
                        return _read_original(root)
    except Skip2LoraError:
        raise
    except _BAD_ZIP as error:
        raise DataError(
            f"the zip is damaged ({first_line(error)}), "
            f"expected {FOLDER}.zip: fetch or copy it again"
        ) from error
    raise DataError(
        f"the zip has no folder {FOLDER} and no zip of that name, expected one of them: "
        "pass the zip of the UCI Machine Learning Repository"
    )


def _read_original(root: Traversable) -> Windows:
    for name in FILES:
        if not (root / name).is_file():
            raise FileError(f"{name} is missing, expected the whole original: copy it again")
    features = _read_names(root, "features.txt", N_FEATURES)
    activities = _read_names(root, "activity_labels.txt", N_CLASSES)
    parts = [_read_part(root, "train", None), _read_part(root, "test", FROM_TEST)]
    x, y, subject = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Windows(x, y, subject, activities, _distinct(features))


def _read_part(root: Traversable, part: str, person: int | None) -> tuple[NDArray[Any], ...]:
    """Return x, y and subject of "train" or "test": all rows, or those of one subject."""
    y = _read_codes(root, f"{part}/y_{part}.txt", "an activity code of activity_labels", N_CLASSES)
    subject = _read_codes(root, f"{part}/subject_{part}.txt", "a subject", N_SUBJECTS)
    if y.size != subject.size:
        raise DataError(
            f"{part}/y_{part}.txt has {y.size} lines and {part}/subject_{part}.txt {subject.size}, "
            "expected one each a window: copy the data again"
        )
    keep = np.flatnonzero(subject == person) if person else np.arange(subject.size)
    x = _read_features(root, f"{part}/X_{part}.txt", keep, y.size)
    return x, y[keep] - 1, subject[keep]


def _read_features(
    root: Traversable, name: str, keep: NDArray[np.intp], n_lines: int
) -> NDArray[np.float32]:
    """Return the lines ``keep`` of an X file of ``n_lines`` lines, (len(keep), 561)."""
    x = np.empty((keep.size, N_FEATURES), np.float32)
    row_of = dict(zip(keep.tolist(), range(keep.size), strict=True))
    n_found = 0
    with np.errstate(over="ignore"), _open(root, name) as stream:
        for line in stream:
            row = row_of.get(n_found)
            n_found += 1
            if row is not None:
                x[row] = _parse_line(line, f"{name} line {n_found}")
    if n_found != n_lines:
        raise DataError(
            f"{name} has {n_found} lines, expected {n_lines} as in its y and subject files: "
            "copy the data again"
        )
    bad = first_not_finite(x)
    if bad is not None:
        _, row, column = bad
        raise DataError(
            f"{name} line {keep[row] + 1} column {column + 1} is NaN, infinite or too large, "
            "expected a finite float32 number: copy the data again"
        )
    return x


def _parse_line(line: bytes, place: str) -> list[float]:
    words = line.split()
    if len(words) != N_FEATURES:
        raise DataError(
            f"{place} has {len(words)} columns, expected {N_FEATURES}: copy the damaged file again"
        )
    try:
        return list(map(float, words))
    except ValueError:
        texts = [_text(word) for word in words]
        column = next(n for n, text in enumerate(texts) if number_or_none(text) is None)
        raise DataError(
            f"{place} column {column + 1} is {brief(texts[column])!r}, expected a number: copy "
            "the damaged file again"
        ) from None


def _read_codes(root: Traversable, name: str, what: str, top: int) -> NDArray[np.int64]:
    """Return the codes of a y or subject file, (lines,), each 1..``top``."""
    codes = []
    with _open(root, name) as stream:
        for number, line in enumerate(stream, 1):
            text = _text(line).strip()
            if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= top):
                raise DataError(
                    f"{name} line {number} is {brief(text)!r}, expected {what}, 1..{top}: "
                    "copy the damaged file again"
                )
            codes.append(int(text))
    return np.array(codes, np.int64)


def _read_names(root: Traversable, name: str, count: int) -> tuple[str, ...]:
    """Return the names of features.txt or activity_labels.txt: lines ``1 name``, ``2 name``, ..."""
    names = []
    with _open(root, name) as stream:
        for number, line in enumerate(stream, 1):
            words = _text(line).split()
            if len(words) != 2 or words[0] != str(number):
                raise DataError(
                    f"{name} line {number} is {brief(_text(line).strip())!r}, expected '{number} "
                    "NAME': copy the damaged file again"
                )
            names.append(words[1])
    if len(names) != count:
        raise DataError(
            f"{name} has {len(names)} lines, expected {count}: copy the damaged file again"
        )
    return tuple(names)


def _open(root: Traversable, name: str) -> io.BufferedReader:
    # A file in a zip hands out 4 KiB at a time, less than a line of 561 numbers.
    return io.BufferedReader(cast(io.RawIOBase, (root / name).open("rb")), 1 << 18)


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return feature names of which none is there twice.

    features.txt gives 42 names three times (its bands lack X, Y or Z): these get their number.
    """
    return tuple(
        name if names.count(name) == 1 else f"{number} {name}"
        for number, name in enumerate(names, 1)
    )


# --- the npz ----------------------------------------------------------------------------------


def _read_npz(path: Path) -> Windows:
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            names = () if isinstance(loaded, np.ndarray) else loaded.files
            arrays = {name: np.asarray(loaded[name]) for name in _ARRAYS if name in names}
    except (*_BAD_ZIP, *_BAD_HEADER) as error:
        raise DataError(
            f"it is damaged or no .npz ({first_line(error)}), expected plain arrays "
            f"{', '.join(_ARRAYS)}: copy it again"
        ) from error
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise DataError(
            f"the .npz has no array {missing[0]}, expected {', '.join(_ARRAYS)}: add it, "
            f"or pass the folder {FOLDER}"
        )
    n_samples = len(arrays["X"]) if arrays["X"].ndim else 0
    shapes = ((n_samples, N_FEATURES), (n_samples,), (n_samples,), (N_FEATURES,), (N_CLASSES,))
    for name, kinds, shape in zip(_ARRAYS, ("fiu", "iu", "iu", "U", "U"), shapes, strict=True):
        _check_array(arrays[name], name, kinds, shape)
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(arrays["X"], np.float32)
    bad = first_not_finite(x)
    if bad is not None:
        _, row, column = bad
        raise DataError(
            f"X has {x[row, column]} at row {row}, column {column} (from 0), expected finite "
            "float32 numbers: copy the file again"
        )
    return Windows(
        x=x,
        y=_whole(arrays["y"], "y", 0, N_CLASSES - 1),
        subject=_whole(arrays["subject"], "subject", 1, N_SUBJECTS),
        class_names=tuple(map(str, arrays["activity_names"])),
        feature_names=_distinct(tuple(map(str, arrays["feature_names"]))),
    )


def _check_array(array: NDArray[Any], name: str, kinds: str, shape: tuple[int, ...]) -> None:
    if array.dtype.kind not in kinds or array.shape != shape:
        kind = "text" if kinds == "U" else "whole numbers" if kinds == "iu" else "numbers"
        raise DataError(
            f"{name} is {array.dtype} of shape {array.shape}, expected {kind} of shape {shape}: "
            "write it again"
        )


def _whole(codes: NDArray[Any], name: str, low: int, high: int) -> NDArray[np.int64]:
    known = (codes >= low) & (codes <= high)
    if not known.all():
        row = int(np.argmin(known))
        raise DataError(
            f"{name} has {codes[row]} at row {row} (from 0), expected {low}..{high}: "
            "copy the file again"
        )
    return codes.astype(np.int64)
