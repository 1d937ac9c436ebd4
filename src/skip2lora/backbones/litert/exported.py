"""What a .tflite file that was exported says of what was learned, in its metadata."""

from __future__ import annotations

import json

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from skip2lora.backbones.litert.file import Graph
from skip2lora.backbones.said import DAMAGED, Said
from skip2lora.errors import ModelError

#: The entry that has it.
ENTRY = "skip2lora"


def said_of(graph: Graph) -> Said:
    """What a file says of itself, with the name of its output.

    Raises:
        ModelError: it is damaged.
    """
    model = schema.Model.GetRootAs(graph.content)
    try:
        for at in range(model.MetadataLength()):
            entry = model.Metadata(at)
            if entry.Name() == ENTRY.encode():
                data = model.Buffers(entry.Buffer()).DataAsNumpy()
                said = Said.from_entries(json.loads(np.asarray(data, np.uint8).tobytes()))
                return said.named([each.name for each in graph.outputs])
    except DAMAGED as error:
        raise ModelError(
            f"{graph.path}: what its metadata says of what was learned is damaged, expected it as "
            "export wrote it: export it again"
        ) from error
    return Said()
