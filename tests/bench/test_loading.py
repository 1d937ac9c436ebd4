"""Sessions and samples of a load are counted, for models of any number of samples or of some."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx", reason="needs the package onnx: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import loading
import onnx_models as nets


@pytest.mark.parametrize(("batch", "n_samples"), [("n", 7), (1, 3), (2, 6), (4, 8)])
def test_a_line_of_a_model(tmp_path, batch, n_samples):
    path = nets.save(nets.mlp(batch=batch), tmp_path / "mlp.onnx")
    line = loading.measure(str(path), 1)
    assert line.startswith(f"mlp.onnx: sessions 1, samples {n_samples}, open 0.")
