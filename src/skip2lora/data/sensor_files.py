"""Files of sensor streams: which columns are what, and rows as they come, a part at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import as_float32, first_not_finite, listing, not_finite
from skip2lora.data.lazy import read
from skip2lora.data.sensor_options import NO_TIME, Sensors
from skip2lora.data.text import TextTable, open_table
from skip2lora.errors import DataError, MissingExtraError, brief, first_line
from skip2lora.tasks.columns import Columns, Wanted

#: Rows of text, and of ``.parquet``, in memory at a time.
_ROWS, _ROWS_OF_PARQUET = 1 << 12, 1 << 16
#: What a column of times is called where none is named.
_USUAL_TIMES = ("timestamp", "time", "datetime", "date")
#: Seconds of a unit, as ``time`` says it behind a colon and names of columns at their end.
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
#: What else may help where a column is not there.
_ELSE = {
    "time": ", or time=none for even rows",
    "channels": ", or pass samples that are no stream as an .npz",
}
_EPOCH = {"s": 1e9, "ms": 1e12, "us": 1e15, "ns": 1e18}  # of numbers since 1970, the least


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of a stream: ``values`` (rows, channels), ``times``, ``labels``, ``targets`` (rows,).

    ``times`` are numbers as the file has them, dates in seconds since 1970; ``groups`` (rows,
    groups) tell streams apart. With ``ends`` the next part is of another stream.
    """

    values: NDArray[np.float32]
    times: NDArray[np.float64] | None = None
    labels: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    ends: bool = False
    targets: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class SensorFile:
    """A file that is open: its ``channels``, and what of it is time, label, group and target.

    ``by_name`` says that the label stands in its name, as its kind has it; ``target`` is the column
    of numbers to learn.
    """

    channels: tuple[str, ...]
    parts: Iterator[Part]
    time: str | None = None
    label: str | None = None
    groups: tuple[str, ...] = ()
    by_name: bool = False
    notes: tuple[str, ...] = ()
    target: str | None = None


@dataclass(frozen=True)
class Roles:
    """Places of columns: ``channels`` in the order of a sample, and what stands beside them."""

    channels: tuple[int, ...]
    time: int | None
    label: int | None
    groups: tuple[int, ...]
    target: int | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """Channels, and the target behind them if it is there."""
        return self.channels if self.target is None else (*self.channels, self.target)

    @property
    def beside(self) -> list[int]:
        """Label, time and groups, those that are there."""
        return [*(at for at in (self.label, self.time) if at is not None), *self.groups]


def time_name(said: str | None) -> tuple[str | None, str | None]:
    """The column of times and its unit, as ``time`` says them: t, or t:ms."""
    if said is None or said == NO_TIME:
        return None, None
    name, colon, unit = said.rpartition(":")
    return (name, unit) if colon and unit in UNITS else (said, None)


