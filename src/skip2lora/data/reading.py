"""Read DATA (.npz, tables, a folder of images), checked; write samples.

A ``.npz`` holds arrays X (samples, features) and y, (samples,) or (samples, outputs), and may hold
class_names (or names), target_names and feature_names. X may have more axes, and without X several
arrays are a model's several inputs, under their names; whether they fit is for the model to check.
A table, ``.parquet`` or text (``.csv``, ``.tsv``, ``.txt``, packed with ``.gz`` or not, of whatever
delimiter: :mod:`skip2lora.data.text`), has one row a sample; its column of answers is called
"label", "y" or "target" unless told otherwise (there may be several), and every other column is a
number. Labels are 0, 1, ... or the names of classes; several labels are a column of 0 and 1 each. A
folder holds images, one sub-folder a class (:mod:`skip2lora.data.images`), or recordings
(:mod:`skip2lora.data.recordings`).

A row, wherever one is named, is counted from 0, as in NumPy, in pandas and in the column ``row`` of
predictions; of a text file the line is named too, counted from 1 as editors do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs, check_samples, first_not_finite, not_finite
from skip2lora.data.file_folder import KINDS, SENSORS, SOUNDS, kind_for
from skip2lora.data.image_layout import ANY_LAYOUT, Input, Layout, layout_of
from skip2lora.data.image_options import Images
from skip2lora.data.images import Progress, read_images
from skip2lora.data.lazy import Picked, read
from skip2lora.data.media import Media
from skip2lora.data.npz import read_npz
from skip2lora.data.parts import check_no_part
from skip2lora.data.recordings import read_recordings
from skip2lora.data.samples import Samples, Table
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sensors import read_sensors
from skip2lora.data.spooled import SpooledArray
from skip2lora.data.stored import StoredArray
from skip2lora.data.tables import read_csv, read_parquet
from skip2lora.data.weights import weighted
from skip2lora.errors import DataError, FileError, ParameterError, brief, first_line
from skip2lora.files import unreadable, write_file
from skip2lora.limits import check_file, is_folder
from skip2lora.tasks.columns import Wanted
from skip2lora.tasks.labels import encode
from skip2lora.tasks.targets import infer_task
from skip2lora.tasks.task import CLASSIFICATION, Outputs, Task

__all__ = ["check_samples", "read_samples", "write_samples"]


def read_samples(
    path: str | os.PathLike[str],
    *,
    task: Task | None = CLASSIFICATION,
    class_names: Sequence[str] | None = None,
    images: Media | None = None,
    layout: Layout | Sequence[Input] = ANY_LAYOUT,
    progress: Progress | None = None,
    called: str | None = None,
    **columns: Any,
) -> Samples:
    """Read a ``.npz`` or ``.parquet`` file, a table of text, or a folder of images.

    ``columns`` are fields of :class:`~skip2lora.tasks.columns.Wanted`: ``target`` names the column
    or array of answers, or several. ``task`` says what they mean, None that they tell it
    themselves. Text labels become numbers by their place in ``class_names``, or
    in the sorted names of the file when that is None; the labels of a file with class names of its
    own are renumbered to those of ``class_names``. Columns of several labels or numbers are put in
    the order of ``class_names``, which then name the outputs, where they have these names. ``y`` is
    None when the file has no answers, ``target`` is None and ``labels_required`` is False. Columns
    of features are in the order of those ``learned``.

    ``images`` says how images or recordings become numbers; ``layout`` is in which shape a model
    takes images, or the inputs of one that takes sound; ``progress`` is called with the files read
    so far and their number; ``called`` is what messages call the file.

    Raises:
        FileError: the file is missing or cannot be read.
        DataError: its content is not usable; the message gives the place.
        ParameterError: ``class_names`` has a name twice.
        MissingExtraError: ``.parquet`` without pyarrow, images without Pillow, recordings without
            soundfile.
    """
    known = None if class_names is None else tuple(class_names)
    table = read_table(
        path, task=task, class_names=known, images=images, layout=layout, progress=progress,
        called=called, **columns,
    )  # fmt: skip
    table = replace(table, x=read(table.x))
    feature_names = table.columns.features if isinstance(table.x, np.ndarray) else None
    answers = table.answers
    if answers.values is None:
        several = task is not None and task.numeric_targets
        names = answers.column_names if several else answers.class_names
        return Samples(
            table.x, None, known or names, feature_names, notes=table.notes,
            columns=table.columns, images=table.images,
        )  # fmt: skip
    if task is None:
        task = infer_task(answers.values)
    if known is None or task.numeric_targets:
        outputs = Outputs(names=known)
    else:
        outputs = Outputs(range(len(known)), known)
    encoded = encode(task, answers, len(table.x), outputs)
    y = encoded.y.astype(np.int64) if encoded.y.ndim == 1 else encoded.y
    names, is_sorted = encoded.outputs.names, encoded.names_sorted
    notes = table.notes
    if is_sorted and names is not None and all(map(str.isdecimal, names)):
        notes += (
            f"{called or path}: its labels, such as {brief(names[0])}, are taken as names of "
            "classes",
        )
    return Samples(
        table.x, y, names, feature_names, is_sorted, notes, table.columns,
        table.aside.get("weight"), table.images,
    )  # fmt: skip


def read_table(
    path: str | os.PathLike[str],
    *,
    task: Task | None = CLASSIFICATION,
    class_names: Sequence[str] | None = None,
    images: Media | None = None,
    layout: Layout | Sequence[Input] = ANY_LAYOUT,
    progress: Progress | None = None,
    called: str | None = None,
    **columns: Any,
) -> Table:
    """Read as :func:`read_samples` does, with the answers as the file says them.

    Images are looked at, and read where they are needed (:mod:`skip2lora.data.lazy`).
    ``class_names`` are columns to look for where ``task`` has several; ``called`` is what messages
    call the file.

    Raises:
        FileError, DataError, ParameterError, MissingExtraError: as :func:`read_samples`.
    """
    source = Path(path)
    name = called or str(source)
    known = None if class_names is None else tuple(class_names)
    if known is not None and len(set(known)) != len(known):
        raise ParameterError(f"class_names is {known}, expected distinct names: correct them")
    reader, is_there = _reader_of(source, images), is_folder(source)
    outputs = known if task is None or task.numeric_targets else None
    wanted = Wanted(**columns, outputs=outputs)
    n_bytes = 0
    if reader is not None or not is_there:
        n_bytes = check_file(source, "data", whole=reader is None)
    if not (reader or is_there or _reader_of(source) or any(k.holds(source) for k in KINDS)):
        raise DataError(
            f'cannot read {name}: got suffix "{source.suffix}", expected .npz, .csv, .tsv, '
            ".parquet, an image, a recording or a folder of them: convert the file"
        )
    if reader is not None and images is not None and images.asked:
        raise ParameterError(
            f"{images.options} are given for {name}, expected a folder of {images.files} for them: "
            "leave them out"
        )
    if reader is None:
        _check_no_columns(source, name, wanted, images, task)
    try:
        if reader is None:
            table = _read_folder(source, images, layout, wanted, progress)
        else:
            if n_bytes == 0:
                raise DataError("the file is empty (0 bytes), expected samples: write it again")
            if wanted.split is not None and reader is not read_npz:
                check_no_part(wanted)
            table = _checked(reader(source, wanted))
    except DataError as error:
        # A quoted cell of a .csv may hold line breaks.
        message = " ".join(f"{name}: {error}".splitlines())
        raise DataError(message) from error.__cause__
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: its text is not UTF-8 ({error}), expected UTF-8: export it again"
        ) from error
    except FileError:
        raise
    except OSError as error:
        raise unreadable(source, error) from error
    except MemoryError as error:
        raise FileError(
            f"{name} does not fit into memory ({first_line(error)}), expected less: read a part "
            "of it"
        ) from error
    answers = replace(table.answers, source=name, chosen=wanted.target is not None)
    return replace(table, answers=answers, notes=tuple(f"{name}: {note}" for note in table.notes))


def _read_folder(
    folder: Path,
    media: Media | None,
    layout: Layout | Sequence[Input],
    wanted: Wanted,
    progress: Progress | None,
) -> Table:
    """A folder, or one file, of images, recordings or streams of sensors.

    Raises:
        ParameterError: options for the one are given for the other.
    """
    kind = kind_for(None if isinstance(media, Images) else media, folder)
    if media is not None and media.asked and not isinstance(media, kind.media):
        raise ParameterError(
            f"{media.options} are given for {folder}, expected a folder of {media.files} for them: "
            "leave them out"
        )
    if kind is SOUNDS and isinstance(layout, Layout):
        raise ParameterError(
            f"{folder} holds recordings, expected a model that takes sound for them: adapt one"
        )
    asked: Any = media if isinstance(media, kind.media) else kind.media()
    inputs = None if isinstance(layout, Layout) else layout
    if kind is SENSORS:
        return read_sensors(folder, asked, inputs, wanted, progress)
    if kind is SOUNDS:
        return read_recordings(folder, asked, inputs or (), wanted, progress)
    flat = layout if isinstance(layout, Layout) else layout_of(layout)
    return read_images(folder, asked, flat, wanted, progress)


def _check_no_columns(
    folder: Path, name: str, wanted: Wanted, media: Media | None, task: Task | None
) -> None:
    """Raise DataError where columns of images are asked for, or those beside a window.

    Also where windows are to have several labels, or numbers and nothing says which.
    """
    if task is not None and kind_for(media, folder) is SENSORS:
        _check_target_of(name, media, task, wanted)
    for keyword, column in wanted.aside.items():
        many = kind_for(media, folder).many
        raise DataError(
            f'{keyword}= names "{column}", {name} has {many} and no columns of samples, expected a '
            f"table or .npz: leave {keyword}= out"
        )


def _check_target_of(name: str, media: Media | None, task: Task, wanted: Wanted) -> None:
    """Raise DataError where a window of a stream cannot have what is learned."""
    target_of = media.target_of if isinstance(media, Sensors) else None
    if task.name == "multi-label" and wanted.required:
        raise DataError(
            f"{name} is of windows, which have the class of most of their rows, expected classes: "
            "pass windows with several labels as an .npz"
        )
    if task.name == "regression" and target_of is None and wanted.required:
        raise DataError(
            f"{name} is of windows, each of many rows with a number, expected what one stands for: "
            "add target_of=mean, or target_of=last for that of its last row"
        )
    if task.name != "regression" and target_of is not None:
        raise DataError(
            f"target_of= is {target_of}, the answers of {name} are classes, expected numbers for "
            "it: add task=regression, or leave target_of= out"
        )


def _checked(table: Table) -> Table:
    """A table whose parts fit together, without rows of weight 0."""
    labels = table.answers.values
    if labels is not None and labels.shape[:1] != (len(table.x),):
        raise DataError(
            f"the labels have shape {labels.shape}, X has {len(table.x)} samples, "
            "expected an answer a sample: was it written whole?"
        )
    for keyword, values in table.aside.items():
        if values.shape not in [(len(table.x),), (len(table.x), 1)]:
            raise DataError(
                f"{keyword}= names an array of shape {values.shape}, X has {len(table.x)} samples, "
                f"expected a value a sample: correct {keyword}="
            )
    if isinstance(table.x, Inputs):
        for name, array in table.x.arrays.items():
            _check_array(array, f"{name}: ", table)
    elif isinstance(table.x, np.ndarray):
        _check_array(table.x, "", table)
    elif isinstance(table.x.source, Picked | SpooledArray | StoredArray):
        _refuse(table.x.source.bad, "", table)
    return weighted(table) if "weight" in table.aside else table


def _check_array(x: NDArray[Any], name: str, table: Table) -> None:
    """Something in it, all of it finite; whether the shape fits is for the model to say."""
    if x.size == 0:
        shape = f"shape {x.shape}"
        got = f"{x.shape[0]} samples and {x.shape[1]} features" if x.ndim == 2 else shape
        raise DataError(f"{name}it has {got}, expected at least one of each: was it written whole?")
    if x.dtype != np.float32:
        return  # whole numbers
    with np.errstate(invalid="ignore"):
        total = x.sum(dtype=np.float64)  # which finite float32 cannot make infinite
    if np.isfinite(total):
        return
    _refuse(first_not_finite(x.reshape(len(x), -1)), name, table)


def _refuse(bad: tuple[int, int, int] | None, name: str, table: Table) -> None:
    """Raise DataError for values that are not finite: how many, and which sample and column."""
    if bad is not None:
        count, row, column = bad
        is_table = not isinstance(table.x, Inputs) and len(table.x.shape) == 2
        names = table.columns.features if is_table else None
        of = column if names is None else f'"{names[column]}"'
        raise DataError(
            f"{name}{not_finite(count)}{table.answers.place(row)}, column {of}, expected finite "
            "float32 numbers: remove or replace them"
        )


_READERS = {
    ".npz": read_npz, ".csv": read_csv, ".tsv": read_csv, ".txt": read_csv, ".parquet": read_parquet
}  # fmt: skip


def _reader_of(path: Path, media: Media | None = None) -> Callable[[Path, Wanted], Table] | None:
    """What reads a file of that name; pandas calls a ``.parquet`` packed inside ``.parquet.gz``.

    None of a table whose rows are moments of a stream.
    """
    packed = path.suffix.lower() in (".gz", ".gzip")
    reader = _READERS.get((path.with_suffix("") if packed else path).suffix.lower())
    of_rows = isinstance(media, Sensors) and reader is not read_npz
    return None if of_rows or (packed and reader is read_npz) else reader


def is_data(path: Path) -> bool:
    """Whether a file is one of samples, as far as its name tells."""
    return _reader_of(path) is not None


def write_samples(path: str | os.PathLike[str], samples: Samples) -> None:
    """Write samples as an uncompressed ``.npz`` that :func:`read_samples` reads back equal.

    Raises:
        ParameterError: ``path`` does not end in ``.npz``.
        FileError: the system refused; ``path`` is as it was.
    """
    if Path(path).suffix.lower() != ".npz":
        raise ParameterError(f"got output {path}, expected a name that ends in .npz: rename it")
    write_file(path, samples_writer(samples))


def samples_writer(samples: Samples) -> Callable[[Path], None]:
    """What writes them as :func:`write_samples` does, to a path of any name."""
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

    return write
