"""Recordings: what is in them, and any window of them as numbers at another rate.

A window is read alone, with a margin for the resampler, from a place that both rates share: it has
the same numbers whatever is read beside it, and a day of sound is never in memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import DataError, MissingExtraError, first_line

SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf",
     ".w64", ".rf64")
)  # fmt: skip
_BLOCKS = 50  # a second, whose loudness is kept
_FRAMES = 1 << 18  # read at a time
_MARGIN = 4096  # frames of the recording beside a window, which the resampler's filter reaches
_CLIPPED = 0.999
_N_CLIPPED = 1e-3  # of the samples of a recording that is called clipped
# Bytes that the head of a .wav or .aiff promises, and those that are there; what is written as it
# is recorded promises about as many as a number of 31 or 32 bits can.
_SHORTER, _UNKNOWN = re.compile(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)", re.M), 0x7FFFF000


@dataclass(frozen=True, eq=False)
class Survey:
    """What is in a recording: ``n_frames`` at ``rate`` Hz, of ``n_channels``.

    ``loudness`` and ``peak``, (blocks,), are the energy and the largest sample of each of
    ``block`` frames. ``missing`` are frames that its head promises and that are not there.
    ``in_order`` says that its format cannot be entered in the middle, as frames need those before.
    """

    rate: int
    n_channels: int
    n_frames: int
    block: int
    loudness: NDArray[np.float32]
    peak: NDArray[np.float32]
    clipped: bool
    missing: int
    in_order: bool

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.n_frames / self.rate


def is_sound(path: Path) -> bool:
    """Whether a file is a recording, as far as its name tells."""
    return path.suffix.lower() in SUFFIXES


def need_soundfile(path: object) -> Any:
    """The module that reads recordings.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: libsndfile itself is missing
        raise MissingExtraError(
            f"reading {path} needs soundfile: pip install 'skip2lora[audio]'"
        ) from error
    return soundfile


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    soundfile = need_soundfile(file)
    try:
        with soundfile.SoundFile(file) as sound:
            yield sound
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        reason = first_line(error).rpartition(": ")[2].rstrip(".")
        raise DataError(
            f"{file} cannot be read as sound ({reason}), expected a recording: replace or remove it"
        ) from error


