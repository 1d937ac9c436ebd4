"""The check before a file is written: a wrong one is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert: group runtimes")

import tflite_models as nets
from onnx_exports import random_adapters
from skip2lora.backbones.ends import End
from skip2lora.errors import ModelError
from skip2lora.export.tflite import export_tflite, tflite_with
from skip2lora.export.tflite_base import read_base
from skip2lora.export.tflite_check import check_tflite
from skip2lora.tasks.task import softmax

Refused = Callable[..., str]


def test_a_file_of_other_adapters_is_refused(tmp_path: Path, refused: Refused) -> None:
    model = nets.loader(tmp_path)(nets.cnn().content())
    adapters = random_adapters(model)
    content, logits = tflite_with(model, adapters)
    base = read_base(model, adapters)
    check_tflite(content, logits, base, None)
    other = replace(adapters, bias=np.zeros(3, np.float32))
    message = refused(ModelError, check_tflite, content, logits, read_base(model, other), None)
    assert "the exported logits of 4 samples at once differ by" in message


def test_a_stale_output_is_refused(tmp_path: Path, refused: Refused) -> None:
    """The base's own probabilities beside adapted logits."""
    model = nets.loader(tmp_path)(nets.cnn(end="").content())
    adapters = random_adapters(model)
    base = read_base(model, adapters)
    content = model.graph.content
    message = refused(
        ModelError, check_tflite, content, model.graph.outputs[0].tensor.index, base, None
    )
    assert "differ by" in message


def test_nothing_is_written_where_it_differs(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skip2lora.export import tflite_rows

    model = nets.loader(tmp_path)(nets.cnn().content())

    def turned(nodes: Any, tap: Any, tensor: Any, lora_a: np.ndarray, *rest: Any) -> Any:
        return add_tap(nodes, tap, tensor, lora_a[::-1], *rest)  # in another order

    add_tap = tflite_rows.add_tap
    monkeypatch.setattr("skip2lora.export.tflite.add_tap", turned)
    out = tmp_path / "a.tflite"
    assert "differ by" in refused(ModelError, export_tflite, model, random_adapters(model), out)
    assert not out.exists()


@pytest.mark.parametrize("integers", [None, "int8", "uint8"])
def test_every_output_is_compared_as_the_numbers_it_is_meant_as(
    integers: str | None, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several samples at once and of one: shares that sum to 1, beside logits that do not."""
    network = nets.cnn(integers=integers)
    model = nets.loader(tmp_path)(network.content())
    adapters = random_adapters(model)
    content, logits = tflite_with(model, adapters)
    base, seen = read_base(model, adapters), []

    def agrees(end: End, of: np.ndarray, said: np.ndarray) -> bool:
        seen.append((len(of), np.abs(said.sum(axis=1) - 1).max(), np.abs(said - softmax(of)).max()))
        return True

    monkeypatch.setattr(End, "agrees", agrees)
    check_tflite(content, logits, base, None)
    step = 1e-6 if integers is None else 1 / 256
    assert [count for count, *_ in seen] == [4, 1]
    assert max(total for _, total, _ in seen) <= 2 * step
    assert max(apart for *_, apart in seen) <= step
    monkeypatch.setattr(End, "agrees", lambda *_: False)
    message = refused(ModelError, check_tflite, content, logits, base, None)
    assert "does not follow from its logits, expected that it does" in message
