"""How recordings become numbers: rate, windows and where they are taken, told once and kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from skip2lora.arrays import shape_text
from skip2lora.data.image_layout import Input
from skip2lora.data.sensor_options import seconds_of
from skip2lora.errors import ParameterError

#: Where windows are taken: side by side, in the middle, or where a recording is loudest.
CROPS = ("slide", "centre", "loudest")
_MOST_RATE = 1_000_000  # Hz
_MOST_WINDOW = 3600.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Sound:
    """How recordings become numbers.

    ``rate`` is in Hz, ``window`` and ``hop``, from the start of one window to that of the next, in
    seconds. ``crop`` is one of :data:`CROPS`. Numbers are from -1 to 1 times ``gain``. What is None
    is as by default: the window that the model takes, hops of a window, slide, a gain of 1.
    ``segments`` is a table that says which parts are what; it is not kept.
    """

    rate: int | None = None
    window: float | None = None
    hop: float | None = None
    crop: str | None = None
    gain: float | None = None
    segments: Path | None = None
    #: What messages call the options that make them, and the files they are for; where an adapter
    #: keeps them.
    options, files, key = "rate, window, hop, crop, gain or segments", "recordings", "images"

    @property
    def asked(self) -> bool:
        """Whether anything is told."""
        return self != Sound()

    @property
    def size(self) -> None:
        """None: that of images."""
        return None

    def following(self, earlier: Any) -> Sound:
        """``earlier``, as a model or an adapter keeps it, with another crop or hop where told.

        Raises:
            ParameterError: that is of something else, or of another rate, window or gain.
        """
        if earlier is None:
            return self
        if not isinstance(earlier, Sound):
            raise ParameterError(
                f"the model learned from {earlier.files}, got {self.files}, expected "
                f"{earlier.files}: pass some"
            )
        for name in ("rate", "window", "gain"):
            given, of = getattr(self, name), getattr(earlier, name)
            if given is not None and not math.isclose(given, of, rel_tol=1e-9):
                raise ParameterError(
                    f"{name}= is {given:g}, the model learned with {of:g}, expected the same: "
                    "leave it out, or learn anew"
                )
        crop, hop = self.crop or earlier.crop, self.hop or earlier.hop
        return replace(earlier, crop=crop, hop=hop, segments=self.segments)

    def resolved(self, inputs: Sequence[Input]) -> Sound:
        """All of it, for a model with these inputs, to be kept.

        Raises:
            ParameterError: the rate is not told, the model takes no waveform, or one of another
                length.
        """
        n_samples = waveform_of(inputs)
        if self.rate is None:
            raise ParameterError(
                "rate= is missing, the model does not say how many samples a second it takes: add "
                "rate=HZ, such as rate=16000"
            )
        window = self.window
        if window is None and n_samples is None:
            raise ParameterError(
                "window= is missing, the model takes sound of any length: add window=SECONDS"
            )
        if window is not None and n_samples not in (None, round(window * self.rate)):
            raise ParameterError(
                f"window= is {window:g} s, {round(window * self.rate)} samples at {self.rate} Hz, "
                f"the model takes {n_samples}: leave window= out, or correct rate="
            )
        step = math.prod((inputs[0].hop or 1, *(size or 1 for size in inputs[0].shape[2:])))
        if window is not None and round(window * self.rate) % step:
            whole = max(1, round(window * self.rate / step))
            raise ParameterError(
                f"window= is {window:g} s, {round(window * self.rate)} samples at {self.rate} Hz, "
                f"the model takes {step} a call, expected a whole number of calls: take "
                f"window={whole * step / self.rate:g}, or correct rate="
            )
        if window is None:
            window = (n_samples or 0) / self.rate
        for name, seconds in (("window", window), ("hop", self.hop or window)):
            if round(seconds * self.rate) < 1:
                raise ParameterError(
                    f"{name}= is {seconds:g} s, less than a sample at {self.rate} Hz, expected one "
                    "or more: correct it"
                )
        return replace(
            self, window=window, hop=self.hop or window, crop=self.crop or CROPS[0],
            gain=self.gain or 1.0,
        )  # fmt: skip

    @property
    def in_samples(self) -> tuple[int, int, int]:
        """The rate, and window and hop in samples, of one that is resolved."""
        rate, window, hop = cast("tuple[int, float, float]", (self.rate, self.window, self.hop))
        return rate, round(window * rate), round(hop * rate)

    def to_json(self) -> dict[str, Any]:
        """What is told, as JSON holds it."""
        said = {name: getattr(self, name) for name in ("rate", "window", "hop", "crop", "gain")}
        return {"kind": "sound"} | {name: each for name, each in said.items() if each is not None}

    def __str__(self) -> str:
        """Such as ``rate 16000 Hz, window 0.79 s, hop 0.79 s, crop slide, gain 1``."""
        seconds = [f"{n} {getattr(self, n):g} s" for n in ("window", "hop") if getattr(self, n)]
        end = f"crop {self.crop}, gain {self.gain or 1:g}"
        return ", ".join([f"rate {self.rate} Hz", *seconds, end])

    @classmethod
    def from_json(cls, entries: Any) -> Sound:
        """What :meth:`to_json` gave.

        Raises:
            KeyError, TypeError, ValueError, ParameterError: it gave something else.
        """
        return cls(
            rate=int(entries["rate"]), window=float(entries["window"]), hop=float(entries["hop"]),
            crop=str(entries["crop"]), gain=float(entries["gain"]),
        ).checked()  # fmt: skip

    @classmethod
    def parse(cls, **words: Any) -> Sound:
        """From text: seconds such as ``2.5``; numbers as they are.

        Raises:
            ParameterError: one of them is something else.
        """
        said = dict(words)
        for name in ("window", "hop"):
            if name in said:
                said[name] = seconds_of(name, said[name])
        rate = said.get("rate")
        if rate is not None and rate != int(rate):
            raise ParameterError(
                f"rate= is {rate:g}, expected a whole number of samples a second: correct it"
            )
        return cls(**said | ({} if rate is None else {"rate": int(rate)})).checked()

    def checked(self) -> Sound:
        """Itself.

        Raises:
            ParameterError: a number out of range, or no such crop.
        """
        if self.rate is not None and not 1 <= self.rate <= _MOST_RATE:
            raise ParameterError(
                f"rate= is {self.rate}, expected samples a second from 1 to {_MOST_RATE}: correct "
                "it"
            )
        for name in ("window", "hop"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= _MOST_WINDOW:
                raise ParameterError(
                    f"{name}= is {value:g}, expected seconds above 0, {_MOST_WINDOW:g} at most: "
                    "correct it"
                )
        if self.gain is not None and not (math.isfinite(self.gain) and self.gain > 0):
            raise ParameterError(f"gain= is {self.gain:g}, expected a number above 0: correct it")
        if self.crop not in (None, *CROPS):
            raise ParameterError(
                f"crop= is {self.crop!r}, expected {', '.join(CROPS)}: choose one of them"
            )
        return self


def waveform_of(inputs: Sequence[Input]) -> int | None:
    """How many samples of sound a model takes, None for any number.

    Raises:
        ParameterError: it takes something else than one row of numbers.
    """
    sizes = [size for size in inputs[0].shape if size != 1] if len(inputs) == 1 else []
    if sizes and inputs[0].hop:
        sizes = [None] if len(sizes) == 2 else sizes  # any number of calls of one row each
    whole = len(inputs) == 1 and inputs[0].dtype not in ("float32", "float64", "float16", "int16")
    if len(inputs) != 1 or len(sizes) > 1 or whole or inputs[0].shape == (1,):
        takes = ", ".join(f"{each.name} {shape_text(each.shape)} {each.dtype}" for each in inputs)
        raise ParameterError(
            f"the model takes {takes}, expected one row of samples of sound: use a model that "
            "starts at the waveform"
        )
    return sizes[0] if sizes else None
