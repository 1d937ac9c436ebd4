"""Networks of this package as ONNX: what onnxruntime gives is what the core gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx

import skip2lora as s2
from onnx_exports import expected, random_adapters, session_of
from skip2lora.backbones.derived import Derived
from skip2lora.backbones.field_mlp import FieldMLP
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.standins import Headless, for_task
from skip2lora.export.onnx import export_onnx, export_onnx_adapter
from skip2lora.export.onnx_mlp import onnx_of, twin
from skip2lora.tasks.task import softmax

WIDTHS = [9, 16, 5, 3]


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    return make_samples(60, 9)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("task", ["classification", "multi-label", "regression"])
def test_the_twin_has_the_rows_of_the_network(
    task: str, batch_norm: bool, make_model: Any, samples: Any, tmp_path: Path
) -> None:
    model = make_model(WIDTHS, batch_norm=batch_norm)
    model = MLP(model.layers, task=task)
    onnx.checker.check_model(onnx_of(model), full_check=True)
    other = twin(Headless(model, 2), tmp_path)
    x = samples[0]
    made, wanted = other.forward(other.check(x)), model.forward(x)
    assert len(made.taps) == len(wanted.taps)
    for tap, want in zip(
        (*made.taps, made.base_logits), (*wanted.taps, wanted.base_logits), strict=True
    ):
        np.testing.assert_allclose(tap, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["plain", "log", "logits", "field", "field and logits"])
def test_exported(kind: str, make_model: Any, samples: Any, tmp_path: Path) -> None:
    model, x = make_model(WIDTHS), samples[0]
    given: s2.Backbone = FieldMLP.of(model, x) if "field" in kind else model
    if kind == "log":
        given = Derived.of(given, ["log", "log-centred"], np.abs(x))
    if "logits" in kind:
        given = Derived.of(given, ["logits"])
    for stand_in in (given, Headless(given, 4), for_task(given, "regression")):
        adapters = random_adapters(stand_in)
        export_onnx(stand_in, adapters, tmp_path / "e.onnx", samples=x)
        export_onnx_adapter(stand_in, adapters, tmp_path / "f.onnx", samples=x)
        session = session_of(tmp_path / "e.onnx")
        said = session.get_modelmeta().custom_metadata_map
        assert said["skip2lora.base_fingerprint"] == model.fingerprint
        [made] = session.run([session.get_outputs()[-1].name], {"X": x})
        want = expected(stand_in, adapters, {"X": x}["X"])
        want = softmax(want) if stand_in is given else want
        np.testing.assert_allclose(made, want, rtol=1e-3, atol=1e-4)


def test_new_classes(make_model: Any, samples: Any, tmp_path: Path) -> None:
    model, x = make_model(WIDTHS), samples[0]
    adapters = random_adapters(model, new=2)
    export_onnx(model, adapters, tmp_path / "e.onnx")
    [made] = session_of(tmp_path / "e.onnx").run(None, {"X": x})
    np.testing.assert_allclose(made, softmax(expected(model, adapters, x)), rtol=1e-3, atol=1e-4)