def survey(file: Path) -> Survey:
    """Reads a recording once, from one end to the other.

    Raises:
        DataError: it is none, is damaged at its start, or has no sound in it.
        MissingExtraError: soundfile is not installed.
    """
    with _opened(file) as sound:
        rate, n_channels, promised = sound.samplerate, sound.channels, _promised(sound)
        in_order = sound.format in ("MP3", "MPEG")
        block = max(1, rate // _BLOCKS)
        size = max(1, _FRAMES // block) * block
        energies, peaks, n_frames, n_clipped = [], [], 0, 0
        while True:
            try:
                values = _mono(sound.read(size, dtype="float32", always_2d=True))
            except RuntimeError:  # of what is read at once, some may be whole
                if size == block or not _entered(sound, n_frames):
                    break
                size = block
                continue
            if not len(values):
                break
            n_frames += len(values)
            n_clipped += int((np.abs(values) >= _CLIPPED).sum())
            whole = np.zeros(-(-len(values) // block) * block, np.float32)
            whole[: len(values)] = np.nan_to_num(values)
            blocks = whole.reshape(-1, block)
            energies.append((blocks * blocks).sum(axis=1))
            peaks.append(np.abs(blocks).max(axis=1))
    if n_frames == 0:
        raise DataError(f"{file} has no sound in it, expected some: replace or remove it")
    return Survey(
        rate, n_channels, n_frames, block, np.concatenate(energies), np.concatenate(peaks),
        n_clipped > _N_CLIPPED * n_frames, max(0, promised - n_frames), in_order,
    )  # fmt: skip


def _promised(sound: Any) -> int:
    """Frames that a recording is to have: libsndfile counts those that are there, and says so."""
    said = _SHORTER.search(sound.extra_info)
    if said is None or int(said[1]) >= _UNKNOWN or not 0 < int(said[2]) < int(said[1]):
        return int(sound.frames)
    return int(sound.frames * int(said[1]) / int(said[2]))


def _entered(sound: Any, frame: int) -> bool:
    try:
        sound.seek(frame)
    except RuntimeError:
        return False
    return True


def _mono(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values[:, 0] if values.shape[1] == 1 else values.mean(axis=1, dtype=np.float32)


def length_at(of: Survey, rate: int) -> int:
    """Samples of a recording at another rate."""
    return of.n_frames * rate // of.rate


class Reader:
    """Reads windows of recordings; what is read in order is decoded once."""

    def __init__(self) -> None:
        self._file: Path | None = None
        self._blocks: Iterator[NDArray[np.float32]] = iter(())
        self._first = 0
        self._values = np.empty(0, np.float32)

    def window(
        self, file: Path, of: Survey, rate: int, start: int, n_samples: int
    ) -> NDArray[np.float32]:
        """``n_samples`` at ``rate`` from sample ``start`` on, (n_samples,); zeros beyond the ends.

        Channels are averaged.

        Raises:
            DataError: the recording changed, or holds what is not finite.
            MissingExtraError: soxr, which resamples, is not installed.
        """
        common = math.gcd(rate, of.rate)
        step, frames = rate // common, of.rate // common  # that take the same time
        margin = 0 if rate == of.rate else -(-_MARGIN // frames)
        first = max(0, start // step - margin)
        last = min(-(-(start + n_samples) // step) + margin, -(-of.n_frames // frames))
        window = np.zeros(n_samples, np.float32)
        if last <= first:
            return window
        values = self._frames(file, of, first * frames, min(last * frames, of.n_frames))
        if not np.isfinite(values).all():
            raise DataError(
                f"{file} has samples that are NaN or infinite, expected numbers: replace or remove "
                "it"
            )
        if rate != of.rate:
            values = _need_soxr(file).resample(values, of.rate, rate)
        at = start - first * step  # below 0 before the start of the recording
        there = values[max(0, at) : max(0, at + n_samples)]
        window[max(0, -at) : max(0, -at) + len(there)] = there
        return window

    def _frames(self, file: Path, of: Survey, first: int, last: int) -> NDArray[np.float32]:
        """Frames ``first`` to ``last`` of a recording."""
        if of.in_order:
            return self._in_order(file, of, first, last)
        with _opened(file) as sound:
            _check_same(file, of, sound, first)
            sound.seek(first)
            values = _mono(sound.read(last - first, dtype="float32", always_2d=True))
        if len(values) < last - first:
            raise _changed(file)
        return values

    def _in_order(self, file: Path, of: Survey, first: int, last: int) -> NDArray[np.float32]:
        """The same of what cannot be entered in the middle: it is decoded from its start on."""
        if self._file != file or first < self._first:
            self._file, self._blocks, self._first = file, _decoded(file, of), 0
            self._values = np.empty(0, np.float32)
        while self._first + len(self._values) < last:
            block = next(self._blocks, None)
            if block is None:
                self._file = None
                raise _changed(file)
            older = max(0, min(first - self._first, len(self._values)))
            self._first += older
            self._values = np.concatenate([self._values[older:], block])
        return self._values[first - self._first : last - self._first]


def _decoded(file: Path, of: Survey) -> Iterator[NDArray[np.float32]]:
    with _opened(file) as sound:
        _check_same(file, of, sound)
        while len(values := sound.read(_FRAMES, dtype="float32", always_2d=True)):
            yield _mono(values)


def _check_same(file: Path, of: Survey, sound: Any, first: int = 0) -> None:
    same = (sound.samplerate, sound.channels) == (of.rate, of.n_channels)
    if not same or sound.frames < first:
        raise _changed(file)


def _changed(file: Path) -> DataError:
    return DataError(f"{file} changed while it was read, expected it as it was: run it again")


def _need_soxr(path: object) -> Any:
    try:
        import soxr
    except ImportError as error:
        raise MissingExtraError(
            f"resampling {path} needs soxr: pip install 'skip2lora[audio]'"
        ) from error
    return soxr
