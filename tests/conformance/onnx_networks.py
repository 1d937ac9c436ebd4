"""The conformance network as an ONNX file with random weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest


def onnx_backbone(
    widths: Sequence[int], *, seed: int = 0, batch: Any = "n", prepared: bool = False
) -> Any:
    """Fully connected layers and ReLU in ONNX Runtime; the file is gone when this returns.

    They stand behind a shift, so that no tap is the sample.
    """
    reason = "needs the packages onnx and onnxruntime: pip group runtimes"
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=reason)
    import onnx_models
    from skip2lora.backbones.onnx import OnnxBackbone, prepare

    with tempfile.TemporaryDirectory() as folder:
        path = onnx_models.save(
            onnx_models.mlp(widths, seed=seed, batch=batch, shift=0.1), Path(folder) / "m.onnx"
        )
        if prepared:
            prepare(path, path.with_name("tapped.onnx"))
            path = path.with_name("tapped.onnx")
        return OnnxBackbone.load(path)
