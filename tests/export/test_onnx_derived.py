"""Derived taps in exported ONNX files: the stock onnxruntime gives what the adapted model gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx
import onnxruntime

import onnx_models as nets
from onnx_exports import activated, expected, random_adapters, session_of
from skip2lora.backbones.derived import Derived
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.standins import Headless, for_task
from skip2lora.errors import ParameterError
from skip2lora.export.onnx import export_onnx, export_onnx_adapter

X = np.random.default_rng(1).normal(size=(7, 9)).astype(np.float32)  # negative numbers among them
MODELS: dict[str, Callable[[], Any]] = {
    "softmax": nets.mlp,
    "opset 7": lambda: nets.mlp(opset=7),
    "sigmoid": lambda: nets.mlp(opset=9, end="Sigmoid"),
    "logits": lambda: nets.mlp(end=None),
}
KINDS = (
    ("logits",), ("log", "log-centred"), ("log-centred", "logits"),
    ("square", "cube", "log", "fourth-power"),
)  # fmt: skip


@pytest.mark.parametrize("new", [0, 2])
@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_one_file_and_adapters_to_swap(
    name: str, kinds: tuple[str, ...], new: int, tmp_path: Path
) -> None:
    model = MODELS[name]()
    path = nets.save(model, tmp_path / "m.onnx")
    backbone = Derived.of(OnnxBackbone.load(path), kinds, np.abs(X))
    adapters = random_adapters(backbone, new=new)
    want = activated(model, expected(backbone, adapters, {"x": X}))
    export_onnx(backbone, adapters, tmp_path / "e.onnx", samples=X)
    onnx.checker.check_model(str(tmp_path / "e.onnx"))
    session = session_of(tmp_path / "e.onnx")
    [made] = session.run(None, {"x": X})
    np.testing.assert_allclose(made, want, rtol=1e-4, atol=1e-5)
    assert kinds[0] in session.get_modelmeta().custom_metadata_map["skip2lora.taps"]
    file = export_onnx_adapter(backbone, adapters, tmp_path / "f.onnx")
    swapped, options = session_of(tmp_path / "f.onnx"), onnxruntime.RunOptions()
    format_of = onnxruntime.LoraAdapter()
    format_of.Load(str(file))
    options.add_active_adapter(format_of)
    [made] = swapped.run(None, {"x": X}, options)
    np.testing.assert_allclose(made, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kinds", KINDS)
def test_stand_ins(kinds: tuple[str, ...], tmp_path: Path) -> None:
    """Outputs learned anew from the model's own logits, too, and numbers."""
    path = nets.save(nets.mlp(), tmp_path / "m.onnx")
    derived = Derived.of(OnnxBackbone.load(path), kinds, np.abs(X))
    for given in (Headless(derived, 4), for_task(derived, "regression")):
        adapters = random_adapters(given)
        export_onnx(given, adapters, tmp_path / "e.onnx", samples=X)
        session = session_of(tmp_path / "e.onnx")
        [made] = session.run([session.get_outputs()[-1].name], {"x": X})
        want = expected(given, adapters, {"x": X})
        np.testing.assert_allclose(made, want, rtol=1e-4, atol=1e-5)


def test_some_of_the_taps(tmp_path: Path) -> None:
    path = nets.save(nets.mlp(), tmp_path / "m.onnx")
    derived = Derived.of(OnnxBackbone.load(path), ("logits", "log"), np.abs(X))
    for first_tap in range(1, len(derived.tap_widths)):
        adapters = random_adapters(derived, first_tap=first_tap)
        export_onnx(derived, adapters, tmp_path / "e.onnx", samples=X)


def test_a_first_tap_that_is_no_sample(tmp_path: Path, refused: Callable[..., str]) -> None:
    backbone = OnnxBackbone.load(nets.save(nets.cnn(), tmp_path / "m.onnx"))
    message = refused(ParameterError, Derived.of, backbone, ["log"], nets.images(3))
    assert "first tap" in message
    backbone = OnnxBackbone.load(nets.save(nets.mlp(), tmp_path / "m.onnx"), taps=[1, 2])
    assert "first tap" in refused(ParameterError, Derived.of, backbone, ["log"], np.abs(X))
