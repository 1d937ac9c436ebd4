"""Tables copied with other fields; what a later schema has is refused, not lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert: group runtimes")

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

import tflite_models as nets
from skip2lora.errors import ModelError
from skip2lora.export.tflite_tables import GRAPH, MODEL, OPERATOR, SIGNATURE, TENSOR, copied

Refused = Callable[..., str]
FIELDS = {
    "Model": MODEL, "SubGraph": GRAPH, "Tensor": TENSOR, "Operator": OPERATOR,
    "SignatureDef": SIGNATURE,
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_of_the_schema_is_known(name: str) -> None:
    builder = flatbuffers.Builder(64)
    getattr(schema, f"{name}Start")(builder)
    assert len(builder.current_vtable) == len(FIELDS[name])


def test_a_later_schema_is_refused(refused: Refused) -> None:
    model = schema.Model.GetRootAs(nets.mlp([3, 2]).content())
    builder = flatbuffers.Builder(64)
    message = refused(ModelError, copied, builder, model, MODEL[:3], {}, "new.tflite")
    assert "new.tflite has a table of" in message
    assert "expected 3 at most" in message
