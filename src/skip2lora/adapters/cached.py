"""A model whose rows are looked up in a folder, and computed where that has none."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import __version__, _core
from skip2lora.adapters.folder import Tapping
from skip2lora.adapters.rows import FLOAT_BYTES, RowFormat
from skip2lora.adapters.shards import NARROW, rows_of_shard
from skip2lora.adapters.store import CacheFolder, Places
from skip2lora.backbones.base import Backbone, Taps
from skip2lora.backbones.field_mlp import FieldMLP
from skip2lora.backbones.standins import Into, Locate, SameOutputs
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.data.lazy import digests_of, parts_of
from skip2lora.data.media import Media
from skip2lora.errors import ModelError, ParameterError

#: Of the largest number: what passing again may change, as of sums in another order.
_ALIKE = 1e-4
#: After which a shard is written though it is not full: what a kill costs, beside one batch.
_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class LookedUp:
    """Samples with their digests, and where their rows are."""

    x: Any
    digests: list[bytes]
    places: Places

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, which: slice) -> LookedUp:
        return LookedUp(self.x[which], self.digests[which], self.places[which])


class Filling:
    """Looks rows of a model up in a folder, and adds those that it lacks.

    ``n_computed`` samples passed the model so far.
    """

    def __init__(self, backbone: Backbone, folder: CacheFolder) -> None:
        self.format = RowFormat.of(backbone, copy_input=True)
        self.n_computed = 0
        # Models of files were looked at when they were loaded; a class of a user may do anything.
        self._unsure = backbone.runtime is None and backbone.network is None
        self._backbone, self._folder = backbone, folder
        self._rows = self.format.empty(rows_of_shard(self.format.row_bytes))  # not written yet
        self._waiting: dict[bytes, int] = {}
        self._written = time.monotonic()

    def rows(self, x: Any) -> NDArray[np.float32]:
        """Of checked samples, (samples, row_stride).

        Raises:
            FileError: the folder cannot be read or written.
            ModelError: as :meth:`RowFormat.compute`.
        """
        samples = self.looked_up(x)
        missing = samples.places.missing
        rows = self.format.empty(len(x)) if len(missing) else _unset(self.format, len(x))
        samples.places.read(rows)
        self._compute(samples.x, samples.digests, missing, rows)
        return rows

    def looked_up(self, x: Any) -> LookedUp:
        """Checked samples, and where the rows of those are that have one."""
        if isinstance(x, LookedUp):
            return x
        digests = digests_of(x, self._folder.known)
        return LookedUp(x, digests, self._places_of(digests))

    def locate(self, x: Any, seen: Callable[[int], None]) -> Places:
        """Where the rows of checked samples are: all are in the folder then.

        Raises:
            FileError, ModelError: as :meth:`rows`.
        """
        several = []
        for part in parts_of(x, SAMPLES_AT_ONCE):
            of_part = digests_of(x[part], self._folder.known)
            several.append(self._places_of(of_part))
            missing = several[-1].missing
            if len(missing):
                self._compute(x[part], of_part, missing, self.format.empty(len(of_part)))
            seen(len(of_part))
        places = Places.joined(several)
        late = places.missing
        while len(late):  # again where a file that others wrote is damaged
            self.write()
            for at in range(0, len(late), SAMPLES_AT_ONCE):
                some = late[at : at + SAMPLES_AT_ONCE]
                of_some = digests_of(x[some], self._folder.known)
                there = self._folder.rows(of_some)
                if len(there.missing):
                    self._compute(x[some], of_some, there.missing, self.format.empty(len(some)))
                places.shard[some], places.row[some] = there.shard, there.row
            late = places.missing
        return places

    def _places_of(self, digests: list[bytes]) -> Places:
        places = self._folder.rows(digests)
        if len(places.missing):
            self._folder.refresh()
            places = self._folder.rows(digests)
        return places

    def _compute(
        self, x: Any, digests: list[bytes], missing: NDArray[np.intp], rows: NDArray[np.float32]
    ) -> None:
        """Rows that are nowhere yet, each sample once; those that wait are copied."""
        first: dict[bytes, int] = {}
        for at in missing.tolist():
            if digests[at] in self._waiting:
                rows[at] = self._rows[self._waiting[digests[at]]]
            else:
                first.setdefault(digests[at], at)
        new = np.array(list(first.values()), np.intp)
        if self._unsure and len(new):
            self._check_same(x[new[:1]])
        for places in parts_of(new, self._backbone.samples_at_once):
            part, some = new[places], _run(new[places])
            computed = rows[some] if isinstance(some, slice) else self.format.empty(len(part))
            self.format.compute(self._backbone, x[some], computed)
            self.n_computed += len(part)
            if not isinstance(some, slice):
                rows[some] = computed
            self._add([digests[at] for at in part], computed)
        for at in missing.tolist():
            again = first.get(digests[at], at)
            if again != at:
                rows[at] = rows[again]

    def _check_same(self, sample: Any) -> None:
        """Raise ModelError if one sample has other numbers when it passes again."""
        one, again = self.format.empty(1), self.format.empty(1)
        for row in (one, again):
            self.format.compute(self._backbone, sample, row)
        if not np.allclose(one, again, rtol=_ALIKE, atol=_ALIKE * np.abs(one).max()):
            raise ModelError(
                f"the model gave the same sample other numbers when it passed again, up to "
                f"{np.abs(one - again).max():.3g} apart, expected the same, as its rows are kept: "
                "take out what is random (dropout, augmentation), or make several samples of each "
                "before"
            )
        self._unsure = False

    def _add(self, digests: list[bytes], rows: NDArray[np.float32]) -> None:
        if len(self._waiting) + len(rows) > len(self._rows):
            self.write()
        start = len(self._waiting)
        self._rows[start : start + len(rows)] = rows
        self._waiting |= {digest: start + at for at, digest in enumerate(digests)}
        full = len(self._waiting) == len(self._rows)
        if full or time.monotonic() - self._written > _SECONDS:
            self.write()

    def write(self) -> None:
        """Put what was computed into the folder.

        Raises:
            FileError: the system refused; what is there stays as it is.
        """
        if self._waiting:
            self._folder.append(list(self._waiting), self._rows[: len(self._waiting)])
            self._waiting = {}
        self._written = time.monotonic()


def _unset(rows: RowFormat, n_rows: int) -> NDArray[np.float32]:
    """Rows of any numbers, (n_rows, row_stride), to be read whole, with their padding."""
    return np.empty((n_rows, rows.layout.row_stride), np.float32)


def _run(places: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """These, as a slice where they are neighbours: what has it is not copied."""
    first, last = int(places[0]), int(places[-1]) + 1
    return slice(first, last) if last - first == len(places) else places


@dataclass(frozen=True, eq=False, repr=False)
class Cached(SameOutputs):
    """``backbone``, whose rows are kept in a folder: only those of new samples are computed."""

    filling: Filling

    @property
    def reads(self) -> bool:
        """Samples are read where their rows are missing."""
        return True

    def looked_up(self, x: Any) -> tuple[Any, bool]:
        """Samples with where their rows are, and whether all of them are in the folder."""
        if isinstance(x, Places):
            return x, True
        of = self.filling.looked_up(x)
        return of, not len(of.places.missing)

    @property
    def locate(self) -> Locate:
        """Rows of all samples are in the folder."""
        return self.filling.locate

    def reads_into(self, layout: _core.RowLayout) -> bool:
        """Whether taps stand alike in both; in narrow rows, which are many, all else too."""
        own = self.filling.format.layout
        if (layout.tap_offsets, layout.logits_offset) != (own.tap_offsets, own.logits_offset):
            return False
        return _same(layout, own) or FLOAT_BYTES * own.row_stride > NARROW

    def forward(self, x: Any) -> Taps:
        """Taps and base logits of checked samples, or of those at some places."""
        layout, at = self.filling.format, self.filling.format.layout.logits_offset
        if isinstance(x, Into):
            rows, behind = x.rows, self._read(x)
        else:
            if isinstance(x, Places):
                x.read(rows := _unset(layout, len(x)))  # none is missing
            else:
                rows = self.filling.rows(x)
            behind = rows[:, at:]
        places = zip(layout.layout.tap_offsets, layout.tap_widths, strict=True)
        taps = tuple(rows[:, start : start + width] for start, width in places)
        return Taps(taps, behind[:, : layout.n_outputs])

    def _read(self, x: Into) -> NDArray[np.float32]:
        """Taps to where they are wanted; what stands behind them, (samples, floats)."""
        own, samples = self.filling.format.layout, x.samples
        places, at = samples.places if isinstance(samples, LookedUp) else samples, own.logits_offset
        if _same(x.layout, own):
            places.read(x.rows)
            return x.rows[:, at:]
        behind = np.empty((len(x), own.row_stride - at), np.float32)
        places.read(x.rows[:, :at], behind)
        return behind


def _same(one: _core.RowLayout, other: _core.RowLayout) -> bool:
    """Whether rows are as long and have as many logits, where taps stand alike."""
    return (one.row_stride, one.n_outputs) == (other.row_stride, other.n_outputs)


@contextmanager
def rows_kept_in(
    folder: CacheFolder, backbone: Backbone, images: Media | None = None
) -> Iterator[tuple[Backbone, Filling]]:
    """Yield ``backbone`` with rows that are kept in ``folder``, and what counts them.

    ``images`` is how images became samples. At the end what was computed is in the folder, whatever
    ended it.

    Raises:
        FileError: as :meth:`CacheFolder.claim`.
        ModelError: as there.
        ParameterError: the rows of ``backbone`` change with the samples.
    """
    if isinstance(backbone, FieldMLP):
        raise ParameterError(
            f"the recipe auto gives {backbone!r} the batch-norm statistics of these samples, with "
            "which every row changes, expected rows that last beside cache=: pass solver='exact', "
            "or leave cache= out"
        )
    filling = Filling(backbone, folder)
    folder.claim(depends_on(backbone, filling.format, images), filling.format.layout.row_stride)
    try:
        yield Cached(backbone, filling), filling
    finally:
        filling.write()
        folder.known.write()


def depends_on(
    backbone: Backbone, row_format: RowFormat, images: Media | None
) -> dict[str, object]:
    """All that rows of a model depend on beside the samples, as JSON has it."""
    return {
        "model": backbone.fingerprint,
        "runtime": backbone.runtime,
        "skip2lora": __version__,
        "kernels": _core.kernels(),
        "machine": platform.machine(),
        "tapping": Tapping.of(backbone).to_json(),
        "images": None if images is None else images.to_json(),
        "tap_widths": list(row_format.tap_widths),
        "n_outputs": row_format.n_outputs,
        "row_floats": row_format.layout.row_stride,
        "dtype": "float32",
    }
