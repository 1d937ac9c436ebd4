"""More of everything than other tests have: numbers are compared, not counted on the fingers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models
import skip2lora as s2
from conformance.onnx_networks import onnx_backbone
from conformance.torch_networks import backbone_of_mlp
from onnx_exports import session_of
from skip2lora.export.onnx import export_onnx

N = 300  # features, samples and classes
WIDTHS = [N, 5, 290]
X = np.eye(N, dtype=np.float32)
Y = np.arange(N) % 290


@pytest.fixture(params=["MLP", "ONNX", "PyTorch"])
def model(request: pytest.FixtureRequest, make_model: Any) -> Any:
    if request.param == "ONNX":
        return onnx_backbone(WIDTHS)
    network = make_model(WIDTHS, batch_norm=False)
    return network if request.param == "MLP" else backbone_of_mlp(network)


RECIPES: dict[str, dict[str, Any]] = {
    "steps": {"solver": "steps", "epochs": 2},
    "paper": {"recipe": "paper", "epochs": 2},
    "exact": {"solver": "exact", "penalty": 0.1},
}


@pytest.mark.filterwarnings("ignore::skip2lora.errors.FewSamplesWarning")
@pytest.mark.filterwarnings("ignore::skip2lora.errors.SuspectLabelsWarning")
@pytest.mark.parametrize("recipe", RECIPES)
def test_classes(model: Any, recipe: str, tmp_path: Path) -> None:
    adapted = s2.adapt(model, X, Y, **RECIPES[recipe])
    assert adapted.predict(X).shape == (N,)
    one_by_one = np.concatenate([adapted.logits(X[at : at + 1]) for at in (0, 256, 257, 299)])
    many = adapted.logits(X)[[0, 256, 257, 299]]
    np.testing.assert_allclose(one_by_one, many, rtol=1e-3, atol=1e-4)
    adapted.save(tmp_path / "adapter")
    loaded = s2.AdaptedModel.load(model, tmp_path / "adapter")
    assert loaded.logits(X).tobytes() == adapted.logits(X).tobytes()


@pytest.mark.filterwarnings("ignore::skip2lora.errors.FewSamplesWarning")
def test_new_classes_and_numbers(model: Any) -> None:
    labels = np.array([f"n{label}" for label in Y])
    adapted = s2.adapt(model, X, labels, new_classes=True, solver="steps", epochs=2)
    assert (adapted.n_outputs, len(adapted.new_labels)) == (580, 290)
    targets = X[:, ::-1].copy()
    made = s2.adapt(model, X, targets, task="regression", keep_outputs=False, epochs=2)
    assert made.predict(X).shape == (N, N)
    weight = np.ones(N)
    same = s2.adapt(
        model, X, targets, task="regression", keep_outputs=False, epochs=2, sample_weight=weight
    )
    np.testing.assert_allclose(same.predict(X), made.predict(X), atol=1e-5)


@pytest.mark.filterwarnings("ignore::skip2lora.errors.FewSamplesWarning")
def test_exported_and_named(tmp_path: Path) -> None:
    path = onnx_models.save(onnx_models.mlp(WIDTHS), tmp_path / "m.onnx")
    model = s2.load(path).named([f"c{at}" for at in range(290)])
    names = np.array(model.class_names)[Y]
    adapted = s2.adapt(model, X, names, epochs=2)
    assert adapted.class_names == model.class_names
    assert set(adapted.predict(X)) <= set(model.class_names)
    export_onnx(adapted.backbone, adapted.adapters, tmp_path / "e.onnx", samples=X)
    (output,) = session_of(tmp_path / "e.onnx").run(None, {"x": X})
    np.testing.assert_allclose(output, adapted.logits(X), rtol=1e-3, atol=1e-4)
