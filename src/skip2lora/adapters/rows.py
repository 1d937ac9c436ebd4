"""Rows: what the frozen layers computed for one sample, laid out for the fused step.

A row holds the taps side by side, each padded, then the base logits. The sample itself, x^1, is
not copied into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.coded import DTYPES, N_TABLES, CodedRows
from skip2lora.backbones.base import Backbone, Taps
from skip2lora.backbones.derived import Derived
from skip2lora.backbones.known_rows import KnownRows, not_finite_rows
from skip2lora.backbones.standins import Into, StandIn
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.data.lazy import LazySamples, parts_of, read
from skip2lora.errors import ModelError

_ALIGN_BYTES = 64  # S2_ALIGN
FLOAT_BYTES = 4
#: What makes room in a Skip-Cache that is full: nothing, or the row goes that was added, or used,
#: longest ago.
POLICIES = {"pin": _core.PIN, "fifo": _core.FIFO, "lru": _core.LRU}
_READ_BYTES = 1 << 20  # of rows from a disk at a time, few enough for the processor's cache
_TABLES = 3  # numbers a slot in the tables of a policy, beside one a sample
_NO_SLOT = np.iinfo(np.uint32).max


@dataclass(frozen=True, eq=False)
class RowFormat:
    """How rows of a backbone are laid out when its taps ``first_tap``, ... last have an adapter.

    They are computed as float32; a cache keeps them as ``dtype``.
    """

    tap_widths: tuple[int, ...]
    n_outputs: int
    first_tap: int
    first_tap_is_input: bool
    layout: _core.RowLayout
    dtype: str = "float32"

    @classmethod
    def of(
        cls, backbone: Backbone, first_tap: int = 0, *, n_outputs: int | None = None,
        copy_input: bool = False, dtype: str = "float32",
    ) -> RowFormat:  # fmt: skip
        """The format for the taps of ``backbone`` from ``first_tap`` on.

        ``n_outputs`` may be more than those of ``backbone``: the base logits of the others are 0.
        With ``copy_input`` a first tap that is the sample itself is copied all the same.
        """
        widths = tuple(backbone.tap_widths[first_tap:])
        outputs = max(1, backbone.n_outputs) if n_outputs is None else n_outputs  # a row has one
        is_input = backbone.first_tap_is_input and first_tap == 0 and not copy_input
        return _row_format(widths, outputs, first_tap, is_input, dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and other processes: the core's layout is made again."""
        return _row_format, (
            self.tap_widths, self.n_outputs, self.first_tap, self.first_tap_is_input, self.dtype
        )  # fmt: skip

    @property
    def payload_bytes(self) -> int:
        """Bytes of a row that mean something: copied taps and base logits."""
        copied = self.tap_widths[1:] if self.first_tap_is_input else self.tap_widths
        of_taps = FLOAT_BYTES * sum(copied)
        if self.dtype != "float32":
            of_taps = _core.code_bytes(DTYPES[self.dtype], sum(copied) + sum(copied) % 2)
        return of_taps + FLOAT_BYTES * self.n_outputs

    @property
    def row_bytes(self) -> int:
        """Bytes of a row with its padding, as it is kept."""
        if self.dtype != "float32":
            return _core.coded_row_bytes(self.layout, DTYPES[self.dtype])
        return FLOAT_BYTES * self.layout.row_stride

    @property
    def table_bytes(self) -> int:
        """Bytes beside all rows: of what their codes stand for."""
        return 0 if self.dtype == "float32" else N_TABLES * FLOAT_BYTES * self.layout.logits_offset

    def empty(self, n_rows: int) -> NDArray[np.float32]:
        """Zeroed rows, (n_rows, row_stride), aligned for the kernels."""
        size = n_rows * self.layout.row_stride
        spare = _ALIGN_BYTES // FLOAT_BYTES
        floats = np.zeros(size + spare, np.float32)
        start = -floats.ctypes.data % _ALIGN_BYTES // FLOAT_BYTES
        return floats[start : start + size].reshape(n_rows, self.layout.row_stride)

    def kept(self, n_rows: int) -> NDArray[np.float32] | CodedRows:
        """Room to keep so many rows."""
        if self.dtype != "float32":
            return CodedRows.empty(self.layout, n_rows, self.dtype)
        return self.empty(n_rows)

    def features(self, x: Any) -> NDArray[np.float32]:
        """``x`` where it is a table, which the core may read, else a column of its length."""
        x = read(x) if self.first_tap_is_input else x
        if isinstance(x, np.ndarray) and x.ndim == 2 and x.dtype == np.float32:
            return np.ascontiguousarray(x)
        return np.zeros((len(x), 1), np.float32)

    def compute(self, backbone: Backbone, x: Any, rows: NDArray[np.float32]) -> None:
        """Run ``backbone`` on checked samples ``x`` into ``rows``, (samples, row_stride).

        Raises:
            DataError: a sample cannot be read.
            ModelError: the backbone gave other shapes than it announced.
        """
        if isinstance(backbone, StandIn) and backbone.reads:
            x, are_there = backbone.looked_up(x)
            if are_there and self.first_tap == 0 and backbone.reads_into(self.layout):
                self._compute(backbone, Into(x, rows, self.layout), rows, are_finite=True)
                return
            at_once = max(1, _READ_BYTES // (FLOAT_BYTES * self.layout.row_stride))
            at_once = at_once if are_there else max(1, len(x))
            for at in range(0, len(x), at_once):
                some = slice(at, at + at_once)
                self._compute(backbone, x[some], rows[some], are_finite=are_there)
            return
        at_once = len(x) if backbone.network is not None else backbone.samples_at_once
        for part in parts_of(x, len(x)):
            read_x, of_part = read(x[part]), rows[part]
            for at in range(0, len(read_x), at_once):
                some = slice(at, at + at_once)
                self._compute(backbone, read_x[some], of_part[some])

    def _compute(
        self, backbone: Backbone, x: Any, rows: NDArray[np.float32], *, are_finite: bool = False
    ) -> None:
        """As :meth:`compute`, of samples that were read, unless ``backbone`` does it."""
        network = backbone.network
        if network is not None:
            network.forward(x, self.layout, self.first_tap, rows)
            return
        if isinstance(backbone, Derived) and (write := _writer(backbone.backbone)) is not None:
            self._compute_derived(backbone, write, x, rows)
            return
        output = backbone.forward(x)
        taps = output.taps[self.first_tap :]
        if len(taps) != len(self.tap_widths):
            raise ModelError(
                f"the model gave {len(output.taps)} taps, expected {len(backbone.tap_widths)} as "
                "it says: correct its forward"
            )
        places = zip(taps, self.tap_widths, self.layout.tap_offsets, strict=True)
        for number, (tap, width, at) in enumerate(places):
            _check_shape(f"tap {self.first_tap + number}", tap, (len(x), width))
            if at >= 0 and not _is_there(tap, rows[:, at : at + width]):
                rows[:, at : at + width] = tap
        _check_shape("base_logits", output.base_logits, (len(x), backbone.n_outputs))
        at = self.layout.logits_offset
        rows[:, at : at + backbone.n_outputs] = output.base_logits
        rows[:, at + backbone.n_outputs : at + self.n_outputs] = 0
        if not are_finite and not np.isfinite(rows).all():
            raise not_finite_rows()

    def _compute_derived(
        self, backbone: Derived, write: Callable[..., None], x: Any, rows: NDArray[np.float32]
    ) -> None:
        """The row of the model is written behind the derived columns."""
        below, offsets = backbone.backbone, self.layout.tap_offsets
        n_derived = len(backbone.derived)
        first = max(0, self.first_tap - n_derived)
        own = RowFormat.of(below, first, n_outputs=self.n_outputs, copy_input=True)
        write(x, own.layout, first, rows, column=self.layout.row_stride - own.layout.row_stride)
        widths, at = backbone.tap_widths[:n_derived], self.layout.logits_offset
        out = [np.empty((len(x), width), np.float32) for width in widths[: self.first_tap]]
        places = zip(offsets, widths[self.first_tap :], strict=False)
        out += [rows[:, start : start + width] for start, width in places]
        if self.first_tap < n_derived:
            sample = x[:, : below.tap_widths[0]]  # a row begins by it, too
            backbone.derive(Taps((sample,), rows[:, at : at + below.n_outputs]), out)


def _is_there(values: NDArray[np.float32], place: NDArray[np.float32]) -> bool:
    """Whether they were written there; where memory lies is asked last, as that takes longest."""
    return np.may_share_memory(values, place) and values.ctypes.data == place.ctypes.data


def _writer(backbone: Backbone) -> Callable[..., None] | None:
    """What writes rows of ``backbone`` right where they belong, as ``_core.Network.forward``."""
    if isinstance(backbone, KnownRows):
        return backbone.write
    return None if backbone.network is None else backbone.network.forward


@lru_cache(maxsize=64)
def _row_format(
    tap_widths: tuple[int, ...], n_outputs: int, first_tap: int, first_tap_is_input: bool,
    dtype: str,
) -> RowFormat:  # fmt: skip
    layout = _core.RowLayout(tap_widths, n_outputs, first_tap_is_input)
    return RowFormat(tap_widths, n_outputs, first_tap, first_tap_is_input, layout, dtype)


def _check_shape(name: str, array: NDArray[np.float32], expected: tuple[int, int]) -> None:
    if array.shape != expected:
        said = f"{name} has shape {array.shape}, expected {expected}"
        raise ModelError(f"{said}: was the model changed? adapt again")


@dataclass(frozen=True, eq=False)
class SkipCache:
    """Rows of ``capacity`` samples, filled as they are first seen.

    Sample i has its row at ``rows[i]`` once ``filled[i]`` is 1: look-up is O(1). Samples beyond the
    capacity are computed each time they appear; a capacity of 0 is Skip-LoRA. With a fresh
    permutation an epoch, keeping some rows for good saves more than replacing them. A ``policy``
    that replaces them has ``tables``, of s2_slots in the core, of which sample has which row.
    """

    format: RowFormat
    rows: NDArray[np.float32] | CodedRows
    filled: NDArray[np.uint8] = field(repr=False)
    policy: str = "pin"
    tables: NDArray[np.uint32] | None = field(default=None, repr=False)

    @classmethod
    def create(
        cls, backbone: Backbone, n_samples: int, *, first_tap: int = 0, capacity: int | None = None
    ) -> SkipCache:
        """An empty cache for ``n_samples`` samples, or for the first ``capacity`` of them."""
        return cls.of(RowFormat.of(backbone, first_tap), n_samples, capacity)

    @classmethod
    def of(
        cls,
        row_format: RowFormat,
        n_samples: int,
        capacity: int | None = None,
        policy: str = "pin",
    ) -> SkipCache:
        """As :meth:`create`, for rows of that format, and by that policy."""
        n_rows = n_samples if capacity is None else min(capacity, n_samples)
        tables = None
        if policy != "pin" and 0 < n_rows < n_samples:
            tables = np.full(n_samples + _TABLES * n_rows, _NO_SLOT, np.uint32)
        return cls(row_format, row_format.kept(n_rows), np.zeros(n_rows, np.uint8), policy, tables)

    @staticmethod
    def costs(row_format: RowFormat, n_samples: int, policy: str) -> tuple[int, int]:
        """Bytes of a cache of some of ``n_samples``: beside the rows, and a row, flag included."""
        beside, each = row_format.table_bytes, row_format.row_bytes + 1
        number = np.uint32().itemsize
        if policy != "pin":
            beside, each = beside + number * n_samples, each + number * _TABLES
        return beside, each

    def of_tables(
        self, samples: slice, others: Callable[[NDArray[np.bool_]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Rows of these samples by the tables; ``others`` gives those that are not there."""
        if self.tables is None:
            raise RuntimeError("this cache has no tables")
        slots = self.tables[samples]
        missing = slots == _NO_SLOT
        rows = self.format.empty(len(slots))
        rows[~missing] = self.floats[slots[~missing]]
        if missing.any():
            rows[missing] = others(missing)
        return rows

    def fill(self, backbone: Backbone, x: Any, start: int = 0) -> None:
        """Compute the rows of checked samples ``x``, which are those from ``start`` on.

        Raises:
            ModelError: as ``RowFormat.compute``.
        """
        for at, rows in self.computed(backbone, x, start):
            self.filled[start + at : start + at + len(rows)] = 1

    def computed(
        self, backbone: Backbone, x: Any, start: int = 0
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Rows of checked samples ``x`` as floats, chunk by chunk, from which place in ``x`` on.

        As many as there is room for, from ``start`` on, are kept.
        """
        held, spare, step = self.rows, self.format.empty(0), SAMPLES_AT_ONCE
        if not isinstance(held, np.ndarray):
            step = held.at_once
        for at in range(0, len(x), step):
            stop = min(at + step, len(x))
            room = slice(start + at, min(start + stop, len(held)))
            whole = isinstance(held, np.ndarray) and room.stop == start + stop
            if not whole and len(spare) < stop - at:
                spare = self.format.empty(stop - at)
            rows = held[room] if whole else spare[: stop - at]
            for some in range(0, stop - at, SAMPLES_AT_ONCE):
                part = slice(some, min(some + SAMPLES_AT_ONCE, stop - at))
                self.format.compute(backbone, x[at + part.start : at + part.stop], rows[part])
            if not whole and room.start < room.stop:
                self._keep(room, rows[: room.stop - room.start])
            yield at, rows

    def _keep(self, room: slice, rows: NDArray[np.float32]) -> None:
        if isinstance(self.rows, np.ndarray):
            self.rows[room] = rows
        else:
            self.rows.write(room.start, rows)

    @property
    def floats(self) -> NDArray[np.float32]:
        """The rows where they are kept as float32."""
        if not isinstance(self.rows, np.ndarray):
            raise TypeError(f"rows are kept as {self.format.dtype}, expected float32")
        return self.rows

    @property
    def base_logits(self) -> NDArray[np.float32]:
        """Those of all rows that are kept, (rows, n_outputs), where they lie."""
        if not isinstance(self.rows, np.ndarray):
            return self.rows.floats_behind()
        first = self.format.layout.logits_offset
        return self.rows[:, first : first + self.format.n_outputs]

    def source(
        self,
        backbone: Backbone,
        x: Any,
        scale: Callable[[NDArray[np.float32]], None] | None = None,
        announce: Callable[[NDArray[np.uint32]], None] | None = None,
    ) -> _core.RowSource:
        """Rows of ``x`` for the core: those that are kept, or computed by ``backbone``, scaled.

        ``announce`` is told of samples some time before they are needed.
        """

        def compute(indices: NDArray[np.uint32], rows: NDArray[np.float32]) -> None:
            self.format.compute(backbone, x[indices], rows)
            if scale is not None:
                scale(rows)

        forward = (None if scale or isinstance(x, LazySamples) else backbone.network) or compute
        policy, rows = POLICIES[self.policy], for_core(self.rows)
        return _core.RowSource(
            self.format.layout, rows, self.filled, forward, policy, self.tables, announce
        )

    @property
    def payload_bytes(self) -> int:
        """Bytes of taps and base logits, without padding: the paper's figure."""
        return len(self.rows) * self.format.payload_bytes

    @property
    def n_bytes(self) -> tuple[int, int]:
        """Payload and overhead."""
        return self.payload_bytes, self.overhead_bytes

    @property
    def overhead_bytes(self) -> int:
        """Bytes beyond the payload: padding of the rows, one flag a row, and tables."""
        tables = 0 if self.tables is None else self.tables.nbytes
        return self.rows.nbytes + self.filled.nbytes + tables - self.payload_bytes


def as_they_are(row_format: RowFormat, backbone: Backbone, x: Any) -> SkipCache | None:
    """The samples ``x`` of known rows as a cache of them: no copy, so nothing may change them.

    None where ``backbone`` has no such rows, or they lie, or are to lie, otherwise.
    """
    if not isinstance(backbone, KnownRows) or row_format.dtype != "float32":
        return None
    if not isinstance(x, np.ndarray) or x.ctypes.data % _ALIGN_BYTES:
        return None
    same = [
        (of.tap_offsets, of.logits_offset, of.row_stride)
        for of in (backbone.layout, row_format.layout)
    ]
    if same[0] != same[1] or row_format.n_outputs != backbone.n_outputs or not x.flags.c_contiguous:
        return None
    return SkipCache(row_format, x, np.ones(len(x), np.uint8))


def parts(
    rows: NDArray[np.float32] | CodedRows, start: int = 0, stop: int | None = None
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Rows as floats, and their places: at once where they are, some at a time of codes."""
    stop = len(rows) if stop is None else stop
    step = max(1, stop - start) if isinstance(rows, np.ndarray) else rows.read_at_once
    for at in range(start, stop, step):
        some = slice(at, min(at + step, stop))
        yield some, rows[some]


def for_core(rows: NDArray[np.float32] | CodedRows) -> NDArray[np.float32] | _core.CodedRows:
    """What the core takes as rows."""
    return rows if isinstance(rows, np.ndarray) else rows.core
