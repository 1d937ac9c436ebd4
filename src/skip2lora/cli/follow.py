"""``predict --follow``: rows come, a line a window goes, as soon as it is whole."""

from __future__ import annotations

import csv
import io
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np
from numpy.typing import NDArray

from skip2lora.cli import common
from skip2lora.data.media import Media
from skip2lora.data.piped import NAME
from skip2lora.data.predictions import rows_of
from skip2lora.data.sensor_live import Heading, Live, LiveWindow
from skip2lora.data.sensor_options import Form, Sensors, form_of
from skip2lora.data.sensor_windows import shaped
from skip2lora.errors import DataError, ParameterError
from skip2lora.files import WRITTEN, unreadable
from skip2lora.tasks.task import Outputs
from skip2lora.tasks.thresholds import NO_PLACE


def follow(
    loaded: common.Loaded,
    data: Path,
    media: Media | None,
    *,
    names: Sequence[str] | None,
    thresholds: NDArray[np.float64] | None,
    as_json: bool,
) -> None:
    """Write a line a window of the rows that come from ``data``, until they end.

    ``names`` are those of the columns of a stream that does not begin with them.

    Raises:
        DataError: no row is one, or there are fewer than a window has.
        ParameterError: the model learned something else than streams.
        FileError: ``data`` cannot be read.
    """
    asked = media or Sensors()
    if not isinstance(asked, Sensors):
        raise ParameterError(
            f"--follow reads rows of sensors, got options of {asked.files}, expected those of "
            "streams: leave them out"
        )
    sensors = asked.following(loaded.model.images)
    writer = _Writer(loaded, thresholds, as_json=as_json)
    lines = _Lines()
    called = NAME if str(data) == "-" else str(data)
    try:
        with _opened(data) as stream:
            _run(stream, called, lines, writer, sensors, names, loaded)
    except KeyboardInterrupt:
        if writer.latencies:
            WRITTEN.append(Path(f"a table of {len(writer.latencies):,} lines"))
        raise
    finally:
        common.say_notes([*writer.said(), *lines.said()])
    if not writer.latencies:
        raise DataError(
            f"{called} had {lines.n_rows:,} rows and {lines.n_bad:,} that are none, expected those "
            f"of a window or more: correct what sends them" + lines.first_bad
        )


class _Lines:
    """How many lines came, and those that were no rows."""

    def __init__(self) -> None:
        self.n_rows = self.n_bad = 0
        self.first_bad = ""

    def bad(self, number: int, error: DataError) -> None:
        self.n_bad += 1
        self.first_bad = self.first_bad or f" (the first, line {number}: {error})"

    def said(self) -> list[str]:
        """What is to be said of them at the end."""
        if not self.n_bad:
            return []
        n_all = self.n_rows + self.n_bad
        return [f"{self.n_bad:,} of {n_all:,} lines left out as no rows{self.first_bad}"]


@contextmanager
def _opened(data: Path) -> Iterator[BinaryIO]:
    if str(data) == "-":
        yield sys.stdin.buffer
        return
    try:
        with data.open("rb") as stream:
            yield stream
    except BrokenPipeError:  # of what reads the lines that are written
        raise
    except OSError as error:
        raise unreadable(data, error) from error


def _run(
    stream: BinaryIO, called: str, lines: _Lines, writer: _Writer, sensors: Sensors,
    names: Sequence[str] | None, loaded: common.Loaded,
) -> None:  # fmt: skip
    every = enumerate(iter(stream.readline, b""), 1)
    numbered = ((number, line) for number, line in every if line.strip())
    number, first = next(numbered, (0, b""))
    if not first:
        raise DataError(f"{called} sent nothing, expected rows of sensors: correct what sends them")
    try:
        heading = Heading(_text(first), names)
        live, form, rows = _begun(heading, sensors, loaded)
    except DataError as error:
        raise DataError(f"{called}: {error}") from error
    common.say_notes(live.notes)
    writer.begin(replace(sensors, window=rows, channels=live.channels), form)
    if heading.is_row:
        _take(live, number, first, lines, writer)
    for number, line in numbered:
        _take(live, number, line, lines, writer)
    for window in live.end():
        writer.write(window, time.perf_counter())


def _begun(heading: Heading, sensors: Sensors, loaded: common.Loaded) -> tuple[Live, Form, int]:
    asked = sensors.rows("window", sensors.rate)
    n_channels = len(Live(heading, sensors, asked or 1).channels)
    form, rows = form_of(loaded.model.inputs, asked, n_channels, sensors.features or ())
    return Live(heading, sensors, rows), form, rows


def _text(line: bytes) -> str:
    return line.decode("utf-8-sig", "replace")


def _take(live: Live, number: int, line: bytes, lines: _Lines, writer: _Writer) -> None:
    arrived = time.perf_counter()
    try:
        for window in live.add(_text(line)):
            writer.write(window, arrived)
    except DataError as error:
        lines.bad(number, error)
    else:
        lines.n_rows += 1


class _Writer:
    """Predicts a window at a time, and writes its line."""

    def __init__(
        self, loaded: common.Loaded, thresholds: NDArray[np.float64] | None, *, as_json: bool
    ) -> None:
        self._loaded, self._thresholds, self._as_json = loaded, thresholds, as_json
        self._outputs = Outputs.of(loaded.model, loaded.task)
        self._sensors, self._form = Sensors(), Form("tc", ())
        self.latencies: list[float] = []

    def begin(self, sensors: Sensors, form: Form) -> None:
        """What windows are like."""
        self._sensors, self._form = sensors, form

    def write(self, window: LiveWindow, arrived: float) -> None:
        """Predict, write and note how long after the row ``arrived`` that was."""
        x = shaped(window.values[None], self._sensors, self._form)
        logits = self._loaded.model.logits(x)
        digits = 3 if self._sensors.rate is not None else 0
        beside = {"start": [f"{window.start:.{digits}f}"], "end": [f"{window.end:.{digits}f}"]}
        names = None if self._outputs.is_plain else self._outputs.titles
        _, header, rows = rows_of(
            self._loaded.task, logits, names, beside=beside, thresholds=self._thresholds
        )
        row, is_first = [len(self.latencies), *next(rows)], not self.latencies
        self.latencies.append(1e3 * (time.perf_counter() - arrived))  # counted even if stopped now
        if self._as_json:
            click.echo(json.dumps(_facts(["row", *header], row)))
        else:
            text = io.StringIO()
            table = csv.writer(text, lineterminator="\n")
            if is_first:
                table.writerow(["row", *header])
            table.writerow(row)
            click.echo(text.getvalue(), nl=False)
        sys.stdout.flush()

    def said(self) -> list[str]:
        """How long after its last row a window was told."""
        if not self.latencies:
            return []
        middle, most = statistics.median(self.latencies), max(self.latencies)
        s = "s" * (len(self.latencies) != 1)
        return [
            f"{len(self.latencies):,} window{s}, told {middle:.2f} ms after the last row in the "
            f"median, {most:.2f} ms at most"
        ]


def _facts(header: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """A line as JSON: numbers as such, the class None where it is none of these."""
    facts: dict[str, Any] = {}
    for name, cell in zip(header, row, strict=True):
        try:
            facts[name] = cell if isinstance(cell, int) or name == "name" else float(cell)
        except ValueError:
            facts[name] = cell
    if facts.get("prediction") == NO_PLACE:
        facts["prediction"] = None
    return facts
