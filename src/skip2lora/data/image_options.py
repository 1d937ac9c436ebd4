"""How images become numbers: size, mean, deviation and order of axes, told once and kept."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from skip2lora.data.crop_options import Crops, following
from skip2lora.data.image_layout import CHANNELS, MOST_PIXELS, Input, Layout, layout_of, valid_size
from skip2lora.errors import ParameterError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_LEAST_SECONDS = 0.001  # from one frame of a video to the next


@dataclass(frozen=True, kw_only=True)
class Images:
    """How images become numbers; ``size`` is (height, width).

    ``mean`` and ``std`` are one number, or one a channel, of pixels from 0 to 1. ``axes`` is the
    order of axes, as of :class:`~skip2lora.data.image_layout.Layout`. What is None is as by
    default: size and axes those of the model, mean 0, std 1. ``bits`` is how many of the 16 of an
    image count, None where there is no such image. ``crops`` is how samples are cut from images,
    None where each image is one; ``every`` the seconds from one frame of a video to the next, None
    where there are no videos.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    axes: str | None = None
    bits: int | None = None
    crops: Crops | None = None
    every: float | None = None
    #: What messages call the options that make them, and the files they are for; where an adapter
    #: keeps them.
    options, files, key = (
        "size, mean, std, every, segments, confidence, category, margin or square", "images",
        "images",
    )  # fmt: skip

    @property
    def asked(self) -> bool:
        """Whether anything is told."""
        return self != Images()

    @property
    def scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std, with their defaults."""
        return self.mean or (0.0,), self.std or (1.0,)

    @property
    def scaled(self) -> bool:
        """Whether pixels are scaled beyond 0 to 1."""
        return self.scale != ((0.0,), (1.0,))

    def following(self, earlier: Any) -> Images:
        """``earlier``, as a model or an adapter keeps it, of which only ``every`` may be another.

        Raises:
            ParameterError: it is not, or there are no boxes of an adapter made of crops.
        """
        if earlier is None:
            return self
        if not isinstance(earlier, Images):
            raise ParameterError(
                f"the model learned from {earlier.files}, got {self.files}, expected "
                f"{earlier.files}: pass some"
            )
        pairs = zip(("mean", "std"), self.scale, earlier.scale, strict=True)
        for name, given, of in (("size", self.size, earlier.size), *pairs):
            if getattr(self, name) is not None and not _same(given, of):
                raise ParameterError(
                    f"{name}= is {_told(name, given)}, the model learned with "
                    f"{_told(name, of)}, expected the same: leave it out, or learn anew"
                )
        crops = following(self.crops, earlier.crops)
        every = self.every or earlier.every
        same = (crops, every) == (earlier.crops, earlier.every)
        return earlier if same else replace(earlier, crops=crops, every=every)

    def resolved(self, inputs: Sequence[Input]) -> Images:
        """All of it, for a model with these inputs, to be kept."""
        layout = layout_of(inputs)
        mean, std = self.scale
        size = find_size(self, layout)
        crops = None if self.crops is None else self.crops.known
        return Images(
            size=size, mean=mean, std=std, axes=layout.axes, bits=self.bits, crops=crops,
            every=self.every,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What is told, as JSON holds it."""
        said = {"size": self.size, "mean": self.mean, "std": self.std}
        lists = {name: list(value) for name, value in said.items() if value is not None}
        crops = None if self.crops is None else self.crops.to_json()
        others = {
            "layout": self.axes, "bits": self.bits, "crops": crops, "every": self.every,
        }  # fmt: skip
        return lists | {name: value for name, value in others.items() if value is not None}

    def __str__(self) -> str:
        """Such as ``size 224x224, mean 0, std 1, layout chw``."""
        said = [f"{n} {_told(n, getattr(self, n))}" for n in ("size", "mean", "std")]
        bits = [] if self.bits is None else [f"{self.bits} of 16 bits"]
        crops = [] if self.crops is None else [str(self.crops)]
        every = [] if self.every is None else [f"frames every {self.every:g} s"]
        return ", ".join([*said, f"layout {self.axes}", *bits, *crops, *every])

    @classmethod
    def from_json(cls, entries: Any) -> Images:
        """What :meth:`to_json` gave.

        Raises:
            AttributeError, KeyError, TypeError, ValueError, ParameterError: it gave something else.
        """
        size, axes, bits = (entries.get(name) for name in ("size", "layout", "bits"))
        crops = Crops.from_json(entries["crops"]) if "crops" in entries else None
        every = _seconds(float(entries["every"])) if "every" in entries else None
        if size is not None:
            height, width = map(int, size)
            size = (height, width)
        scale = {n: tuple(map(float, entries[n])) for n in ("mean", "std") if n in entries}
        if not all(math.isfinite(value) for numbers in scale.values() for value in numbers):
            raise ValueError("images")
        if bits is not None and bits not in range(8, 17):
            raise ValueError("images")
        return cls(
            size=size, axes=None if axes is None else str(axes), bits=bits, crops=crops,
            every=every, **scale,
        )  # fmt: skip

    @classmethod
    def parse(
        cls, size: str | None, mean: str | None, std: str | None, every: float | None = None,
        **crops: Any,
    ) -> Images:  # fmt: skip
        """From text: ``224`` or ``HEIGHTxWIDTH``; numbers, fractions such as ``1/255``, imagenet.

        ``mean`` imagenet brings its ``std`` along unless that is given too. ``crops`` are as of
        :meth:`~skip2lora.data.crop_options.Crops.parse`.

        Raises:
            ParameterError: one of them is something else.
        """
        if mean == "imagenet" and std is None:
            std = "imagenet"
        means = None if mean is None else _numbers("mean", mean, IMAGENET_MEAN)
        stds = None if std is None else _numbers("std", std, IMAGENET_STD)
        if stds is not None and min(stds) <= 0:
            raise ParameterError(f"std= is {std}, expected numbers above 0: correct it")
        return cls(
            size=None if size is None else _size(size), mean=means, std=stds,
            crops=Crops.parse(**crops) if crops else None,
            every=None if every is None else _seconds(every),
        )  # fmt: skip


