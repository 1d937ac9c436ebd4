"""Streams of sensors as samples: each is a window of rows, labelled by column, folder or name.

Where numbers are learned, a window stands for one of a column.
Windows never go over a gap, nor from one stream to another; those of one group (a user, a file) are
kept together in held-out splits. Rows of another rate, or at uneven times, are resampled. Numbers
are put by as they are read, in a temporary file where there are many, and cut where they are
needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.data.file_folder import SENSORS, list_files, readable
from skip2lora.data.image_layout import Input
from skip2lora.data.lazy import LazySamples
from skip2lora.data.samples import Spans, Table
from skip2lora.data.sensor_clock import GAP, rate_of
from skip2lora.data.sensor_files import no_clock
from skip2lora.data.sensor_formats import open_stream
from skip2lora.data.sensor_options import MIXED, Form, Sensors, form_of
from skip2lora.data.sensor_streams import Run, Streams, group_names, majority
from skip2lora.data.sensor_targets import targets_of
from skip2lora.data.sensor_windows import SensorWindows
from skip2lora.errors import DataError
from skip2lora.tasks.columns import Wanted
from skip2lora.tasks.task import Answers

#: Called with the files read so far and their number.
Progress = Callable[[int, int], None]


def read_sensors(
    folder: Path,
    sensors: Sensors,
    inputs: Sequence[Input] | None,
    wanted: Wanted,
    progress: Progress | None = None,
) -> Table:
    """Windows of all streams of ``folder``, or of the file that it is.

    ``inputs`` are those of the model, None of a network that is yet to be made. ``progress`` is
    called for each file that was read.

    Raises:
        DataError: no streams, columns that are not there, times that cannot be used, or no windows.
        ParameterError: the model takes no such windows, or it is not clear which.
        MissingExtraError: what reads a file is not installed.
    """
    listed = list_files(folder, replace(wanted, labels_required=False, target=None), SENSORS)
    alone = listed.classes is None and sensors.label_by in (None, "column")
    alone |= sensors.target_of is not None
    asked = replace(wanted, labels_required=wanted.required and alone)
    strict = wanted.required and not sensors.loose
    read = _read(folder, listed.files, sensors, asked, strict, progress)
    streams = read.streams
    sensors = replace(read.sensors, rate=rate_of(read.sensors.rate, streams.clocks.values()))
    rows = sensors.rows("window", sensors.rate)
    runs = streams.runs()
    if rows is None and _are_samples(runs, inputs):
        rows = runs[0].last - runs[0].first
    form, rows = form_of(inputs, rows, streams.values.width, sensors.features or ())
    sensors = replace(
        sensors, window=rows, hop=sensors.rows("hop", sensors.rate) or rows,
        mixed=sensors.mixed or (MIXED[0] if sensors.target_of is None else None),
    )  # fmt: skip
    cut = _cut(streams, runs, sensors)
    notes = [*listed.notes, *read.notes, *cut.notes]
    if len(streams.clocks) < len(listed.files):
        notes += no_clock(sensors)
    if streams.n_gaps:
        notes.append(f"{streams.n_gaps} gaps, of over {GAP:g} steps, which no window goes over")
    if sensors.target_of is not None:
        numbers = None
        if read.target is not None:
            numbers = targets_of(streams, sensors, cut.first, cut.last, cut.start)
        return _table(read, cut, sensors, form, numbers, wanted, tuple(notes))
    by = _labelled_by(sensors, wanted, read, listed.classes)
    labels = None
    if by == "column":
        labels, stay = _of_column(cut, streams, sensors, wanted, notes)
        labels, cut = labels[stay], cut.of(stay)
    elif by is not None:
        of_files = listed.classes or [path.name.partition(".")[0] for path in listed.files]
        if by == "name":
            of_files = [path.name.partition(".")[0] for path in listed.files]
        labels = np.array(of_files, np.str_)[cut.file]
    return _table(read, cut, sensors, form, labels, wanted, tuple(notes))


@dataclass(frozen=True, eq=False)
class _Read:
    """What files hold; ``by_column`` and ``by_name`` say where they have labels."""

    streams: Streams
    sensors: Sensors
    names: list[str]
    notes: list[str]
    by_column: bool
    by_name: bool
    target: str | None = None


def _read(
    folder: Path, files: Sequence[Path], sensors: Sensors, wanted: Wanted, strict: bool,
    progress: Progress | None,
) -> _Read:  # fmt: skip
    root = folder if folder.is_dir() else folder.parent
    names = [readable(str(path.relative_to(root))) for path in files]
    streams: Streams | None = None
    notes: list[str] = []
    by_column, by_name, target = False, True, None
    for number, path in enumerate(files):
        try:
            with open_stream(path, sensors, wanted, strict=strict) as file:
                streams = streams or Streams(len(file.channels))
                sensors = replace(sensors, channels=file.channels)
                streams.add(number, file, sensors)
                by_column |= file.label is not None
                by_name &= file.by_name
                target = file.target
                if sensors.target_of is not None and wanted.required and target is None:
                    raise DataError(
                        "it has no column of numbers, expected a table with one: pass a .csv or "
                        ".parquet"
                    )
                notes += [note for note in file.notes if note not in notes]
        except UnicodeDecodeError as error:
            of = f"{names[number]}: " if folder.is_dir() else ""
            raise DataError(
                f"{of}its text is not UTF-8 ({error}), expected UTF-8: export it again"
            ) from error
        except DataError as error:
            of = f"{names[number]}: " if folder.is_dir() else ""
            raise DataError(f"{of}{error}") from error
        if progress is not None:
            progress(number + 1, len(files))
    if streams is None or not len(streams.values):
        raise DataError("it has no rows, expected streams of sensors: was it written whole?")
    return _Read(streams, sensors, names, notes, by_column, by_name, target)


def _are_samples(runs: Sequence[Run], inputs: Sequence[Input] | None) -> bool:
    """Whether streams are as long as each other, for a model that does not say how long."""
    says = inputs is not None and len(inputs) == 1 and None not in inputs[0].shape
    lengths = {run.last - run.first for run in runs}
    return not says and len(runs) > 1 and len(lengths) == 1


@dataclass(frozen=True, eq=False)
class _Cut:
    """Windows: their runs and files, rows ``first`` to ``last``, when they are resampled ``start``.

    ``spans`` are start and end, (windows, 2), in seconds or, without a clock, rows.
    """

    run: NDArray[np.intp]
    file: NDArray[np.intp]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    start: NDArray[np.float64]
    spans: NDArray[np.float64]
    runs: Sequence[Run]
    notes: tuple[str, ...]

    def of(self, stay: NDArray[np.bool_]) -> _Cut:
        """Some of them."""
        return _Cut(
            self.run[stay], self.file[stay], self.first[stay], self.last[stay], self.start[stay],
            self.spans[stay], self.runs, self.notes,
        )  # fmt: skip


def _cut(streams: Streams, runs: Sequence[Run], sensors: Sensors) -> _Cut:
    """The windows of all runs.

    Raises:
        DataError: none is as long as a window.
    """
    rows, hop = int(sensors.window or 0), int(sensors.hop or 1)
    parts, short, longest, resampled_files = [], 0, 0, set()
    for number, run in enumerate(runs):
        clock = streams.clocks.get(run.file)
        rate = sensors.rate if clock is not None and sensors.rate else None
        moved = clock is not None and rate is not None and not clock.same(rate)
        n_rows = run.last - run.first
        if moved and rate is not None:
            ends = streams.times_at(np.array([run.first, run.last - 1]))
            n_rows = int(np.floor((ends[1] - ends[0]) * rate + 1e-6)) + 1
            resampled_files.add(run.file)
        steps = np.arange(0, n_rows - rows + 1, hop, dtype=np.int64)
        short, longest = short + (not len(steps)), max(longest, n_rows)
        if moved and rate is not None:
            first, last, start = _moved(streams, run, ends[0] + steps / rate, rows, rate)
        else:
            first, start = run.first + steps, np.full(len(steps), np.nan)
            last = first + rows
        spans = _spans(streams, run, steps, first, start, sensors)
        parts.append((np.full(len(steps), number), first, last, start, spans))
    which, first, last, start, spans = map(np.concatenate, zip(*parts, strict=True))
    if not len(first):
        raise DataError(
            f"windows of {rows} rows are longer than its streams, of {longest} rows at most"
            + " between gaps" * bool(streams.n_gaps)
            + ", expected longer ones: lower window=, or sort the rows by what group= names"
        )
    notes = []
    if short:
        notes.append(f"{short} of {len(runs)} streams, shorter than a window of {rows} rows, left "
                     "out")  # fmt: skip
    if resampled_files:
        n_files = len(resampled_files)
        notes.append(f"resampled to {sensors.rate:g} Hz: {n_files} file{'s' * (n_files != 1)}")
    files = np.array([run.file for run in runs], np.intp)[which]
    return _Cut(which, files, first, last, start, spans, runs, tuple(notes))


def _moved(
    streams: Streams, run: Run, start: NDArray[np.float64], rows: int, rate: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows that windows at another rate are made of, with one beyond each end where there is."""
    end, half = start + (rows - 1) / rate, 0.5 / rate
    first = streams.place_of(run, start - half, after=True) - 1
    last = streams.place_of(run, end + half, after=False) + 1
    n_rows = run.last - run.first
    return run.first + np.maximum(first, 0), run.first + np.minimum(last, n_rows), start


