"""What opens a file of streams: also Edge Impulse's samples, ``.ts`` of aeon, ``.arff`` of Weka.

Each gives the streams of :mod:`skip2lora.data.sensor_files`: a sample or a series is one, as long
as it is.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import as_float32, listing, number_or_none
from skip2lora.data.sensor_files import (
    Part,
    SensorFile,
    check_finite,
    open_parquet,
    open_text,
)
from skip2lora.data.sensor_options import Sensors
from skip2lora.errors import DataError, MissingExtraError, brief, first_line
from skip2lora.limits import check_bytes, max_bytes
from skip2lora.tasks.columns import Wanted

#: Of a number in memory, as Python reads it.
_BYTES_EACH = 32
_STEP_MS = "interval_ms"


@contextmanager
def open_impulse(
    source: Path, sensors: Sensors, wanted: Wanted, strict: bool
) -> Iterator[SensorFile]:
    """A sample in Edge Impulse's data acquisition format, JSON or CBOR; its name says the label.

    Its signature is not checked.
    """
    del wanted, strict
    content = source.read_bytes()
    read = _json if source.suffix.lower() == ".json" else _cbor
    payload = _part(read(source, content), "payload", dict)
    channels = [_part(each, "name", str) for each in _part(payload, "sensors", list)]
    step, rows = payload.get(_STEP_MS), _part(payload, "values", list)
    if isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step < math.inf:
        raise DataError(
            f"its {_STEP_MS} is {step!r}, expected milliseconds above 0 from one row to the next: "
            "take a sample of a time series"
        )
    values = _rectangle(rows, len(channels))
    at = _places(channels, sensors)
    names = tuple(channels[place] for place in at)
    x = as_float32(values[:, at])
    check_finite(x, names, lambda row: f"row {row} (from 0)")
    times = np.arange(len(x), dtype=np.float64) * step
    yield SensorFile(names, iter([Part(x, times, ends=True)]), _STEP_MS, by_name=True)


def _json(source: Path, content: bytes) -> Any:
    del source
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"it is no JSON ({first_line(error)}), expected a sample of Edge Impulse: export it "
            "again"
        ) from error


def _cbor(source: Path, content: bytes) -> Any:
    try:
        import cbor2
    except ImportError as error:
        raise MissingExtraError(
            f"reading {source} needs cbor2: pip install 'skip2lora[cbor]'"
        ) from error
    try:
        return cbor2.loads(content)
    except (cbor2.CBORDecodeError, ValueError, RecursionError, EOFError) as error:
        raise DataError(
            f"it is no CBOR ({first_line(error)}), expected a sample of Edge Impulse: export it "
            "again"
        ) from error


def _part(of: Any, name: str, kind: type) -> Any:
    if not isinstance(of, dict) or not isinstance(of.get(name), kind):
        raise DataError(
            f"it has no {name}, expected a sample in the data acquisition format of Edge Impulse "
            "(payload with interval_ms, sensors, values): export it so"
        )
    return of[name]


def _rectangle(rows: list[Any], n_channels: int) -> NDArray[np.float64]:
    """Values as (rows, channels); those of one channel may lack their lists."""
    rows = [row if isinstance(row, list) else [row] for row in rows]
    for number, row in enumerate(rows):
        if len(row) != n_channels or not all(type(value) in (int, float) for value in row):
            raise DataError(
                f"row {number} (from 0) is {brief(row)}, expected {n_channels} numbers, one a "
                "sensor: correct or remove it"
            )
    if not rows:
        raise DataError("its values are empty, expected rows of numbers: remove the file")
    return np.array(rows, np.float64)


def _places(names: Sequence[str], sensors: Sensors) -> list[int]:
    for name in sensors.channels or ():
        if name not in names:
            raise DataError(
                f'channels= names "{name}", it has channels {listing(list(names))}, expected one '
                "of them: correct channels="
            )
    return [names.index(name) for name in sensors.channels or names]


@contextmanager
def open_ts(source: Path, sensors: Sensors, wanted: Wanted, strict: bool) -> Iterator[SensorFile]:
    """Series as aeon keeps them: one a line, channels with ``:`` between, the label at the end."""
    del wanted, strict
    with source.open(encoding="utf-8-sig") as stream:
        lines = _checked_lines(source, stream)
        labelled, first = False, ""
        for _, line in lines:
            words = line.split()
            keyword = words[0].lower()
            if keyword == "@timestamps" and words[1:2] == ["true"]:
                raise DataError(
                    "its series have times of their own, expected even ones (@timestamps false): "
                    "convert it"
                )
            if keyword in ("@classlabel", "@targetlabel"):
                labelled = words[1:2] == ["true"]
            if keyword == "@data":
                break
        number, first = next(lines, (0, ""))
        if not first:
            raise DataError("it has no series below @data, expected one a line: write it again")
        n_channels = first.count(":") + (not labelled)
        if n_channels < 1:
            raise DataError(
                f'line {number} has no ":" between a series and its label, expected one: correct it'
            )
        names = [f"channel_{at}" for at in range(n_channels)]
        at = _places(names, sensors)
        series = _series(chain([(number, first)], lines), n_channels, at, labelled)
        yield SensorFile(
            tuple(names[place] for place in at), series, label="label" if labelled else None
        )


def _checked_lines(source: Path, stream: Any) -> Iterator[tuple[int, str]]:
    """Lines that are neither empty nor comments, and their numbers."""
    limit = max_bytes() // _BYTES_EACH
    for number, line in enumerate(iter(lambda: stream.readline(limit), ""), 1):
        if len(line) == limit:
            check_bytes(source, limit * _BYTES_EACH + 1)
        text = line.strip()
        if text and not text.startswith(("#", "%")):
            yield number, text


def _series(
    lines: Iterator[tuple[int, str]], n_channels: int, at: Sequence[int], labelled: bool
) -> Iterator[Part]:
    for number, line in lines:
        channels = line.split(":")
        label = channels.pop().strip() if labelled else None
        yield _one_series(channels, label, n_channels, at, f"line {number}")


def _one_series(
    channels: Sequence[str], label: str | None, n_channels: int, at: Sequence[int], where: str
) -> Part:
    """A series of text, a channel each with commas."""
    if len(channels) != n_channels:
        raise DataError(
            f"{where} has {len(channels)} channels, expected {n_channels} as the first series: "
            "correct it"
        )
    columns = [channels[place].split(",") for place in at]
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        raise DataError(
            f"{where} has channels of {min(lengths)} and of {max(lengths)} values, expected as "
            "many of each: correct it"
        )
    numbers = [[number_or_none(word) for word in column] for column in columns]
    for column, words in zip(numbers, columns, strict=True):
        for value, word in zip(column, words, strict=True):
            if value is None or not math.isfinite(value):
                raise DataError(
                    f'{where} has "{brief(word)}", expected finite numbers: fill in what is missing'
                )
    x = as_float32(np.array(numbers, np.float64).T)
    labels = None if label is None else np.full(len(x), label)
    return Part(x, labels=labels, ends=True)


class _Attribute(NamedTuple):
    name: str
    kind: str  # numeric, nominal, relational


@contextmanager
def open_arff(source: Path, sensors: Sensors, wanted: Wanted, strict: bool) -> Iterator[SensorFile]:
    """Series as Weka keeps them: one a line, either a number an attribute, or a relation of all.

    The attribute with the label is nominal, by the name of the answers or the last one.
    """
    del strict
    with source.open(encoding="utf-8-sig") as stream:
        lines = _checked_lines(source, stream)
        attributes = _attributes(lines)
        label = _label(attributes, wanted)
        apart = {label, *(n for n, each in enumerate(attributes) if each.name in wanted.ignore)}
        places = [n for n in range(len(attributes)) if n not in apart]
        relation = next((n for n in places if attributes[n].kind == "relational"), None)
        for n in places:
            if attributes[n].kind == "nominal" or (relation is not None and n != relation):
                raise DataError(
                    f'attribute "{attributes[n].name}" is {attributes[n].kind}, expected numbers: '
                    f"leave it out with ignore={attributes[n].name}"
                )
        rows = _rows(lines, len(attributes))
        if relation is None:
            names = ["value"]
            series = _flat(rows, places, label)
            at = _places(names, sensors)
        else:
            first = next(rows, None)
            if first is None:
                raise DataError("it has no series below @data, expected one a line: write it again")
            n_channels = len(_channels(first[1][relation]))
            names = [f"channel_{n}" for n in range(n_channels)]
            at = _places(names, sensors)
            series = _related(chain([first], rows), relation, label, n_channels, at)
        yield SensorFile(
            tuple(names[place] for place in at), series,
            label=None if label is None else attributes[label].name,
        )  # fmt: skip


def _attributes(lines: Iterator[tuple[int, str]]) -> list[_Attribute]:
    """Those of a row, without those of relations."""
    attributes: list[_Attribute] = []
    depth = 0
    for number, line in lines:
        keyword = line.split(None, 1)[0].lower()
        if keyword == "@data":
            return attributes
        if keyword == "@end":
            depth -= 1
        if keyword != "@attribute":
            continue
        name, kind = _attribute(line, number)
        if not depth:
            attributes.append(_Attribute(name, kind))
        depth += kind == "relational"
    raise DataError("it has no @data, expected series below it: write it again")


def _attribute(line: str, number: int) -> tuple[str, str]:
    rest = " ".join(line.split()[1:])
    quote = rest[:1] if rest[:1] in ("'", '"') else ""
    name, _, kind = rest[1:].partition(quote) if quote else rest.strip().partition(" ")
    kind = kind.strip().lower()
    if kind.startswith("{"):
        return name, "nominal"
    if kind in ("numeric", "real", "integer"):
        return name, "numeric"
    if kind == "relational":
        return name, kind
    raise DataError(
        f'line {number} has an attribute of type "{brief(kind)}", expected numbers, names in '
        "braces or a relation: convert it"
    )


def _label(attributes: Sequence[_Attribute], wanted: Wanted) -> int | None:
    """The place of the attribute with the label."""
    names = [each.name for each in attributes]
    nominal = [n for n, each in enumerate(attributes) if each.kind == "nominal"]
    if wanted.no_target:
        return None
    for name in wanted.chosen or ():
        if name not in names:
            raise DataError(
                f'target= names "{name}", it has attributes {listing(names)}, expected one of '
                "them: correct target="
            )
        return names.index(name)
    return nominal[-1] if nominal else None


def _rows(lines: Iterator[tuple[int, str]], n_attributes: int) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        if line.startswith("{"):
            raise DataError(
                f"line {number} is sparse, expected a value an attribute: convert the file"
            )
        quote = "'" if line.startswith("'") else '"'
        cells = next(csv.reader([line], quotechar=quote, skipinitialspace=True))
        if len(cells) != n_attributes:
            raise DataError(
                f"line {number} has {len(cells)} values, expected {n_attributes}, one an "
                "attribute: correct it"
            )
        yield number, [cell.strip().strip("'\"") for cell in cells]


def _flat(
    rows: Iterator[tuple[int, list[str]]], places: Sequence[int], label: int | None
) -> Iterator[Part]:
    for number, cells in rows:
        text = ",".join(cells[place] for place in places)
        name = None if label is None else cells[label]
        yield _one_series([text], name, 1, [0], f"line {number}")


def _channels(relation: str) -> list[str]:
    """The lines of a relation, in which a line break is spelled out."""
    return [line for line in relation.replace("\\n", "\n").split("\n") if line.strip()]


def _related(
    rows: Iterator[tuple[int, list[str]]], relation: int, label: int | None, n_channels: int,
    at: Sequence[int],
) -> Iterator[Part]:  # fmt: skip
    for number, cells in rows:
        name = None if label is None else cells[label]
        channels = _channels(cells[relation])
        yield _one_series(channels, name, n_channels, at, f"line {number}")


_Opener = Callable[[Path, Sensors, Wanted, bool], AbstractContextManager[SensorFile]]
_OPENERS: dict[str, _Opener] = {
    ".csv": open_text, ".tsv": open_text, ".txt": open_text, ".parquet": open_parquet,
    ".json": open_impulse, ".cbor": open_impulse, ".ts": open_ts, ".arff": open_arff,
}  # fmt: skip


def _suffix(path: Path) -> str:
    packed = path.suffix.lower() in (".gz", ".gzip")
    return (path.with_suffix("") if packed else path).suffix.lower()


def is_stream(path: Path) -> bool:
    """Whether a file may hold streams, as far as its name tells; ``.txt`` may be notes."""
    suffix = _suffix(path)
    return suffix in _OPENERS and suffix != ".txt"


def open_stream(
    source: Path, sensors: Sensors, wanted: Wanted, *, strict: bool = True
) -> AbstractContextManager[SensorFile]:
    """An open file of streams, to be read once from its start to its end.

    Without ``strict`` columns of groups may be missing.

    Raises:
        DataError: it is damaged, or lacks a column.
        MissingExtraError: what reads it is not installed.
    """
    return _OPENERS[_suffix(source)](source, sensors, wanted, strict)
