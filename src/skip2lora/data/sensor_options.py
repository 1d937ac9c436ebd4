"""How streams of sensors become numbers: windows, channels and clock, told once and kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from skip2lora.arrays import listing, shape_text
from skip2lora.data.image_layout import Input
from skip2lora.data.sensor_features import FEATURES, n_features
from skip2lora.errors import ParameterError

#: What says the class of a window: a column, the sub-folder of its file, or its name up to a dot.
LABELLED_BY = ("column", "folder", "name")
#: What becomes of windows with several labels: the one of most rows, or left out, or refused.
MIXED = ("majority", "drop", "refuse")
#: What number a window stands for where numbers are learned, of those of its rows.
TARGET_OF = ("mean", "last")
#: Of ``time``: rows are evenly spaced, whatever columns there are.
NO_TIME = "none"
_MOST_RATE = 1e9  # Hz
_MOST_ROWS = 10_000_000  # a window
_FIELDS = (
    "rate", "window", "hop", "channels", "features", "time", "group", "label_by", "mixed",
    "target_of",
)  # fmt: skip
_LISTS = ("channels", "features", "group")


class Form(NamedTuple):
    """In which shape a model takes a window: ``axes`` tc (rows first), ct, flat, or features."""

    axes: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Sensors:
    """How streams of sensors become numbers.

    ``window`` and ``hop``, from the start of one window to that of the next, are whole numbers of
    rows, or seconds as float. ``rate`` is in Hz: streams of another one, or with uneven times, are
    resampled to it. ``channels`` are the columns of a sample, in its order; ``features`` is what is
    computed of each window in the place of its rows, some of
    :data:`~skip2lora.data.sensor_features.FEATURES`. ``time`` names the column with times, such as
    t or t:ms, ``group`` those that tell streams apart: who, then which recording. The first is what
    held-out splits keep together. ``label_by`` is one of :data:`LABELLED_BY`, ``mixed`` one of
    :data:`MIXED`. ``target_of`` says what number a window stands for where numbers are learned,
    one of :data:`TARGET_OF`. Columns of ``group`` may be missing if ``loose``. What is None is as
    by default: window and channels of the model, hops of a window, the rate of the stream.
    """

    rate: float | None = None
    window: int | float | None = None
    hop: int | float | None = None
    channels: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    time: str | None = None
    group: tuple[str, ...] | None = None
    label_by: str | None = None
    mixed: str | None = None
    target_of: str | None = None
    loose: bool = field(default=False, compare=False)
    #: What messages call the options that make them, and the files they are for; where an adapter
    #: keeps them.
    options, files, key = (
        "rate, window, hop, channels, features, time, group, label_by, mixed or target_of",
        "streams of sensors", "windows",
    )  # fmt: skip

    @property
    def asked(self) -> bool:
        """Whether anything is told."""
        return self != Sensors()

    @property
    def size(self) -> None:
        """None: that of images."""
        return None

    @property
    def segments(self) -> Path | None:
        """None: that of recordings."""
        return None

    def following(self, earlier: Any) -> Sensors:
        """``earlier``, as a model or an adapter keeps it; hop, clock and group are as told.

        Raises:
            ParameterError: that is of something else, or of another window, rate, channels or
                features.
        """
        if earlier is None:
            return self
        if not isinstance(earlier, Sensors):
            raise ParameterError(
                f"the model learned from {earlier.files}, got {self.files}, expected "
                f"{earlier.files}: pass some"
            )
        seconds = isinstance(self.window, float) and earlier.rate is not None
        window = round(self.window * (earlier.rate or 0)) if seconds and self.window else None
        asked = self if window is None else replace(self, window=window)
        for name in ("rate", "window", "channels", "features", "target_of"):
            given, of = vars(asked)[name], vars(earlier)[name]
            same = given == of or (name == "target_of" and of is None)  # it learned classes
            if name == "rate" and given is not None and of is not None:
                same = math.isclose(given, of, rel_tol=1e-9)
            if given is not None and not same:
                raise ParameterError(
                    f"{name}= is {_text(name, given)}, the model learned with {_text(name, of)}, "
                    "expected the same: leave it out, or learn anew"
                )
        free = ("hop", "time", "group", "label_by", "mixed", "target_of")
        other = {name: vars(self)[name] or vars(earlier)[name] for name in free}
        if other["target_of"] is not None:  # no labels are looked for
            other |= {"label_by": self.label_by, "mixed": self.mixed}
        of_group = self.loose or self.group is None
        return replace(earlier, **other, loose=of_group).checked()

    def of_classes(self) -> Sensors:
        """The same without what is said of numbers, for windows that stand for a class."""
        return replace(self, target_of=None)

    def resolved(self, inputs: Sequence[Input]) -> Sensors:
        """Itself: a stream that was read says the rest."""
        del inputs
        return self

    def rows(self, name: str, rate: float | None) -> int | None:
        """``window`` or ``hop`` in rows at ``rate``.

        Raises:
            ParameterError: it is in seconds and the rate is not known, or less than a row.
        """
        value = vars(self)[name]
        if not isinstance(value, float):
            return None if value is None else int(value)
        if rate is None:
            raise ParameterError(
                f"{name}= is {value:g} s, nothing tells how many rows a second there are, expected "
                "a column of times or a rate: add time=COLUMN or rate=HZ"
            )
        rows = round(value * rate)
        if not 1 <= rows <= _MOST_ROWS:
            raise ParameterError(
                f"{name}= is {value:g} s, {rows} rows at {rate:g} Hz, expected 1 to {_MOST_ROWS}: "
                "correct it"
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        """What is told, as JSON holds it."""
        said = {name: vars(self)[name] for name in _FIELDS}
        as_lists = {
            name: list(each) if isinstance(each, tuple) else each for name, each in said.items()
        }
        return {"kind": "sensors"} | {n: each for n, each in as_lists.items() if each is not None}

    def __str__(self) -> str:
        """Such as ``window 128, hop 64, channels ax, ay, az, rate 50 Hz``."""
        order = (
            "window", "hop", "channels", "features", "rate", "time", "group", "mixed", "target_of"
        )  # fmt: skip
        said = [(name, vars(self)[name]) for name in order]
        return ", ".join(
            f"{name.replace('_', ' ')} {_text(name, value)}"
            for name, value in said if value is not None
        )  # fmt: skip

    @classmethod
    def from_json(cls, entries: Any) -> Sensors:
        """What :meth:`to_json` gave.

        Raises:
            KeyError, TypeError, ValueError, ParameterError: it gave something else.
        """
        said = {name: entries[name] for name in _FIELDS if name in entries}
        for name in _LISTS:
            if name in said:
                if not all(isinstance(each, str) for each in said[name]):
                    raise ValueError(name)
                said[name] = tuple(said[name])
        for name in ("window", "hop"):
            if isinstance(said[name], bool) or not isinstance(said[name], int):
                raise ValueError(name)
        return cls(**said).checked()

    @classmethod
    def parse(cls, **words: Any) -> Sensors:
        """From text: rows such as ``128`` or seconds such as ``2.5s``, names with commas.

        Raises:
            ParameterError: one of them is something else.
        """
        said = {name: each for name, each in words.items() if each is not None}
        for name in ("window", "hop"):
            if name in said:
                said[name] = _span(name, said[name])
        for name in _LISTS:
            if name in said:
                said[name] = _names(name, said[name])
        return cls(**said).checked()

    def checked(self) -> Sensors:
        """Itself.

        Raises:
            ParameterError: a number out of range, a name twice, or no such word.
        """
        if self.rate is not None and not 0 < self.rate <= _MOST_RATE:
            raise ParameterError(
                f"rate= is {self.rate:g}, expected rows a second above 0, {_MOST_RATE:g} at most: "
                "correct it"
            )
        for name in ("window", "hop"):
            value = vars(self)[name]
            if value is not None and not 0 < value <= _MOST_ROWS:
                raise ParameterError(
                    f"{name}= is {value:g}, expected 1 to {_MOST_ROWS} rows, or seconds above 0 "
                    "such as 2.5s: correct it"
                )
        for name in _LISTS:
            names = vars(self)[name] or ()
            if len(set(names)) != len(names):
                raise ParameterError(f"{name}= is {listing(names)}, expected each once: correct it")
        others = (
            ("label_by", LABELLED_BY, self.label_by), ("mixed", MIXED, self.mixed),
            ("target_of", TARGET_OF, self.target_of),
        )  # fmt: skip
        for name, _, word in others[:2]:
            if word is not None and self.target_of is not None:
                raise ParameterError(
                    f"{name}= is {word} beside target_of= of numbers, expected classes for it: "
                    f"leave {name}= out"
                )
        for name, known, word in (*(("features", FEATURES, of) for of in self.features or ()),
                                  *others):  # fmt: skip
            if word not in (None, *known):
                raise ParameterError(
                    f"{name}= is {word!r}, expected {', '.join(known)}: choose one of them"
                )
        return self


def _text(name: str, value: Any) -> str:
    """The value of an option with its unit."""
    if isinstance(value, tuple):
        return ", ".join(value)
    unit = "Hz" if name == "rate" else "s"
    return f"{value:g} {unit}" if isinstance(value, float) else str(value)


def seconds_of(name: str, text: str) -> float:
    """Seconds of sound, such as ``2.5`` or ``2.5s``.

    Raises:
        ParameterError: it is something else.
    """
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        raise ParameterError(
            f"{name}= is {text!r}, expected seconds such as 2.5: correct it"
        ) from None


def _span(name: str, text: str) -> int | float:
    """Rows, or seconds where an s ends it; what may be either is refused."""
    try:
        return float(text.removesuffix("s")) if text.endswith("s") else int(text)
    except ValueError:
        raise ParameterError(
            f"{name}= is {text!r}, expected a whole number of rows such as 128, or seconds such as "
            "2.5s: correct it"
        ) from None


def _names(name: str, text: str) -> tuple[str, ...]:
    names = tuple(word.strip() for word in text.split(","))
    if not all(names):
        raise ParameterError(f"{name}= is {text!r}, expected names with commas: correct it")
    return names


def form_of(
    inputs: Sequence[Input] | None, rows: int | None, n_channels: int, features: tuple[str, ...]
) -> tuple[Form, int]:
    """In which shape a model with these inputs takes windows, and of how many rows.

    ``rows`` is None where the model is to say it; ``inputs`` are None of a network that is yet to
    be made, which takes flat windows.

    Raises:
        ParameterError: the model takes no such windows, or it is not clear which.
    """
    if inputs is None:
        if rows is None:
            raise ParameterError(
                "window= is missing, expected how many rows a sample has: add window=ROWS"
            )
        width = n_features(features, rows, n_channels) if features else rows * n_channels
        return Form("features" if features else "flat", (width,)), rows
    if len(inputs) != 1 or not inputs[0].reals:
        takes = ", ".join(f"{each.name} {shape_text(each.shape)} {each.dtype}" for each in inputs)
        raise ParameterError(
            f"the model takes {takes}, expected one input of real numbers: use another model"
        )
    shape = inputs[0].shape
    free = tuple(size for size in shape if size != 1)
    if features:
        return _of_features(shape, free, rows, n_channels, features)
    if inputs[0].hop:
        return _of_calls(inputs[0], rows, n_channels)
    options: list[tuple[str, int | None]] = []  # axes, and rows where the model says them
    if len(free) == 2:
        first, last = free
        options += [("tc", first)] if last in (None, n_channels) else []
        options += [("ct", last)] if first in (None, n_channels) else []
    elif len(free) == 1 and n_channels == 1:
        options += [("tc", free[0])]
    elif len(free) == 1:
        whole = free[0] is None or free[0] % n_channels == 0
        options += [("flat", None if free[0] is None else free[0] // n_channels)] if whole else []
    if rows is None and None in [of for _, of in options]:
        raise ParameterError(
            "window= is missing, the model takes windows of any length: add window=ROWS"
        )
    fitting = [(axes, of or rows) for axes, of in options if rows is None or of in (None, rows)]
    got = f"windows of {'any number of' if rows is None else rows} rows x {n_channels} channels"
    if len(fitting) != 1:
        fix = "correct window= or channels="
        if len(fitting) > 1:
            fix = "choose window= unlike the number of channels"
        raise ParameterError(
            f"the model takes {shape_text(shape)}, got {got}, expected windows that fit it in one "
            f"way, rows or channels first: {fix}"
        )
    axes, n_rows = fitting[0]
    return Form(axes, _filled(shape, axes, n_rows or 0, n_channels)), n_rows or 0


def _of_calls(given: Input, rows: int | None, n_channels: int) -> tuple[Form, int]:
    """Windows of several calls of a model with a state between them, rows first."""
    step = tuple(size or 1 for size in given.shape[1:])
    each = given.hop or 1
    if len(step) < 2:  # a row is a call
        step, each = (1, *step), 1
    if rows is None or rows % each or math.prod(step[1:]) != n_channels:
        count = "any number of" if rows is None else rows
        raise ParameterError(
            f"the model takes {shape_text(given.shape[1:])} a call, got windows of {count} rows x "
            f"{n_channels} channels, expected a whole number of calls, {each} rows each: correct "
            "window= or channels="
        )
    return Form("tc", (rows, *step[1:])), rows


def _filled(shape: Sequence[int | None], axes: str, rows: int, n_channels: int) -> tuple[int, ...]:
    """``shape`` without what it leaves open."""
    sizes = {"tc": [rows, n_channels], "ct": [n_channels, rows], "flat": [rows * n_channels]}[axes]
    if sum(size != 1 for size in shape) == 1 and axes == "tc":
        sizes = [rows]
    return tuple(1 if size == 1 else sizes.pop(0) for size in shape)


def _of_features(
    shape: Sequence[int | None], free: Sequence[int | None], rows: int | None, n_channels: int,
    features: tuple[str, ...],
) -> tuple[Form, int]:  # fmt: skip
    if rows is None:
        raise ParameterError(
            "window= is missing beside features=, expected how many rows they are of: add "
            "window=ROWS"
        )
    width = n_features(features, rows, n_channels)
    if len(free) != 1 or free[0] not in (None, width):
        raise ParameterError(
            f"the model takes {shape_text(shape)}, {', '.join(features)} of {n_channels} channels "
            f"are {width} numbers, expected as many: correct features=, window= or channels="
        )
    return Form("features", tuple(width if size != 1 else 1 for size in shape)), rows