def _spans(
    streams: Streams, run: Run, steps: NDArray[np.int64], first: NDArray[np.int64],
    start: NDArray[np.float64], sensors: Sensors,
) -> NDArray[np.float64]:  # fmt: skip
    """Start and end of windows: in the file's own time, or seconds or rows from its start."""
    rate = sensors.rate or 1.0
    if streams.clocks.get(run.file) is None:
        begin = (run.row + steps) / rate
    else:
        begin = np.where(np.isnan(start), streams.times_at(first), start)
    return np.stack([begin, begin + int(sensors.window or 0) / rate], axis=1)


def _labelled_by(
    sensors: Sensors, wanted: Wanted, read: _Read, classes: Sequence[str] | None
) -> str | None:
    """What says the classes; None where nothing does and nothing has to.

    Raises:
        DataError: nothing does and something has to, or both folders and a column do.
    """
    if wanted.no_target:
        return None
    there = {"column": read.by_column, "folder": classes is not None, "name": True}
    by = sensors.label_by
    if by is None and wanted.chosen is not None:
        by = "column"
    if by is None and there["column"] and there["folder"]:
        raise DataError(
            "it has labels in a column and in its sub-folders, expected one of them: say which "
            "with label_by=column or label_by=folder"
        )
    if by is None:
        by = next((name for name in ("column", "folder") if there[name]), None)
        by = "name" if by is None and read.by_name else by
    if by is None and not wanted.required:
        return None
    if by is None or not there[by]:
        got = "no labels" if by is None else f"none by {by}"
        raise DataError(
            f"it has {got}, expected a column of them, one sub-folder a class, or names of files "
            "such as walk.01.csv: name the column with target=, or say label_by=name"
        )
    return by


