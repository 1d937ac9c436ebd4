"""Read DATA (.npz, .csv, .parquet, a folder of images), checked; write samples and predictions.

A ``.npz`` holds arrays X (samples, features) and y (samples,), and may hold class_names (or names)
and feature_names. X may have more axes, and without X several arrays are a model's several inputs,
under their names; whether they fit is for the model to check. A ``.csv`` or ``.parquet`` table has
one row a sample; its label column is called "label" or "y" unless told otherwise, and every other
column is a number. Labels are 0, 1, ... or the names of classes. A folder holds images, one
sub-folder a class (:mod:`skip2lora.images`).

Rows of a table count from 1 in messages, as in a spreadsheet; those of an array count from 0.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import DataError, FileError, MissingExtraError, ParameterError
from skip2lora.files import write_file
from skip2lora.images import Images, Progress, read_images
from skip2lora.inputs import Inputs
from skip2lora.layouts import ANY_LAYOUT, Layout
from skip2lora.npz import read_npz
from skip2lora.samples import (
    Samples,
    Table,
    as_float32,
    check_samples,
    first_not_finite,
    listing,
    number_labels,
    number_or_none,
)

__all__ = ["check_samples", "read_samples", "write_predictions", "write_samples"]

_LABEL_NAMES = ("label", "y")


def read_samples(
    path: str | os.PathLike[str],
    *,
    label: str | None = None,
    class_names: Sequence[str] | None = None,
    labels_required: bool = True,
    images: Images | None = None,
    layout: Layout = ANY_LAYOUT,
    progress: Progress | None = None,
) -> Samples:
    """Read a ``.npz``, ``.csv`` or ``.parquet`` file, or a folder of images.

    ``label`` names the label column or array. Text labels become numbers by their place in
    ``class_names``, or in the sorted names of the file when that is None; the labels of a file
    with class names of its own are renumbered to those of ``class_names``. ``y`` is None when the
    file has no labels, ``label`` is None and ``labels_required`` is False.

    ``images`` says how images become numbers, ``layout`` in which shape a model takes them;
    ``progress`` is called with the images read so far and their number.

    Raises:
        FileError: the file is missing or cannot be read.
        DataError: its content is not usable; the message gives the place.
        ParameterError: ``class_names`` has a name twice.
        MissingExtraError: ``.parquet`` without pyarrow, images without Pillow.
    """
    source = Path(path)
    known = None if class_names is None else tuple(class_names)
    if known is not None and len(set(known)) != len(known):
        raise ParameterError(f"class_names has a name twice, expected distinct names: {known}")
    reader = _READERS.get(source.suffix.lower())
    required = labels_required or label is not None
    if reader is None and not source.is_dir():
        raise DataError(
            f'cannot read {source}: got suffix "{source.suffix}", expected .npz, .csv, .parquet or '
            "a folder of images: convert the file"
        )
    if reader is not None and images is not None and images.asked:
        raise ParameterError(
            f"size, mean or std are given for {source}, expected a folder of images for them: "
            "leave them out"
        )
    with _naming(source):
        if reader is None:
            table = read_images(source, images or Images(), layout, required, progress)
        else:
            if source.stat().st_size == 0:
                raise DataError("the file is empty (0 bytes), expected samples: write it again")
            table = reader(source, label, required)
            _check_table(table)
        y, names = number_labels(
            table.labels, own=table.class_names, known=known, place=table.place
        )
    return Samples(table.x, y, names, table.feature_names)


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Name the file in every error raised inside."""
    try:
        yield
    except DataError as error:
        # A quoted cell of a .csv may hold line breaks.
        message = " ".join(f"{source}: {error}".splitlines())
        raise DataError(message) from error.__cause__
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source}: its text is not UTF-8 ({error}), expected UTF-8: export it again"
        ) from error
    except OSError as error:
        raise FileError(
            f"cannot read {source}: {error.strerror or error}: "
            "expected a readable file, check the path"
        ) from error


