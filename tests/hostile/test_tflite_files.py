"""A damaged ``.tflite`` is refused by one line or gives a whole graph, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skip2lora.errors import ModelError

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")

from skip2lora.backbones.litert import file as tflite
from tflite_models import loader, mlp

Refused = Callable[..., str]


def test_truncated_anywhere(tmp_path: Path, refused: Refused) -> None:
    load = loader(tmp_path)
    content = mlp([9, 16, 5, 3]).content()
    graph = tflite.parse(content, "it")
    assert graph.layers(graph.outputs[0])
    for length in {*range(0, len(content) - 4, 7), len(content) // 2}:
        message = refused(ModelError, load, content[:length])
        assert "model.tflite is" in message
        assert ": c" in message  # check the file, copy it again


def test_damaged_anywhere() -> None:
    """A bit changed: the reader refuses the file or gives a whole graph, and nothing else."""
    content, random = mlp([9, 16, 5, 3]).content(), np.random.default_rng(0)
    refusals = 0
    for _ in range(300):
        other = bytearray(content)
        other[random.integers(8, len(other))] ^= 1 << random.integers(8)
        try:
            graph = tflite.parse(bytes(other), "it")
        except ModelError:
            refusals += 1
            continue
        for output in graph.outputs:
            graph.layers(output)
        tflite.parse(graph.with_outputs([output.logits.index]), "it again")
    assert 20 < refusals < 280
