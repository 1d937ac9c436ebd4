"""Taps of any network: which layers' inputs to take, and how each becomes one row of numbers.

A feature map is averaged over a grid of places, a sequence becomes the mean of its tokens and its
first token, a vector stays itself. Averages are products with constant matrices, so that NumPy, a
graph of another runtime and an exported model compute the same.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import listing, whole
from skip2lora.errors import ModelError, ParameterError

MOST_TAPS = 16
SAMPLES_AT_ONCE = 256  # whose rows are in memory beside those that are kept
FORWARD_AT_ONCE = 64  # of these, which a model runs on at a time
GRID = 4
MOST_WIDTH = 4096
_MOST_GRID = 64

#: vector (samples, width); map: channels and one or two axes of places; sequence (samples, tokens,
#: width).
Kind = Literal["vector", "map", "sequence"]
#: Which layers to tap: None for the default, a number of them, numbers, names or patterns.
Selection = int | str | Sequence[int | str] | None
#: Name, shape of one sample and kind of numbers of each input.
Shapes = tuple[tuple[str, tuple[int, ...], str], ...]


@dataclass(frozen=True)
class Tap:
    """The input of one layer, and the row it becomes.

    ``shape`` is that of one sample as the runtime gives it, with None for an axis that changes from
    sample to sample. ``channels_last`` says where the channels of a map are. ``grid`` are the
    places of a map that are kept, one number an axis; () for the other kinds.
    """

    layer: str
    tensor: str
    kind: Kind
    shape: tuple[int | None, ...]
    channels_last: bool = False
    grid: tuple[int, ...] = ()

    @functools.cached_property
    def width(self) -> int:
        """Floats of the row."""
        if self.kind == "vector":
            return _known(self.shape[-1], self)
        if self.kind == "sequence":
            return 2 * _known(self.shape[-1], self)
        return _known(self.shape[-1 if self.channels_last else 0], self) * math.prod(self.grid)


def _known(size: int | None, tap: Tap) -> int:
    if size is None:
        raise ModelError(
            f"the input of layer {tap.layer} has shape {tap.shape} with an unknown width, expected "
            "a fixed one: leave the layer out with taps=, or fix the shape of the model"
        )
    return size


def grid_of(
    channels: int, places: Sequence[int | None], *, grid: int = GRID, most: int = MOST_WIDTH
) -> tuple[int, ...]:
    """The grid a map is averaged over: ``grid`` places an axis, or as many as there are.

    It shrinks until ``channels`` times its places is at most ``most``, down to one place.
    """
    size = grid
    while size > 1:
        cells = tuple(min(size, size if n is None else n) for n in places)
        if channels * math.prod(cells) <= most:
            return cells
        size -= 1
    return (1,) * len(places)


def tap_of(
    layer: str,
    tensor: str,
    shape: tuple[int | None, ...],
    *,
    channels_first: bool = False,
    grid: int = GRID,
    most_axes: int | None = None,
) -> Tap:
    """The tap of a tensor that is ``shape`` for one sample: a vector, a sequence or a map.

    One axis is a vector, two are the tokens of a sequence and their width, more a map. What a
    layer reads with its ``channels_first`` is a map as well. ``grid`` are the places an axis of a
    map keeps, one where sizes change from sample to sample, as then one average over all places is
    what stays the same. Of more than ``most_axes`` axes of places the first are averaged away.
    """
    if len(shape) == 1:
        return Tap(layer, tensor, "vector", shape)
    if len(shape) == 2 and not channels_first:
        return Tap(layer, tensor, "sequence", shape)
    places = shape[1:] if channels_first else shape[:-1]
    channels, cells = shape[0 if channels_first else -1], (1,) * len(places)
    if channels is not None and None not in places:
        inner = places if most_axes is None else places[-most_axes:]
        cells = (1,) * (len(places) - len(inner)) + grid_of(channels, inner, grid=grid)
    return Tap(layer, tensor, "map", shape, not channels_first, cells)


def taps_of(
    tensors: Sequence[tuple[str, str, tuple[int | None, ...], bool]], *, grid: int
) -> list[Tap]:
    """:func:`tap_of` of several, each its layer, tensor, shape and whether channels are first."""
    return [
        tap_of(layer, tensor, shape, channels_first=channels_first, grid=grid)
        for layer, tensor, shape, channels_first in tensors
    ]


def widths_of(taps: Sequence[Tap]) -> tuple[int, ...]:
    """Floats of each row."""
    return tuple(tap.width for tap in taps)


def check_grid(grid: int | None) -> int:
    """Places that an axis of a map keeps: ``grid``, or 4 where it is None.

    Raises:
        ParameterError: it is out of range.
    """
    return GRID if grid is None else whole("grid", grid, 1, _MOST_GRID)


def averaging(n_places: int, n_kept: int) -> NDArray[np.float32]:
    """The matrix (n_kept, n_places) that averages neighbouring places, as adaptive pooling does."""
    matrix = np.zeros((n_kept, n_places), np.float32)
    for row, (start, stop) in enumerate(_cells(n_places, n_kept)):
        matrix[row, start:stop] = 1.0 / (stop - start)
    return matrix


def _cells(n_places: int, n_kept: int) -> list[tuple[int, int]]:
    """Where the neighbours that are averaged start and stop."""
    return [(row * n_places // n_kept, -(-(row + 1) * n_places // n_kept)) for row in range(n_kept)]


@functools.cache
def _averaging(n_places: int, n_kept: int) -> NDArray[np.float32]:
    return averaging(n_places, n_kept)


def rows_of(
    tap: Tap, values: NDArray[np.float32], mask: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """What ``values``, (samples, ...) with the tap's shape, become: (samples, width).

    ``mask``, (samples, tokens), is 1 for the tokens of a sequence that count. Channels of a map
    come first in a row, then its places.
    """
    if tap.kind == "vector":
        return values.reshape(len(values), -1)
    if tap.kind == "sequence":
        return _sequence_rows(values.reshape(len(values), -1, values.shape[-1]), mask)
    places = range(1, 1 + len(tap.grid)) if tap.channels_last else range(1 + len(tap.grid), 1, -1)
    for axis, n_cells in zip(
        places, tap.grid if tap.channels_last else tap.grid[::-1], strict=True
    ):
        values = _averaged(values, axis, n_cells)
    if tap.channels_last:
        values = values.transpose(0, -1, *places)
    return np.ascontiguousarray(values.reshape(len(values), tap.width), np.float32)


def _averaged(values: NDArray[np.float32], axis: int, n_cells: int) -> NDArray[np.float32]:
    """``values`` with that axis averaged to ``n_cells`` places.

    Sample by sample with the same products, so a row's bits do not depend on its batch, and along
    memory, which takes a quarter of the time that moving the axis does.
    """
    lead, (n_places, *trail) = values.shape[:axis], values.shape[axis:]
    if n_places == n_cells:
        return values
    matrix = _averaging(n_places, n_cells)
    if not trail:
        return values @ matrix.T
    # The width is given, as -1 is not known of no samples.
    flat = values.reshape(*lead, n_places, math.prod(trail))
    return (matrix @ flat).reshape(*lead, n_cells, *trail)


def _sequence_rows(
    values: NDArray[np.float32], mask: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    if mask is None:
        mean = values.mean(axis=1)
    else:
        weights = mask.astype(np.float32)[:, :, None]
        mean = (values * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)
    return np.concatenate([mean, values[:, 0]], axis=1, dtype=np.float32)


def thinned(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` numbers, evenly spread; the first and the last stay."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [count - 1]
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def chosen(layers: Sequence[str], taps: Selection) -> list[int]:
    """Places of the layers that ``taps`` selects, in the network's order.

    None takes all, thinned evenly to 16; one whole number that many, evenly spread; otherwise
    numbers (from 0, negative from the end), names and patterns such as ``block*``.

    Raises:
        ParameterError: a name, pattern or number that fits no layer.
    """
    if taps is None:
        return thinned(len(layers), MOST_TAPS)
    if isinstance(taps, int):
        if not 1 <= taps <= len(layers):
            raise ParameterError(
                f"taps is {taps}, expected a number of layers from 1 to {len(layers)}: "
                "see `skip2lora inspect`"
            )
        return thinned(len(layers), taps)
    words = [taps] if isinstance(taps, str) else list(taps)
    if not words:
        raise ParameterError("taps is empty, expected at least one layer: leave it out for all")
    return sorted({place for word in words for place in _places(layers, word)})


def chosen_taps(taps: Sequence[Tap], selection: Selection) -> tuple[list[int], tuple[int, ...]]:
    """Places of the taps that ``selection`` selects, as :func:`chosen`, and the width of each."""
    places = chosen([tap.layer for tap in taps], selection)
    return places, widths_of([taps[place] for place in places])


def _places(layers: Sequence[str], word: int | str) -> list[int]:
    if isinstance(word, int) and not isinstance(word, bool):
        if not -len(layers) <= word < len(layers):
            raise ParameterError(
                f"taps has layer {word}, expected a number from 0 to {len(layers) - 1}: "
                "see `skip2lora inspect`"
            )
        return [word % len(layers)]
    if isinstance(word, str):
        places = [at for at, name in enumerate(layers) if name == word]
        places = places or [at for at, name in enumerate(layers) if fnmatch.fnmatchcase(name, word)]
        if places:
            return places
        near = difflib.get_close_matches(word, layers, cutoff=0.3) or layers
        raise ParameterError(
            f'taps has "{word}", which fits no layer, expected names or patterns such as '
            f"{listing(near)}: see `skip2lora inspect`"
        )
    raise ParameterError(
        f"taps has {word!r}, expected names, patterns or numbers of layers: see `skip2lora inspect`"
    )
