"""A damaged ``.onnx`` is refused by one line or gives a model that runs, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models as nets
import skip2lora as s2
from skip2lora.backbones.onnx import OnnxBackbone, prepare


@pytest.mark.parametrize("prepared", [False, True], ids=["plain", "prepared"])
def test_flipped_bits(prepared: bool, tmp_path: Path) -> None:
    """A bit changed anywhere: refused by one line, or a model that runs."""
    path = nets.save(nets.cnn(), tmp_path / "m.onnx")
    path = nets.quantized(path, [{"x": nets.images(9)}])
    if prepared:
        prepare(path, tmp_path / "t.onnx")
        path = tmp_path / "t.onnx"
    content, random = path.read_bytes(), np.random.default_rng(5)
    said = []
    for _ in range(60):
        other = bytearray(content)
        other[random.integers(len(other))] ^= 1 << random.integers(8)
        path.write_bytes(other)
        try:
            backbone = OnnxBackbone.load(path)
            backbone.forward(backbone.check(nets.images(2)))
        except s2.Skip2LoraError as error:
            said.append(str(error))
    assert 0 < len(said) < 60
    assert not any("\n" in each for each in said)