def _check_table(table: Table) -> None:
    if table.labels is not None and table.labels.shape != (len(table.x),):
        raise DataError(
            f"the labels have shape {table.labels.shape}, X has {len(table.x)} samples, "
            "expected one label a sample: was it written whole?"
        )
    if isinstance(table.x, Inputs):
        for name, array in table.x.arrays.items():
            _check_array(array, f"{name}: ", table)
    else:
        _check_array(table.x, "", table)


def _check_array(x: NDArray[Any], name: str, table: Table) -> None:
    """Something in it, all of it finite; whether the shape fits is for the model to say."""
    if x.size == 0:
        shape = f"shape {x.shape}"
        got = f"{x.shape[0]} samples and {x.shape[1]} features" if x.ndim == 2 else shape
        raise DataError(f"{name}it has {got}, expected at least one of each: was it written whole?")
    if x.dtype != np.float32:
        return  # whole numbers
    bad = first_not_finite(x.reshape(len(x), -1))
    if bad is not None:
        count, row, column = bad
        of = column if table.feature_names is None else f'"{table.feature_names[column]}"'
        raise DataError(
            f"{name}{count} values are NaN, infinite or too large, the first in "
            f"{table.place(row)}, column {of}, expected finite float32 numbers: remove or replace "
            "them"
        )


def _label_column(columns: Sequence[str], label: str | None, required: bool) -> int | None:
    """Return the place of the label column, after a check that columns have distinct names."""
    seen: set[str] = set()
    for number, name in enumerate(columns):
        if not name.strip():
            raise DataError(
                f"column {number + 1} has no name, expected a name for each column: "
                "name it, or remove it if it is an index"
            )
        if name in seen:
            raise DataError(f'column "{name}" is there twice, expected once: rename one')
        seen.add(name)
    for candidate in _LABEL_NAMES if label is None else (label,):
        if candidate in columns:
            return columns.index(candidate)
    if not required:
        return None
    wanted = '"label" or "y"' if label is None else f'"{label}"'
    raise DataError(
        f"it has columns {listing(columns)}, expected one called {wanted} with the labels: "
        "say which one holds them with --label"
    )


def _read_csv(source: Path, label: str | None, required: bool) -> Table:
    rows: list[NDArray[np.float32]] = []
    labels: list[str] = []
    lines: list[int] = []
    try:
        with source.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            columns = _csv_header(next(reader, []))
            at = _label_column(columns, label, required)
            features = [name for number, name in enumerate(columns) if number != at]
            for cells in reader:
                if not cells:
                    continue  # a blank line, often the last
                lines.append(reader.line_num)
                place = f"row {len(lines)} (line {reader.line_num})"
                if len(cells) != len(columns):
                    raise DataError(
                        f"{place} has {len(cells)} cells, expected {len(columns)} as in the "
                        "header: correct the row"
                    )
                if at is not None:
                    labels.append(_filled(cells.pop(at).strip(), place, columns[at]))
                rows.append(_numbers(cells, place, features))
    except csv.Error as error:
        raise DataError(
            f"it is damaged or no .csv ({error}), expected comma-separated text: export it again"
        ) from error
    return Table(
        x=np.array(rows, np.float32).reshape(len(rows), len(features)),
        labels=None if at is None else np.array(labels, np.str_),
        class_names=None,
        feature_names=tuple(features),
        place=lambda row: f"row {row + 1} (line {lines[row]})",
    )


def _csv_header(cells: list[str]) -> list[str]:
    columns = [cell.strip() for cell in cells]
    # pandas calls columns without names 0, 1, 2, ...: a header, unlike any other row of numbers.
    counted = columns == [str(number) for number in range(len(columns))]
    if not columns or (not counted and None not in map(number_or_none, columns)):
        got = "is blank" if not columns else "holds only numbers"
        raise DataError(f"line 1 {got}, expected the column names: add a header row")
    return columns


def _numbers(cells: list[str], place: str, columns: list[str]) -> NDArray[np.float32]:
    try:
        return as_float32(np.array([float(cell) for cell in cells], np.float64))
    except ValueError:
        for cell, column in zip(cells, columns, strict=True):
            if number_or_none(_filled(cell, place, column)) is None:
                raise DataError(
                    f'{place} column "{column}" has "{cell[:40]}", expected a number: correct it, '
                    "or name the label column with --label"
                ) from None
        raise


