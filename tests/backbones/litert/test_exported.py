"""What an exported .tflite file says of itself, in an entry of its metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert: group runtimes")

import tflite_models as nets
from skip2lora.backbones.litert.exported import said_of
from skip2lora.backbones.litert.file import Graph, parse
from skip2lora.backbones.said import Said
from skip2lora.errors import ModelError
from skip2lora.export.tflite_front import Front

Refused = Callable[..., str]


def written(content: bytes, path: Path, entry: str = "skip2lora") -> Graph:
    front = Front(nets.mlp([9, 7, 3], label=True).content(), path)
    front.metadata(entry, content)
    return parse(front.content(), str(path))


def test_its_output_by_name(tmp_path: Path) -> None:
    said = {"output": 1, "classes": '["a", "b", "c"]', "rank": 3}
    graph = written(json.dumps(said).encode(), tmp_path / "m.tflite")
    assert said_of(graph) == Said(graph.outputs[1].name, class_names=("a", "b", "c"))
    assert {each.name for each in graph.outputs} == {"label", "probabilities"}


def test_other_entries_say_nothing(tmp_path: Path) -> None:
    assert said_of(written(b"{", tmp_path / "m.tflite", "min_runtime_version")) == Said()
    assert said_of(parse(nets.mlp([9, 7, 3]).content(), "m.tflite")) == Said()


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"", b'{"classes": ["a", "a"]}'])
def test_a_damaged_one(content: bytes, tmp_path: Path, refused: Refused) -> None:
    graph = written(content, tmp_path / "m.tflite")
    said = refused(ModelError, said_of, graph)
    assert "m.tflite: what its metadata says of what was learned is damaged" in said