def roles_of(names: Sequence[str], sensors: Sensors, wanted: Wanted, strict: bool) -> Roles:
    """Which column is what; without ``strict`` groups may be missing.

    Raises:
        DataError: one that is named is not there, or there are two clocks and none is named.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not all(name.strip() for name in names):
        got = f"two columns {twice[0]}" if twice else "a column without a name"
        raise DataError(f"it has {got}, expected a name of its own for each: rename them")
    time, groups = time_name(sensors.time)[0], sensors.group or ()
    if not strict:  # whatever stream it is, it is predicted
        groups = tuple(name for name in groups if name in names)
    wanted_names = (("time", (time,) if time else ()), ("group", groups))
    for keyword, asked in (*wanted_names, ("channels", sensors.channels or ())):
        for name in asked:
            if name not in names:
                raise DataError(
                    f'{keyword}= names "{name}", it has columns {listing(names)}, expected one of '
                    f"them: correct {keyword}=" + _ELSE.get(keyword, "")
                )
    if time is None and sensors.time != NO_TIME:
        time = _usual_time(names, sensors)
    aside = [*groups, *([] if time is None else [time])]
    known = Columns(sensors.channels, wanted.learned.ignored, wanted.learned.target)
    ignore = [name for name in (*wanted.ignore, *aside) if name in names]
    answers = replace(wanted, learned=known, ignore=tuple(ignore), aside={}).answers(names)
    if len(answers) > 1:
        raise DataError(
            f"target= names {len(answers)} columns, expected one with a class or number a row: "
            "name one"
        )
    apart = {*wanted.ignore, *known.ignored, *aside, *(names[at] for at in answers)}
    channels = sensors.channels or tuple(name for name in names if name not in apart)
    if not channels:
        raise DataError(
            f"it has columns {listing(names)} and none for channels, expected at least one of "
            "numbers: name them with channels="
        )
    answer = answers[0] if answers else None
    of_numbers = sensors.target_of is not None
    return Roles(
        tuple(names.index(name) for name in channels),
        None if time is None else names.index(time), None if of_numbers else answer,
        tuple(names.index(name) for name in groups),
        answer if of_numbers and wanted.required else None,
    )  # fmt: skip


def _usual_time(names: Sequence[str], sensors: Sensors) -> str | None:
    """The column that is called as one of times usually is.

    Raises:
        DataError: there are two.
    """
    others = [name for name in names if name not in (sensors.channels or ())]
    times = [name for name in others if name.strip().lower() in _USUAL_TIMES]
    if len(times) > 1:
        raise DataError(
            f"it has two clocks, {listing(times)}, expected one: name it with time=, and leave the "
            "other out with ignore= or channels="
        )
    return times[0] if times else None


def no_clock(sensors: Sensors) -> list[str]:
    """What is to be said of rows without times, where their rate matters and was not measured."""
    if sensors.rate is None or sensors.time is not None:
        return []
    return [f"it has no column of times, its rows are taken as at {sensors.rate:g} Hz"]


def unit_of(name: str, said: str | None, times: NDArray[np.float64]) -> float:
    """Seconds of a unit of ``times``: as said, as their name ends, or as they can only be.

    Raises:
        DataError: they may be of several.
    """
    if said is not None:
        return UNITS[said]
    end = name.lower().strip(" )]").replace("[", "_").replace("(", "_").replace(" ", "_")
    ending = end.rpartition("_")[2] if "_" in end else ""
    if ending in UNITS:
        return UNITS[ending]
    first = float(times[0])
    for unit, least in _EPOCH.items():  # from 2001 to 2128
        if least <= first < 5 * least:
            return UNITS[unit]
    steps = np.diff(times)
    typical = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    if typical < 1:
        return UNITS["s"]
    raise DataError(
        f'column "{name}" steps by {typical:g}, which may be of seconds or of a part of them, '
        f"expected that to be clear: say time={name}:ms, or :s, :us, :ns"
    )


def seconds_in(words: NDArray[Any], name: str, where: Callable[[int], str]) -> NDArray[np.float64]:
    """Times in text as numbers, dates as seconds since 1970.

    Raises:
        DataError: one is neither.
    """
    try:
        times = words.astype(np.float64)
    except ValueError:
        times = np.array([_date(word) for word in words.tolist()], np.float64)
    bad = np.flatnonzero(~np.isfinite(times))
    if len(bad):
        at = int(bad[0])
        raise DataError(
            f'{where(at)} column "{name}" has "{brief(words[at])}", expected a time, a number '
            "or a date such as 2026-05-01T12:00:00.02: correct it"
        )
    return times


def _date(word: str) -> float:
    try:
        date = datetime.fromisoformat(word.strip())
    except ValueError:
        return float("nan")
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def check_finite(
    values: NDArray[np.float32], names: Sequence[str], where: Callable[[int], str]
) -> None:
    """Raise DataError for numbers that are not finite; ``where`` names a row."""
    bad = first_not_finite(values)
    if bad is not None:
        count, row, column = bad
        raise DataError(
            f"{not_finite(count)}{where(row)}, column "
            f'"{names[column]}", expected finite float32 numbers: remove these rows or replace '
            "the values"
        )


def _of_text(text: TextTable, roles: Roles) -> Iterator[Part]:
    row, has_label, has_time = 0, roles.label is not None, roles.time is not None
    columns, n_channels = [text.columns[at] for at in roles.numbers], len(roles.channels)
    while (first := next(text.records, None)) is not None:
        some = replace(text, records=chain([first], islice(text.records, _ROWS - 1)), first_row=row)
        x, words, lines = some.values(roles.beside, roles.numbers, optional=True)
        x, start, of_part = read(x), row, lines

        def where(at: int, start: int = start, lines: Sequence[int] = of_part) -> str:
            return f"row {start + at} (from 0, line {lines[at]})"

        check_finite(x, columns, where)
        times = None
        if roles.time is not None and len(lines):
            times = seconds_in(words[:, int(has_label)], text.columns[roles.time], where)
        groups = words[:, has_label + has_time :] if roles.groups else None
        if len(lines):
            labels, targets = words[:, 0] if has_label else None, _targets(x, n_channels)
            yield Part(x[:, :n_channels], times, labels, groups, targets=targets)
        row += len(lines)


def _targets(x: NDArray[np.float32], n_channels: int) -> NDArray[np.float32] | None:
    """What stands behind the channels, if anything."""
    return x[:, n_channels] if x.shape[1] > n_channels else None


@contextmanager
def open_text(source: Path, sensors: Sensors, wanted: Wanted, strict: bool) -> Iterator[SensorFile]:
    """A table of text, packed or not; without ``strict`` columns of groups may be missing.

    Raises:
        DataError: it is damaged, or lacks a column.
    """
    with open_table(source) as text:
        names = list(text.columns)
        roles = roles_of(names, sensors, wanted, strict)
        yield _described(names, roles, _of_text(text, roles), sensors, text.notes)


def _described(
    names: Sequence[str], roles: Roles, parts: Iterator[Part], sensors: Sensors,
    notes: tuple[str, ...] = (),
) -> SensorFile:  # fmt: skip
    missing = [name for name in sensors.group or () if name not in names]
    if missing:
        notes = (*notes, f"it has no column {listing(missing)}, its rows are taken as one stream")
    return SensorFile(
        tuple(names[at] for at in roles.channels), parts,
        None if roles.time is None else names[roles.time],
        None if roles.label is None else names[roles.label],
        tuple(names[at] for at in roles.groups), notes=notes,
        target=None if roles.target is None else names[roles.target],
    )  # fmt: skip


@contextmanager
def open_parquet(
    source: Path, sensors: Sensors, wanted: Wanted, strict: bool
) -> Iterator[SensorFile]:
    """The same of ``.parquet``.

    Raises:
        DataError: it is damaged, or lacks a column.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            f"reading {source} needs pyarrow: pip install 'skip2lora[parquet]', or use .csv"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(source) as file:
            names = list(file.schema_arrow.names)
            roles = roles_of(names, sensors, wanted, strict)
            yield _described(names, roles, _of_parquet(file, names, roles), sensors)
    except pyarrow.ArrowException as error:
        raise DataError(
            f"it is damaged or no .parquet ({first_line(error)}), expected a whole file: write it "
            "again"
        ) from error