def _filled(cell: str, place: str, column: str) -> str:
    if not cell.strip():
        raise DataError(f'{place} column "{column}" is empty, expected a value: fill the cell')
    return cell


def _read_parquet(source: Path, label: str | None, required: bool) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            f"reading {source} needs pyarrow: pip install 'skip2lora[parquet]', or use .npz or .csv"
        ) from error
    try:
        # ParquetFile, unlike read_table, adds no columns guessed from folder names.
        with pyarrow.parquet.ParquetFile(source) as file:
            table = file.read()
    except (pyarrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # the system's word, not pyarrow's
            raise
        reason = str(error).split("\n")[0]
        raise DataError(
            f"it is damaged or no .parquet ({reason}), expected a whole file: write it again"
        ) from error
    columns = list(table.column_names)
    at = _label_column(columns, label, required)
    features = [name for number, name in enumerate(columns) if number != at]
    for name in columns:
        if table[name].null_count:
            row = table[name].to_pylist().index(None) + 1
            _filled("", f"row {row}", name)
    x = np.empty((table.num_rows, len(features)), np.float32)
    for number, name in enumerate(features):
        kind = table.schema.field(name).type
        values = table[name].to_numpy()
        if values.dtype.kind not in "fiub":
            raise DataError(
                f'column "{name}" is {kind}, expected numbers: convert or remove it, '
                "or name the label column with --label"
            )
        x[:, number] = as_float32(values)
    return Table(
        x=x,
        labels=None if at is None else np.array(table[columns[at]].to_pylist()),
        class_names=None,
        feature_names=tuple(features),
        place=lambda row: f"row {row + 1}",
    )


_READERS = {".npz": read_npz, ".csv": _read_csv, ".parquet": _read_parquet}


def write_samples(path: str | os.PathLike[str], samples: Samples) -> None:
    """Write samples as an uncompressed ``.npz`` that :func:`read_samples` reads back equal.

    Raises:
        ParameterError: ``path`` does not end in ``.npz``.
        FileError: the system refused; ``path`` is as it was.
    """
    if Path(path).suffix.lower() != ".npz":
        raise ParameterError(f"got output {path}, expected a name that ends in .npz: rename it")
    arrays: dict[str, NDArray[Any]] = {"X": samples.x}
    if samples.y is not None:
        arrays["y"] = samples.y
    if samples.class_names is not None:
        arrays["class_names"] = np.array(samples.class_names, np.str_)
    if samples.feature_names is not None:
        arrays["feature_names"] = np.array(samples.feature_names, np.str_)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:  # a stream, as np.savez would add to a name
            np.savez(stream, allow_pickle=False, **arrays)

    write_file(path, write)


def write_predictions(
    path: str | os.PathLike[str],
    predictions: NDArray[np.integer[Any]],
    probabilities: NDArray[np.floating[Any]],
    class_names: Sequence[str] | None = None,
) -> None:
    """Write a ``.csv`` with columns row (from 0), prediction, name if known, and p_CLASS for each.

    ``predictions`` is (samples,), ``probabilities`` (samples, classes).

    Raises:
        ParameterError: ``class_names`` does not name each class once.
        FileError: the system refused; ``path`` is as it was.
    """
    n_classes = probabilities.shape[1]
    if class_names is not None and len(class_names) != n_classes:
        raise ParameterError(
            f"got {len(class_names)} class names for {n_classes} classes: pass one a class"
        )
    titles = [str(number) for number in range(n_classes)] if class_names is None else class_names
    named = [] if class_names is None else ["name"]

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["row", "prediction", *named, *(f"p_{title}" for title in titles)])
            for row, (label, chances) in enumerate(zip(predictions, probabilities, strict=True)):
                name = [] if class_names is None else [class_names[int(label)]]
                writer.writerow([row, int(label), *name, *map(str, chances)])

    write_file(path, write)
