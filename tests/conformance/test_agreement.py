"""Predicted, in float64 and exported alike, whatever the taps of a model are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx

import skip2lora as s2
from onnx_exports import expected, session_of
from skip2lora.export.onnx import export_onnx

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
SHARE = 1e-4  # of the largest number


@pytest.mark.parametrize(
    ("name", "ends_in_softmax"), [("densenet121", False), ("shufflenet", True)]
)
def test_light_models_of_onnx(name: str, ends_in_softmax: bool, tmp_path: Path) -> None:
    """Their weights are constant: many columns are the same for all samples, but rounded."""
    if not LIGHT.is_dir():
        pytest.skip("this version of onnx comes without its light models")
    backbone = s2.load(LIGHT / f"light_{name}.onnx")
    [given] = backbone.inputs
    x = np.random.default_rng(0).normal(size=(3, *map(int, given.shape))).astype(np.float32)
    adapted = s2.adapt(backbone, x, np.arange(3), epochs=3)
    logits, exact = adapted.logits(x), expected(backbone, adapted.adapters, {given.name: x})
    np.testing.assert_allclose(logits, exact, rtol=0, atol=SHARE * np.abs(exact).max())
    export_onnx(backbone, adapted.adapters, tmp_path / "e.onnx")
    made = session_of(tmp_path / "e.onnx").run(None, {given.name: x[:1]})[0].reshape(1, -1)
    want = adapted.predict_proba(x[:1]) if ends_in_softmax else logits[:1]
    np.testing.assert_allclose(made, want, rtol=0, atol=SHARE * np.abs(want).max())
