"""In which shape a model takes an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from skip2lora.arrays import shape_text
from skip2lora.errors import DataError, ParameterError

CHANNELS = (1, 3)
MOST_PIXELS = 1 << 14  # an axis


@dataclass(frozen=True)
class Layout:
    """In which shape a model takes an image.

    ``axes`` is chw, hwc, hw, or flat for a row of height x width x channels. ``height``, ``width``
    and ``channels`` are None where the model leaves them open; ``n_features`` is the width of a
    row, None where that is open. Models that read ``integers`` take pixels from 0 to 255.
    """

    axes: Literal["chw", "hwc", "hw", "flat"]
    height: int | None = None
    width: int | None = None
    channels: int | None = None
    n_features: int | None = None
    integers: bool = False


def valid_size(height: int, width: int) -> bool:
    """Whether images can have so many pixels."""
    return min(height, width) >= 1 and max(height, width) <= MOST_PIXELS


def check_size(size: Any) -> tuple[int, int]:
    """``size`` as (height, width).

    Raises:
        ParameterError: it is something else.
    """
    try:
        height, width = size
    except (TypeError, ValueError):
        height = width = None
    if type(height) is not int or type(width) is not int or not valid_size(height, width):
        raise ParameterError(
            f"size is {size!r}, expected height and width of 1 to {MOST_PIXELS} pixels: pass such "
            "as (224, 224)"
        )
    return height, width


#: Rows of pixels, for a network that is yet to be made.
ANY_LAYOUT = Layout("flat")


class Input(Protocol):
    """What is asked of a model's input, an InputSpec of its runtime."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Sizes of its axes."""

    @property
    def hop(self) -> int | None:
        """By how much a call goes on, where the first axis are calls of a model with a state."""

    @property
    def dtype(self) -> str:
        """The NumPy name of its type."""

    @property
    def reals(self) -> bool:
        """Whether it takes real numbers."""


def layout_of(inputs: Sequence[Input]) -> Layout:
    """In which shape a model with these inputs takes an image.

    Raises:
        DataError: it takes something else than one image.
    """
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise DataError(
            f"the model takes {len(inputs)} inputs ({names}), a folder of images gives one: "
            "pass a .npz with an array for each"
        )
    spec = inputs[0]
    shape = tuple(spec.shape)
    integers = np.dtype(spec.dtype).kind in "iu" and not spec.reals
    if len(shape) == 1:
        return Layout("flat", n_features=shape[0], integers=integers)
    if len(shape) == 2:
        return Layout("hw", *shape, channels=1, integers=integers)
    first, last = (len(shape) == 3 and shape[at] in CHANNELS for at in (0, -1))
    if first == last:
        raise DataError(
            f"the model takes samples of shape {shape_text(shape)}, expected one image with 1 or 3 "
            "channels, first or last: pass a .npz with X in that shape"
        )
    if first:
        return Layout("chw", shape[1], shape[2], shape[0], integers=integers)
    return Layout("hwc", shape[0], shape[1], shape[2], integers=integers)
