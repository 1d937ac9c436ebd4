"""Read DATA (.npz, .csv, .parquet, a folder of images), checked; write samples and predictions.

A ``.npz`` holds arrays X (samples, features) and y, (samples,) or (samples, outputs), and may hold
class_names (or names), target_names and feature_names. X may have more axes, and without X several
arrays are a model's several inputs, under their names; whether they fit is for the model to check.
A ``.csv`` or ``.parquet`` table has one row a sample; its column of answers is called "label", "y"
or "target" unless told otherwise (there may be several), and every other column is a number. Labels
are 0, 1, ... or the names of classes; several labels are a column of 0 and 1 each. A folder holds
images, one sub-folder a class (:mod:`skip2lora.data.images`).

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

from skip2lora.arrays import Inputs, check_samples, first_not_finite, listing
from skip2lora.data.columns import USUAL_NAMES, Wanted, guessed, matched, number_targets
from skip2lora.data.image_layout import ANY_LAYOUT, Layout
from skip2lora.data.image_options import Images
from skip2lora.data.images import Progress, read_images
from skip2lora.data.npz import read_npz
from skip2lora.data.samples import Samples, Table, number_labels
from skip2lora.data.tables import read_csv, read_parquet
from skip2lora.errors import DataError, FileError, ParameterError
from skip2lora.files import write_file
from skip2lora.tasks.task import CLASSIFICATION, TASKS, Task, chances, decided

__all__ = ["check_samples", "read_samples", "write_predictions", "write_samples"]


def read_samples(
    path: str | os.PathLike[str],
    *,
    target: str | Sequence[str] | None = None,
    task: Task | None = CLASSIFICATION,
    class_names: Sequence[str] | None = None,
    labels_required: bool = True,
    images: Images | None = None,
    layout: Layout = ANY_LAYOUT,
    progress: Progress | None = None,
) -> Samples:
    """Read a ``.npz``, ``.csv`` or ``.parquet`` file, or a folder of images.

    ``target`` names the column or array of answers, or several; ``task`` says what they mean, None
    that they tell it themselves. Text labels become numbers by their place in ``class_names``, or
    in the sorted names of the file when that is None; the labels of a file with class names of its
    own are renumbered to those of ``class_names``. Columns of several labels or numbers are put in
    the order of ``class_names``, which then name the outputs, where they have these names. ``y`` is
    None when the file has no answers, ``target`` is None and ``labels_required`` is False.

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
    asked = (target,) if isinstance(target, str) else target
    columns = task is None or task.targets
    wanted = Wanted(
        None if asked is None else tuple(asked),
        known if columns else None,
        labels_required or asked is not None,
    )
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
            table = read_images(source, images or Images(), layout, wanted.required, progress)
        else:
            if source.stat().st_size == 0:
                raise DataError("the file is empty (0 bytes), expected samples: write it again")
            table = reader(source, wanted)
            _check_table(table)
        found = task
        if task is None:
            found = CLASSIFICATION if table.labels is None else guessed(table.labels)
        return _answered(table, found or CLASSIFICATION, known, asked=asked is not None)


def _answered(table: Table, task: Task, known: tuple[str, ...] | None, *, asked: bool) -> Samples:
    """The table with its answers as numbers."""
    if not task.targets:
        if table.labels is not None and table.labels.ndim > 1:
            raise DataError(
                f"its answers have shape {table.labels.shape}, expected one label a sample: "
                "several labels and numbers are learned with skip2lora adapt --task multi-label or "
                "regression"
            )
        guess = table.class_names is None and known is None
        y, names = number_labels(
            table.labels, own=table.class_names, known=known, place=table.place
        )
        return Samples(table.x, y, names, table.feature_names, guess and names is not None)
    names = table.target_names
    if names is not None and len(names) == 1 and names[0] in USUAL_NAMES:
        names = None
    if names is None and task is TASKS["multi-label"]:
        names = table.class_names
    if table.labels is None:
        return Samples(table.x, None, known or names, table.feature_names)
    values = number_targets(task, table.labels, table.target_names, table.place)
    if names is not None and len(names) != values.shape[1]:
        raise DataError(
            f"y has {values.shape[1]} columns and there are {len(names)} names ({listing(names)}), "
            "expected one a column: write them again"
        )
    values, names = matched(values, names, known, asked=asked)
    return Samples(table.x, values, names, table.feature_names)


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
    if table.labels is not None and table.labels.shape[:1] != (len(table.x),):
        raise DataError(
            f"the labels have shape {table.labels.shape}, X has {len(table.x)} samples, "
            "expected an answer a sample: was it written whole?"
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


_READERS = {".npz": read_npz, ".csv": read_csv, ".parquet": read_parquet}


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
        several = samples.y is not None and samples.y.ndim > 1
        arrays["target_names" if several else "class_names"] = np.array(
            samples.class_names, np.str_
        )
    if samples.feature_names is not None:
        arrays["feature_names"] = np.array(samples.feature_names, np.str_)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:  # a stream, as np.savez would add to a name
            np.savez(stream, allow_pickle=False, **arrays)

    write_file(path, write)


def write_predictions(
    path: str | os.PathLike[str],
    task: Task,
    outputs: NDArray[np.floating[Any]],
    names: Sequence[str] | None = None,
) -> None:
    """Write a ``.csv`` with one row a sample, made from ``outputs``, (samples, n_outputs).

    Its columns are row (from 0), then of classes prediction, name if known, and p_CLASS for each;
    of several labels prediction, their names or numbers with ``;`` between, and p_CLASS for each;
    of numbers each output under its name, or prediction (prediction_0, ... of several) without.

    Raises:
        ParameterError: ``names`` does not name each output once.
        FileError: the system refused; ``path`` is as it was.
    """
    n_outputs = outputs.shape[1]
    if names is not None and len(names) != n_outputs:
        raise ParameterError(
            f"got {len(names)} class names for {n_outputs} outputs: pass one an output"
        )
    header, rows = _prediction_table(task, outputs, names)

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["row", *header])
            writer.writerows([number, *cells] for number, cells in enumerate(rows))

    write_file(path, write)


def _prediction_table(
    task: Task, outputs: NDArray[np.floating[Any]], names: Sequence[str] | None
) -> tuple[list[str], Iterator[list[Any]]]:
    """Names of the columns behind the first, and their cells."""
    titles = list(names) if names is not None else [str(at) for at in range(outputs.shape[1])]
    made, shares = decided(task, outputs), chances(task, outputs)
    if shares is None:
        if names is None:
            titles = [f"prediction_{at}" for at in titles] if len(titles) > 1 else ["prediction"]
        return titles, ([*map(str, row)] for row in made)
    of_classes = [f"p_{title}" for title in titles]
    if task.targets:
        sets = (";".join(titles[at] for at in np.flatnonzero(row)) for row in made)
        return ["prediction", *of_classes], (
            [said, *map(str, row)] for said, row in zip(sets, shares, strict=True)
        )
    named = [] if names is None else ["name"]
    return ["prediction", *named, *of_classes], (
        [int(label), *([titles[label]] if named else []), *map(str, row)]
        for label, row in zip(made, shares, strict=True)
    )
