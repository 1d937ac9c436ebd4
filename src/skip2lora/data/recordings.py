"""A folder of recordings as samples: one sub-folder a class; each sample is a window of sound.

Channels are averaged, another rate is resampled, what is shorter than a window is followed by
silence; each is said. Windows of one recording are a group: they never stand on both sides of a
held-out split, nor do those of one segment where there is one recording alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import listing
from skip2lora.data.file_folder import SOUNDS, list_files, readable
from skip2lora.data.image_layout import Input
from skip2lora.data.known import KnownDigests
from skip2lora.data.lazy import LazySamples
from skip2lora.data.samples import Spans, Table
from skip2lora.data.segments import Segment, read_segments
from skip2lora.data.sound_files import (
    Reader,
    Survey,
    length_at,
    need_soundfile,
    survey,
)
from skip2lora.data.sound_options import Sound
from skip2lora.errors import DataError
from skip2lora.tasks.columns import Wanted
from skip2lora.tasks.task import Answers

_SILENT = 1e-4  # a window whose largest sample is below is silent: 80 dB below full scale
_LEAST = 0.5  # of a window, that the last one of a recording must hold
#: Called with the recordings looked at so far and their number.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of recordings as samples, (samples, ...) as a model takes them.

    ``file`` is the place in ``files`` of each, ``start`` its first sample at ``sound.rate``.
    """

    files: Sequence[Path]
    surveys: Sequence[Survey]
    sound: Sound
    sample_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    file: NDArray[np.intp]
    start: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, ...)."""
        return (len(self.file), *self.sample_shape)

    @cached_property
    def n_samples(self) -> int:
        """Samples of sound in a window."""
        return int(np.prod(self.sample_shape))

    def read(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """The windows at ``places``, (places, ...).

        Raises:
            DataError: a recording changed, or is not finite.
            MissingExtraError: a package that reads or resamples is not installed.
        """
        values, rate = np.empty((len(places), self.n_samples), np.float32), self.sound.in_samples[0]
        for row, place in enumerate(places):
            at, start = self.file[place], int(self.start[place])
            values[row] = self._reader.window(
                self.files[at], self.surveys[at], rate, start, self.n_samples
            )
        values *= np.float32(cast("float", self.sound.gain))
        if self.dtype.kind == "i":
            limits = np.iinfo(self.dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        return values.astype(self.dtype, copy=False).reshape(len(places), *self.sample_shape)

    def digests(self, places: NDArray[np.intp], known: KnownDigests | None = None) -> list[bytes]:
        """SHA-256 of each window's recording, place and of how it becomes numbers.

        Raises:
            DataError: a recording cannot be read.
        """
        del known
        about = f"{self.sound.rate} {self.n_samples} {self.sound.gain} {self.dtype.str}"
        return [
            hashlib.sha256(
                self._of_file[self.file[place]] + f" {self.start[place]} {about}".encode()
            ).digest()
            for place in places
        ]

    @cached_property
    def _reader(self) -> Reader:
        return Reader()

    @cached_property
    def _of_file(self) -> list[bytes]:
        digests = []
        for file in self.files:
            try:
                with file.open("rb") as stream:
                    digests.append(hashlib.file_digest(stream, "sha256").digest())
            except OSError as error:
                raise DataError(
                    f"{file} cannot be read ({error.strerror}), expected a recording: check the "
                    "path"
                ) from error
        return digests


@dataclass(frozen=True, eq=False)
class _Recordings:
    """Those that can be read, with their classes or segments, and what is said of them."""

    files: list[Path]
    surveys: list[Survey]
    classes: list[str] | None
    notes: list[str] = field(default_factory=list)


def read_recordings(
    folder: Path,
    sound: Sound,
    inputs: Sequence[Input],
    wanted: Wanted,
    progress: Progress | None = None,
) -> Table:
    """Windows of all recordings of ``folder``, or of the one that it is, labelled by sub-folder.

    With a table of segments their labels are those of the windows in them. Recordings that
    cannot be read are left out, and named in a note. ``progress`` is called for each that was
    looked at.

    Raises:
        DataError: no recordings, none of a class that can be read, segments that do not fit.
        ParameterError: the model takes no sound, or of another window, or the rate is not told.
        MissingExtraError: soundfile is not installed.
    """
    need_soundfile(folder)
    sound, segments = sound.resolved(inputs), sound.segments
    if segments is None:
        listed = list_files(folder, wanted, SOUNDS)
    else:
        listed = list_files(folder, Wanted(labels_required=False), SOUNDS)
    usable = _surveyed(listed.files, listed.classes, progress)
    of_files = usable.classes
    root = folder if folder.is_dir() else folder.parent
    names = [readable(str(file.relative_to(root))) for file in usable.files]
    parts = [Segment(at, 0.0, each.seconds, None) for at, each in enumerate(usable.surveys)]
    if segments is not None:
        parts = read_segments(segments, names, [each.seconds for each in usable.surveys])
        of_files = None
    rate, n_samples, _ = sound.in_samples
    file, start, part = _windows(usable.surveys, parts, sound)
    labels = [parts[at].label for at in part]
    if of_files is not None:
        labels = [of_files[at] for at in file]
    shape = tuple(n_samples if size in (None, n_samples) else size for size in inputs[0].shape)
    if inputs[0].hop:  # which the model cuts into its calls
        shape = (n_samples,)
    source = Windows(
        usable.files, usable.surveys, sound, shape, np.dtype(inputs[0].dtype), file, start
    )
    spans = np.stack([start, start + n_samples], axis=1) / rate
    notes = [*listed.notes, *usable.notes, *_said(usable, sound, file, start)]
    there = labels and labels[0] is not None
    return Table(
        LazySamples.of(source),
        Answers(
            np.array(labels, np.str_) if there else None,
            place=lambda row: f"{names[file[row]]} at {spans[row, 0]:.2f} s",
        ),
        aside=_groups(names, file, part), notes=tuple(notes),
        files=tuple(names[at] for at in file), images=replace(sound, segments=None),
        spans=Spans(spans),
    )  # fmt: skip


def _groups(
    names: Sequence[str], file: NDArray[np.intp], part: Sequence[int]
) -> dict[str, NDArray[Any]]:
    """Windows that belong together: of a recording, or of a segment where there is but one."""
    if len(set(file.tolist())) > 1:
        return {"group": np.array(names, np.str_)[file]}
    return {"group": np.array(part).astype(np.str_)} if len(set(part)) > 1 else {}


def _surveyed(
    files: Sequence[Path], classes: Sequence[str] | None, progress: Progress | None
) -> _Recordings:
    """Those that can be read.

    Raises:
        DataError: none of a class can.
    """
    bad: dict[int, str] = {}
    surveys: dict[int, Survey] = {}
    for at, file in enumerate(files):
        try:
            surveys[at] = survey(file)
        except DataError as error:
            bad[at] = f"{Path(file.parent.name, file.name)} ({_reason(error, file)})"
        if progress is not None:
            progress(at + 1, len(files))
    lost = set(classes or [""]) - {(classes or [""] * len(files))[at] for at in surveys}
    if bad and lost:
        of = f" of {listing(sorted(lost))}" if classes else ""
        raise DataError(
            f"no recording{of} can be read ({listing(list(bad.values()))}), expected at least one: "
            "replace or remove them"
        )
    s = "s" * (len(bad) != 1)
    notes = [f"{len(bad)} recording{s} that cannot be read left out: {listing(list(bad.values()))}"]
    return _Recordings(
        [files[at] for at in surveys], list(surveys.values()),
        None if classes is None else [classes[at] for at in surveys], notes if bad else [],
    )  # fmt: skip


def _reason(error: DataError, file: Path) -> str:
    text = str(error).removeprefix(f"{file} ")
    start, end = text.find("("), text.find("), expected")
    return text[start + 1 : end] if 0 <= start < end else text.partition(", expected")[0][-60:]


def _windows(
    surveys: Sequence[Survey], parts: Sequence[Segment], sound: Sound
) -> tuple[NDArray[np.intp], NDArray[np.int64], list[int]]:
    """The recording, the first sample and the segment of each window."""
    file, start, part = list[int](), list[int](), list[int]()
    rate, n_samples, hop = sound.in_samples
    for at, segment in enumerate(parts):
        of = surveys[segment.recording]
        begin = round(segment.start * rate)
        end = min(round(segment.end * rate), length_at(of, rate))
        starts = _starts(of, sound.crop, begin, end, n_samples, hop, rate)
        file += [segment.recording] * len(starts)
        start += starts
        part += [at] * len(starts)
    return np.array(file, np.intp), np.array(start, np.int64), part


def _starts(
    of: Survey, crop: str | None, begin: int, end: int, n_samples: int, hop: int, rate: int
) -> list[int]:
    """First samples of the windows from ``begin`` to ``end``, one for what is short."""
    whole = length_at(of, rate)
    if end - begin <= n_samples:
        # The sound around a segment is as good as silence, and where there is none it starts at 0.
        middle = (begin + end - n_samples) // 2
        return [max(0, min(middle, whole - n_samples))]
    if crop == "centre":
        return [(begin + end - n_samples) // 2]
    if crop == "loudest":
        return [_loudest(of, begin, end, n_samples, rate)]
    starts = list(range(begin, end - n_samples + 1, hop))
    after = starts[-1] + hop
    if end - after >= _LEAST * n_samples and hop == n_samples:
        starts.append(after)
    return starts


def _loudest(of: Survey, begin: int, end: int, n_samples: int, rate: int) -> int:
    """The start of the window with the most energy, on the grid of the recording's blocks."""
    first = -(-begin * of.rate // (rate * of.block))
    n_blocks = max(1, n_samples * of.rate // (rate * of.block))
    sums = np.concatenate([[0.0], np.cumsum(of.loudness, dtype=np.float64)])
    last = (end - n_samples) * of.rate // (rate * of.block)
    starts = np.arange(first, max(first, last) + 1)
    ends = np.minimum(starts + n_blocks, len(of.loudness))
    best = int(starts[np.argmax(sums[ends] - sums[np.minimum(starts, len(of.loudness))])])
    return min(max(begin, best * of.block * rate // of.rate), end - n_samples)


def _said(
    of: _Recordings, sound: Sound, file: NDArray[np.intp], start: NDArray[np.int64]
) -> list[str]:
    """What users want to know of recordings, counted."""
    rate, n_samples, _ = sound.in_samples
    rates = Counter(each.rate for each in of.surveys if each.rate != rate)
    notes = []
    if rates:
        kinds = listing([f"{count} of {other} Hz" for other, count in rates.most_common()])
        notes.append(f"resampled to {rate} Hz: {kinds}")
    counts = {
        "have several channels, which are averaged": sum(e.n_channels > 1 for e in of.surveys),
        "are clipped, at full scale in over 0.1 % of their samples": sum(
            each.clipped for each in of.surveys
        ),
        f"are shorter than a window of {sound.window:g} s, and followed by silence": sum(
            length_at(each, rate) < n_samples for each in of.surveys
        ),
        "end before their head says": sum(each.missing > 0 for each in of.surveys),
    }
    n_files = len(of.files)
    notes += [f"{count} of {n_files} recordings {what}" for what, count in counts.items() if count]
    silent = sum(
        _is_silent(of.surveys[at], int(first), n_samples, rate)
        for at, first in zip(file, start, strict=True)
    )
    if silent:
        notes.append(f"{silent} of {len(file)} windows are silent, 80 dB below full scale or more")
    return notes


def _is_silent(of: Survey, start: int, n_samples: int, rate: int) -> bool:
    first = start * of.rate // (rate * of.block)
    last = -(-(start + n_samples) * of.rate // (rate * of.block))
    return bool(of.peak[first : max(first + 1, last)].max(initial=0.0) < _SILENT)


def describe_recordings(folder: Path) -> dict[str, Any]:
    """Numbers of recordings, their rates and lengths, and what was left out.

    Raises:
        DataError: as :func:`read_recordings`.
    """
    listed = list_files(folder, Wanted(labels_required=False, usual_split="train"), SOUNDS)
    usable = _surveyed(listed.files, listed.classes, None)
    seconds = [each.seconds for each in usable.surveys]
    return {
        "kind": "recordings",
        "n_recordings": len(seconds),
        "rates_hz": sorted({each.rate for each in usable.surveys}),
        "shortest_s": round(min(seconds), 3),
        "longest_s": round(max(seconds), 3),
        "total_s": round(sum(seconds), 3),
        "recordings_a_class": None if usable.classes is None else Counter(usable.classes),
        "notes": [*listed.notes, *usable.notes] or None,
    }
