"""Videos: which frames they have and when, and single ones of them as images.

A frame stands from its own time stamp to that of the next, whatever rate the head of the file says.
To look at a video is to read its packets, of which two frames are decoded. Frames are then decoded
one after the other, from the last key frame before the first that is asked for: none but one is in
memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.data.unusable import UnusableError
from skip2lora.errors import MissingExtraError, first_line

_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"))
_FAR = 2  # seconds from one frame to the next one asked for, beyond which the file is sought
_LATE = 0.5  # seconds of a video that its head promises and it does not have, which is said


@dataclass(frozen=True)
class Frame:
    """A frame of a video: its time ``stamp`` in the file, and ``seconds`` from the first one."""

    stamp: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Video:
    """What a video holds: the time ``stamps`` of its frames, sorted, in units of ``unit`` seconds.

    Its frames have ``width`` x ``height`` pixels as they are looked at. ``missing`` seconds are
    promised by its head beyond the last frame.
    """

    stamps: NDArray[np.int64]
    unit: Fraction
    width: int
    height: int
    missing: float

    def every(self, seconds: float) -> list[Frame]:
        """The frames that are seen at 0, ``seconds``, twice that and so on, each once."""
        times = (self.stamps - self.stamps[0]) * float(self.unit)
        # A hair later, as stamps are rounded to their unit.
        wanted = np.arange(int(times[-1] / seconds + 1e-9) + 1) * seconds + float(self.unit) / 2
        places = np.unique(np.searchsorted(times, wanted, "right") - 1)
        return [self.frame(int(place)) for place in places]

    def frame(self, number: int) -> Frame:
        """The frame of that number, from 0."""
        stamp = int(self.stamps[number])
        return Frame(stamp, float((stamp - int(self.stamps[0])) * self.unit))


def is_video(path: Path) -> bool:
    """Whether a file is one, as far as its name tells."""
    return path.suffix.lower() in _SUFFIXES


def need_av(path: object) -> Any:
    """The module that reads videos.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(
            f"reading the videos in {path} needs PyAV: pip install 'skip2lora[video]', or use "
            "images"
        ) from error
    return av


def look_at(file: Path) -> Video:
    """What a video holds, of which the first and the last frame are decoded.

    Raises:
        DataError: it cannot be read, or has no frame.
        MissingExtraError: PyAV is not installed.
    """
    with _Opened(file) as video:
        stream = video.stream
        stamps, unit = video.stamps(), Fraction(stream.time_base)
        end = video.end
    if not len(stamps):
        raise _unusable(file, "no frame in it")
    reader = Reader()
    try:
        reader.frame(file, int(stamps[-1]))
        first = reader.frame(file, int(stamps[0]))
    finally:
        reader.close()
    last = float((int(stamps[-1]) - int(stamps[0])) * unit)
    missing = 0.0 if end is None else end - last
    return Video(stamps, unit, first.width, first.height, missing if missing > _LATE else 0.0)


class _Opened:
    """An open video, and how far it was decoded."""

    def __init__(self, file: Path) -> None:
        av = need_av(file)
        self.file, self._errors = file, (av.error.FFmpegError, OSError, ValueError, EOFError)
        try:
            self._container = av.open(str(file))
        except self._errors as error:
            reason = re.sub(r"^\[Errno \d+\] ", "", first_line(error)).partition(": '")[0]
            raise _unusable(file, reason) from error
        if not self._container.streams.video:
            self._container.close()
            raise _unusable(file, "no picture in it")
        self.stream = self._container.streams.video[0]
        self.end = None  # in seconds from the first frame, as its head says
        if self.stream.duration is not None and self.stream.time_base is not None:
            self.end = float(self.stream.duration * self.stream.time_base)
        elif self._container.duration is not None:
            self.end = self._container.duration / av.time_base

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go."""
        self._container.close()

    def stamps(self) -> NDArray[np.int64]:
        """The time stamps of all frames, sorted; nothing is decoded."""
        stamps = []
        for packet in self._packets():
            stamp = _stamp(packet)
            if packet.size and stamp is not None:
                stamps.append(stamp)
        return np.unique(np.array(stamps, np.int64))

    def frames(self, since: int | None) -> Iterator[Any]:
        """Frames that are whole, from the key frame before a stamp on, or from the first."""
        if since is not None:
            self._container.seek(since, stream=self.stream)
        for packet in self._packets():
            with suppress(*self._errors):  # of one that is damaged; the next may be whole
                yield from (frame for frame in packet.decode() if not frame.is_corrupt)

    def _packets(self) -> Iterator[Any]:
        packets = self._container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._errors:  # where it is cut off
                return
            yield packet


class Reader:
    """Reads frames of one video at a time; those that follow each other are decoded once."""

    def __init__(self) -> None:
        self._opened: _Opened | None = None
        self._frames: Iterator[Any] = iter(())
        self._last: Any = None  # the frame that is seen now
        self._next: Any = None  # the one that comes then

    def frame(self, file: Path, stamp: int) -> Any:
        """The frame that is seen at a stamp, upright, as an image of Pillow in colour.

        Raises:
            DataError: there is none that can be read.
        """
        if self._opened is None or self._opened.file != file:
            self.close()
            self._opened = _Opened(file)
            self._start(stamp)
        elif self._last is None or not _stamp(self._last) <= stamp <= self._reach():
            self._start(stamp)
        if self._last is None or _stamp(self._last) > stamp:  # sought wrongly, without an index
            self.close()
            self._opened = _Opened(file)
            self._start(None)
        while self._next is not None and _stamp(self._next) <= stamp:
            self._last, self._next = self._next, next(self._frames, None)
        if self._last is None or _stamp(self._last) > stamp:
            raise _unusable(file, "no frame that can be decoded")
        image = self._last.to_image()
        turn = round(self._last.rotation / 90) % 4
        return image.rotate(90 * turn, expand=True) if turn else image

    def _reach(self) -> int:
        """The last stamp that is decoded up to, rather than sought."""
        opened = self._opened
        unit = Fraction(1) if opened is None else Fraction(opened.stream.time_base)
        return int(_stamp(self._last) + _FAR / unit)

    def _start(self, since: int | None) -> None:
        if self._opened is not None:
            self._frames = self._opened.frames(since)
            self._last, self._next = next(self._frames, None), next(self._frames, None)

    def close(self) -> None:
        """Let the file go."""
        if self._opened is not None:
            self._opened.close()
        self._opened, self._frames, self._last, self._next = None, iter(()), None, None


def _stamp(of: Any) -> Any:
    """The time stamp of a packet or frame, in units of its stream; None where it has none."""
    return of.dts if of.pts is None else of.pts


def _unusable(file: Path, reason: str) -> UnusableError:
    return UnusableError(file, reason, "a video")
