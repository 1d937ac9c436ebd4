"""A network as the block of bytes that the C core reads (docs/c-blob.md)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.projected import Projections
from skip2lora.backbones.derived import LOG, LOG_CENTRED, POWERS, DerivedTap
from skip2lora.errors import ModelError
from skip2lora.export.c_layers import DENSE, KINDS, Array, Dense, Layer

_MAGIC, _HEADER = 0x324D5053, 64
_RECORD_MAGIC, _RECORD_HEADER = 0x32415053, 32
_NORM, _RELU, _INT8, _TAPPED = 1, 2, 4, 8
_DERIVED = {LOG: 1, LOG_CENTRED: 2} | {kind: 1 + exponent for kind, exponent in POWERS.items()}
#: How weights are kept.
WEIGHTS = ("float32", "int8")
MOST_TAPS = 32  # S2_MODEL_MAX_TAPS
_MOST = 127


@dataclass(frozen=True, eq=False)
class Network:
    """What a device needs of a model.

    Taps are the ``derived`` ones, then the inputs of those ``layers`` that are tapped; without
    layers the firmware computes taps of ``tap_widths`` and ``n_outputs`` base logits itself.
    ``projections``, one a tap or (), keep a few numbers of each that is wider; ``start`` are the
    adapters to begin with.
    """

    layers: tuple[Dense | Layer, ...]
    tap_widths: tuple[int, ...]
    n_outputs: int
    eps: float = 0.0
    projections: Projections = ()
    start: SkipAdapters | None = None
    derived: tuple[DerivedTap, ...] = ()

    @property
    def n_features(self) -> int:
        """Width of a sample, 0 where the firmware computes taps itself."""
        return self.layers[0].n_in if self.layers else 0

    @property
    def version(self) -> int:
        """That of the block: the oldest whose readers can read it."""
        _, slots = KINDS["SLOTS"]
        if any(layer.kind in slots for layer in self.layers):
            return 3
        n_tapped = len(self.tap_widths) - len(self.derived)
        first = len(self.layers) - n_tapped
        plain = all(
            layer.kind == DENSE and (layer.tap_width > 0) == (place >= first)
            for place, layer in enumerate(self.layers)
        )
        return 1 if plain else 2

    @property
    def taps_sample(self) -> bool:
        """Whether the first tap is the sample itself."""
        first = self.layers[0] if self.layers else None
        return isinstance(first, Dense) and first.tapped and not self.derived

    @property
    def tap_widths_kept(self) -> tuple[int, ...]:
        """Those of rows: projected, where there is a projection."""
        if not self.projections:
            return self.tap_widths
        pairs = zip(self.tap_widths, self.projections, strict=True)
        return tuple(width if of is None else of.matrix.shape[1] for width, of in pairs)

    def to_bytes(self, *, weights: str = "float32") -> bytes:
        """The block.

        Raises:
            ModelError: it has NaN, infinity or over 4 GB.
        """
        int8, parts, records = weights == "int8", list[bytes](), b""
        for layer in self.layers:
            flags = _NORM * bool(layer.norm) | _RELU * layer.relu
            flags |= _INT8 * (int8 and bool(layer.matrices))
            flags |= _TAPPED * (self.version > 1 and layer.tap_width > 0)
            records += struct.pack("<4I", layer.kind, flags, layer.n_in, layer.n_out)
            parts += _words(layer)
            parts += [part for of in layer.matrices for part in _weights(of, int8=int8)]
            parts += [_floats(array) for array in layer.vectors]
        for projection in self.projections:
            if projection is not None:
                parts += [_floats(projection.mean), _floats(projection.matrix)]
        if self.start is not None:
            parts += _adapters(self.start)
        ranks = {of.matrix.shape[1] for of in self.projections if of is not None}
        start = self.start
        rank, bias = (0, 0) if start is None else (start.rank, int(start.bias is not None))
        head = struct.pack(
            "<7IfI12x", self.n_features, self.n_outputs, len(self.tap_widths), len(self.layers),
            max(ranks, default=0), rank, bias, self.eps, len(self.derived),
        )  # fmt: skip
        widths = struct.pack(f"<{len(self.tap_widths)}I", *self.tap_widths)
        for tap in self.derived:
            widths += struct.pack("<If", _DERIVED[tap.kind], _number_of(tap))
        rest = b"".join([head, widths, records, *parts])
        n_bytes = len(rest) + 16
        if n_bytes >= 1 << 32:
            raise ModelError(f"the network has {n_bytes:,} bytes, expected less than 4 GB: cut it")
        first = struct.pack("<3I", _MAGIC, self.version, n_bytes)
        return first + struct.pack("<I", zlib.crc32(rest, zlib.crc32(first))) + rest


def quantised(weight: Array) -> tuple[Array, Array]:
    """Whole numbers from -127 to 127, (n_in, n_out), and the scale of each output, (n_out,)."""
    scale = (np.abs(weight).max(axis=0) / _MOST).astype(np.float32)
    scale[scale == 0] = 1
    return np.clip(np.rint(weight / scale), -_MOST, _MOST).astype(np.float32), scale


def _words(layer: Dense | Layer) -> list[bytes]:
    return [struct.pack("<f" if isinstance(it, float) else "<I", it) for it in layer.words]


def _weights(weight: Array, *, int8: bool) -> list[bytes]:
    if not int8:
        return [_floats(weight)]
    codes, scale = quantised(weight)
    content = codes.astype(np.int8).tobytes()
    return [content, bytes(-len(content) % 4), _floats(scale)]


def _number_of(tap: DerivedTap) -> float:
    return tap.scale if tap.kind in POWERS else tap.shift


def _adapters(start: SkipAdapters) -> list[bytes]:
    pairs = zip(start.lora_a, start.lora_b, strict=True)
    parts = [_floats(array) for pair in pairs for array in pair]
    return parts if start.bias is None else [*parts, _floats(start.bias)]


def _floats(array: Array) -> bytes:
    if not np.isfinite(array).all():
        raise ModelError(
            "the network has NaN or infinity, expected finite numbers: check its weights"
        )
    return np.ascontiguousarray(array, "<f4").tobytes()


def read_adapters(
    record: bytes, tap_widths: Sequence[int], n_outputs: int, blob: bytes
) -> SkipAdapters:
    """What a device wrote with ``s2_device_adapters_write``, of the network of ``blob``.

    ``tap_widths`` are those that its rows have.

    Raises:
        ModelError: damaged, of another version or network.
    """
    count = _RECORD_HEADER // 4
    head = struct.unpack(f"<{count}I", record[:_RECORD_HEADER].ljust(_RECORD_HEADER, b"\0"))
    magic, version, n_bytes, checksum, of_model, rank, bias, _ = head
    floats = sum(rank * (width + n_outputs) for width in tap_widths) + bias * n_outputs
    crc = zlib.crc32(record[16:n_bytes], zlib.crc32(record[:12]))
    known = (magic, version) == (_RECORD_MAGIC, 1)
    if not known or n_bytes != _RECORD_HEADER + 4 * floats or crc != checksum:
        raise ModelError(
            "the record of adapters is damaged or of another version, expected one as the device "
            "writes it: read it again"
        )
    if of_model != struct.unpack("<I", blob[12:16])[0]:
        raise ModelError(
            "the record of adapters is of another network, expected one of this: take the block "
            "that the device has"
        )
    values = np.frombuffer(record[_RECORD_HEADER:n_bytes], "<f4").astype(np.float32)
    lora_a, lora_b, at = [], [], 0
    for width in tap_widths:
        lora_a.append(values[at : at + width * rank].reshape(width, rank))
        at += width * rank
        lora_b.append(values[at : at + rank * n_outputs].reshape(rank, n_outputs))
        at += rank * n_outputs
    return SkipAdapters(tuple(lora_a), tuple(lora_b), 0, values[at:] if bias else None)