def _same(given: Any, earlier: Any) -> bool:
    """Whether both are the same, one number standing for all channels."""
    if given is None or earlier is None:
        return given is earlier
    most = max(len(given), len(earlier))
    wide = [values * most if len(values) == 1 else values for values in (given, earlier)]
    return bool(wide[0] == wide[1])


def _told(name: str, values: Any) -> str:
    if values is None:
        return "none"
    return ("x" if name == "size" else ",").join(f"{value:g}" for value in values)


def _seconds(every: float) -> float:
    if not (math.isfinite(every) and every >= _LEAST_SECONDS):
        raise ParameterError(
            f"every= is {every:g}, expected seconds from {_LEAST_SECONDS:g}, such as 1: correct it"
        )
    return every


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) <= 2 and all(re.fullmatch(r"[0-9]{1,9}", side) for side in sides):
        height, width = int(sides[0]), int(sides[-1])
        if valid_size(height, width):
            return height, width
    raise ParameterError(
        f'size= is "{text}", expected pixels from 1 to {MOST_PIXELS}, such as 224 or 192x256 '
        "(height x width): correct it"
    )


def _numbers(name: str, text: str, imagenet: tuple[float, ...]) -> tuple[float, ...]:
    if text == "imagenet":
        return imagenet
    try:
        # A Fraction of 1e999999999 has that many digits.
        numbers = tuple(
            float(Fraction(part.strip())) if "/" in part else float(part)
            for part in text.split(",")
        )
    except (ValueError, ZeroDivisionError, OverflowError):
        numbers = ()
    if len(numbers) not in CHANNELS or not all(map(math.isfinite, numbers)):
        raise ParameterError(
            f'{name}= is "{text}", expected 1 number, 3 such as 0.5,0.5,0.5, or imagenet: '
            "correct it"
        )
    return numbers


def find_size(images: Images, layout: Layout) -> tuple[int, int]:
    """Height and width that images are resized to: those asked for, or the model's.

    Raises:
        ParameterError: neither tells, or both and differently.
    """
    wanted = images.size
    if wanted is None:
        if layout.height is None or layout.width is None:
            takes = "images of any size" if layout.axes != "flat" else _rows(layout)
            raise ParameterError(
                f"size= is missing, the model takes {takes}: add size=HEIGHTxWIDTH, such as "
                "size=224"
            )
        return layout.height, layout.width
    for side, fixed in zip(wanted, (layout.height, layout.width), strict=True):
        if fixed not in (None, side):
            raise ParameterError(
                f"size= is {wanted[0]}x{wanted[1]}, the model takes {layout.height or 'any'}x"
                f"{layout.width or 'any'}: leave size= out, images are resized to that"
            )
    return wanted


def _rows(layout: Layout) -> str:
    return "rows" if layout.n_features is None else f"rows of {layout.n_features} numbers"
