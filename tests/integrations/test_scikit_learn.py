"""A pipeline exported by skl2onnx learns, and the file that is exported has both of its outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import other_programs
import skip2lora as s2
from skip2lora.export.onnx import export_onnx


def test_labels_and_probabilities_of_a_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_samples
) -> None:
    other_programs.lend("scikit-learn", monkeypatch)
    import onnxruntime
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = make_samples(120, seed=2)
    turned = x[:, ::-1] * 3 + 1  # other sensors, in another order
    last = {
        "linear": LogisticRegression(),
        "mlp": MLPClassifier((16,), tol=0.01, max_iter=800, random_state=0),
    }
    for name, model in last.items():
        pipeline = make_pipeline(StandardScaler(), model).fit(x, y)
        file = tmp_path / f"{name}.onnx"
        onnx = to_onnx(pipeline, x[:1], options={"zipmap": False})
        file.write_bytes(onnx.SerializeToString())
        adapted = s2.adapt(s2.load(file), turned[:80], y[:80])
        assert adapted.score(turned[80:], y[80:]) > pipeline.score(turned[80:], y[80:]) + 0.1
        out = tmp_path / f"{name}-field.onnx"
        export_onnx(adapted.backbone, adapted.adapters, out)
        session = onnxruntime.InferenceSession(out)
        labels, probabilities = session.run(["label", "probabilities"], {"X": turned})
        np.testing.assert_array_equal(labels, adapted.predict(turned))
        np.testing.assert_allclose(probabilities, adapted.predict_proba(turned), atol=1e-5)
