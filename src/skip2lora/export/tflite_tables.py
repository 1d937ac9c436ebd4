"""Tables of a flatbuffer, copied with other fields: offsets point into an old file behind them.

What is at byte p of the old file is at -p for the builder, which counts from its own end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
from flatbuffers import number_types
from flatbuffers.table import Table

from skip2lora.errors import ModelError

# The kinds of the fields of each table, in the order of the schema: an offset, or a number.
_OFFSET = None
_U8, _I8 = number_types.Uint8Flags, number_types.Int8Flags
_I32, _U32, _U64 = number_types.Int32Flags, number_types.Uint32Flags, number_types.Uint64Flags
_BOOL = number_types.BoolFlags
MODEL = (_U32, *[_OFFSET] * 9)
GRAPH = (*[_OFFSET] * 5, _I32)
TENSOR = (
    _OFFSET, _I8, _U32, _OFFSET, _OFFSET, _BOOL, _OFFSET, _OFFSET, _BOOL, _OFFSET, _U32,
)  # fmt: skip
OPERATOR = (
    _U32, _OFFSET, _OFFSET, _U8, _OFFSET, _OFFSET, _I8, _OFFSET, _OFFSET, _U64, _U64, _U8, _OFFSET,
    _I32,
)  # fmt: skip
SIGNATURE = (*[_OFFSET] * 4, _U32)


def copied(
    builder: flatbuffers.Builder,
    of: Any,
    kinds: Sequence[Any],
    changed: Mapping[int, int],
    path: object,
) -> int:
    """A table of the file with other offsets in the fields ``changed``; ``path`` is for messages.

    Raises:
        ModelError: it has fields of a later schema.
    """
    table = of._tab
    n_fields = _n_fields(table)
    if n_fields > len(kinds):
        raise ModelError(
            f"{path} has a table of {n_fields} fields, expected {len(kinds)} at most, as the "
            "format has here: convert the model with an earlier converter"
        )
    builder.StartObject(len(kinds))
    for slot, kind in enumerate(kinds):
        place = table.Offset(4 + 2 * slot)
        if slot in changed:
            builder.PrependUOffsetTRelativeSlot(slot, changed[slot], 0)
        elif place and kind is _OFFSET:
            builder.PrependUOffsetTRelativeSlot(slot, -table.Indirect(table.Pos + place), 0)
        elif place:
            builder.Prepend(kind, table.Get(kind, table.Pos + place))
            builder.Slot(slot)
    return int(builder.EndObject())


def _n_fields(table: Table) -> int:
    vtable = table.Pos - table.Get(number_types.SOffsetTFlags, table.Pos)
    return (int(table.Get(number_types.VOffsetTFlags, vtable)) - 4) // 2


def offsets(builder: flatbuffers.Builder, tables: Sequence[int]) -> int:
    """A vector of tables: those of the file are at minus their place."""
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())