def _of_column(
    cut: _Cut, streams: Streams, sensors: Sensors, wanted: Wanted, notes: list[str]
) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """The label of most rows of each window, and which windows stay.

    Raises:
        DataError: windows are mixed, and that is to be refused.
    """
    codes, mixed = majority(streams.labels, cut.first, cut.last)
    count, n_windows = int(mixed.sum()), len(codes)
    names = [*streams.label_names, ""]
    rule = sensors.mixed if wanted.required else MIXED[0]  # each window is predicted
    if count and rule == "refuse":
        at = int(np.argmax(mixed))
        raise DataError(
            f"{count} of {n_windows} windows have several labels, the first of {_span(cut, at)}, "
            "expected one each: say mixed=majority, or mixed=drop to leave them out"
        )
    stay = np.ones(n_windows, bool)
    if count and rule == "drop":
        stay &= ~mixed
        notes.append(f"{count} of {n_windows} windows with several labels left out")
    elif count:
        notes.append(f"{count} of {n_windows} windows have several labels, that of most rows "
                     "counts")  # fmt: skip
    if wanted.required:
        unsure = stay & (codes < 0)
        if unsure.any():
            stay &= ~unsure
            notes.append(f"{int(unsure.sum())} of {n_windows} windows without one label of most "
                         "rows left out")  # fmt: skip
        if not stay.any():
            raise DataError(
                "no window has one label of most of its rows, expected some: correct the column, "
                "or window="
            )
    return np.array(names, np.str_)[codes], stay


def _span(cut: _Cut, at: int) -> str:
    first, last = cut.spans[at]
    return f"{first:.13g} to {last:.13g}"  # seconds since 1970, to the millisecond


def _table(
    read: _Read, cut: _Cut, sensors: Sensors, form: Form,
    labels: NDArray[Any] | None, wanted: Wanted, notes: tuple[str, ...],
) -> Table:  # fmt: skip
    names = np.array(read.names, np.str_)[cut.file]
    source = SensorWindows(read.streams, sensors, form, cut.first, cut.last, cut.start)
    groups = group_names(cut.runs, cut.run)
    if groups is None:
        groups = names if len(read.names) > 1 else cut.run.astype(np.str_)
    in_seconds = sensors.rate is not None
    return Table(
        LazySamples.of(source),
        Answers(
            labels, column_names=None if read.target is None else (read.target,),
            place=lambda row: f"{names[row]} at {_span(cut, row)}",
        ),
        columns=replace(wanted, aside={}).columns(None),
        aside={"group": groups} if len(set(groups.tolist())) > 1 else {}, notes=notes,
        files=tuple(names.tolist()), images=sensors,
        spans=Spans(cut.spans, "s" if in_seconds else "rows"),
    )  # fmt: skip


def describe_sensors(folder: Path) -> dict[str, Any]:
    """Numbers of streams, their channels, lengths and rates, and what was left out.

    Raises:
        DataError: as :func:`read_sensors`.
    """
    wanted = Wanted(labels_required=False, usual_split="train")
    listed = list_files(folder, wanted, SENSORS)
    try:
        read = _read(folder, listed.files, Sensors(), wanted, False, None)
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error
    lengths = [run.last - run.first for run in read.streams.runs()]
    clocks = [clock for clock in read.streams.clocks.values() if clock is not None]
    return {
        "kind": "streams of sensors",
        "n_files": len(read.names),
        "n_rows": len(read.streams.values),
        "channels": read.sensors.channels,
        "rates_hz": sorted({clock.rate for clock in clocks}),
        "n_streams": len(lengths),
        "shortest_rows": min(lengths),
        "longest_rows": max(lengths),
        "n_gaps": read.streams.n_gaps,
        "files_a_class": None if listed.classes is None else Counter(listed.classes),
        "notes": [*listed.notes, *read.notes] or None,
    }