def _of_parquet(file: Any, names: Sequence[str], roles: Roles) -> Iterator[Part]:
    numbers, n_channels = [names[at] for at in roles.numbers], len(roles.channels)
    columns, row = [*numbers, *(names[at] for at in roles.beside)], 0
    for batch in file.iter_batches(_ROWS_OF_PARQUET, columns=columns, use_threads=False):
        if not batch.num_rows:
            continue
        start = row

        def where(at: int, start: int = start) -> str:
            return f"row {start + at} (from 0)"

        x = np.empty((batch.num_rows, len(numbers)), np.float32)
        for number, name in enumerate(numbers):
            column = batch.column(name)
            values = column.to_numpy(zero_copy_only=False)
            if values.dtype.kind not in "fiub":
                raise DataError(
                    f'column "{name}" is {column.type}, expected numbers: name the channels with '
                    "channels="
                )
            x[:, number] = as_float32(values)
        check_finite(x, numbers, where)
        times = labels = groups = None
        if roles.time is not None:
            times = _parquet_times(batch.column(names[roles.time]), names[roles.time], where)
        if roles.label is not None:
            labels = _words(batch.column(names[roles.label]))
        if roles.groups:
            groups = np.stack([_words(batch.column(names[at])) for at in roles.groups], axis=1)
        targets = _targets(x, n_channels)
        yield Part(x[:, :n_channels], times, labels, groups, targets=targets)
        row += batch.num_rows


def _words(column: Any) -> NDArray[np.str_]:
    return np.array(["" if each is None else str(each) for each in column.to_pylist()], np.str_)


def _parquet_times(column: Any, name: str, where: Callable[[int], str]) -> NDArray[np.float64]:
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "M":
        values = values.astype("datetime64[ns]").astype(np.int64) / 1e9
    if values.dtype.kind in "fiu" and np.isfinite(values).all():
        return np.asarray(values, np.float64)
    return seconds_in(_words(column), name, where)
