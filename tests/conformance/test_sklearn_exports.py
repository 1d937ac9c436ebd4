"""Classifiers as skl2onnx writes them: each output says what is predicted, stock and adapted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")
skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")

from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # noqa: E402
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier  # noqa: E402
from sklearn.multiclass import OneVsRestClassifier  # noqa: E402
from sklearn.multioutput import MultiOutputClassifier  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

import skip2lora as s2  # noqa: E402
from onnx_exports import session_of  # noqa: E402
from skip2lora.errors import ModelError  # noqa: E402
from skip2lora.export.onnx import export_onnx  # noqa: E402

Refused = Callable[..., str]
random = np.random.default_rng(0)
X = random.normal(size=(60, 6)).astype(np.float32)
SCORES = X @ random.normal(size=(6, 3))
ANY, SEVERAL, NONE = (), (3,), (2, 3)


def network(**options: Any) -> MLPClassifier:
    return MLPClassifier((8,), max_iter=30, random_state=0, **options)


def logistic() -> LogisticRegression:
    return LogisticRegression(C=10)


#: What makes the estimator, and for how many classes its probabilities cannot be undone.
ESTIMATORS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "logistic": (logistic, ANY),
    "network": (network, ANY),
    "tanh": (lambda: network(activation="tanh"), ANY),
    "descent": (lambda: SGDClassifier(loss="log_loss", random_state=0), SEVERAL),
    "hinge": (lambda: SGDClassifier(random_state=0), ANY),
    "perceptron": (lambda: Perceptron(random_state=0), ANY),
    "ridge": (RidgeClassifier, ANY),
    "discriminant": (LinearDiscriminantAnalysis, ANY),
    "scaled": (lambda: make_pipeline(StandardScaler(), logistic()), ANY),
    "scaled network": (lambda: make_pipeline(StandardScaler(), network()), ANY),
    "one against the rest": (lambda: OneVsRestClassifier(logistic()), NONE),
    "calibrated": (lambda: CalibratedClassifierCV(logistic(), cv=2), NONE),
    "calibrated network": (lambda: CalibratedClassifierCV(network(), cv=2), NONE),
}
NAMES = {"numbers": np.array([4, 7, 9]), "texts": np.array(["low", "mid", "top"])}


def exported(estimator: Any, y: np.ndarray, zipmap: bool, path: Path) -> Path:
    final = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    options = {id(final): {"zipmap": zipmap}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few steps of training
        estimator.fit(X, y)
        model = skl2onnx.to_onnx(estimator, X[:1], options=options, target_opset=17)
    path.write_bytes(model.SerializeToString())
    return path


def outputs_of(path: Path) -> dict[str, Any]:
    session = session_of(path)
    given = [each.name for each in session.get_outputs()]
    return dict(zip(given, session.run(None, {session.get_inputs()[0].name: X}), strict=True))


def check_outputs(path: Path, model: Any, names: np.ndarray) -> None:
    """Every output is the label, the probabilities or the logits of what is predicted."""
    columns = []
    logits, places = model.logits(X), model.predict_index(X)
    for name, values in outputs_of(path).items():
        if isinstance(values, list):
            values = np.array([[row[of] for of in names[: logits.shape[1]].tolist()]
                               for row in values], np.float32)  # fmt: skip
        if values.dtype.kind != "f":
            assert values.reshape(-1).tolist() == names[places].tolist(), name
        elif values.size == len(X):
            columns.append(values.reshape(-1, 1))
        else:
            columns.append(values)
    shown = np.concatenate(columns, axis=1)
    is_probability = bool((shown >= 0).all() and np.allclose(shown.sum(axis=1), 1, atol=1e-4))
    expected = model.predict_proba(X) if is_probability else logits[:, -shown.shape[1] :]
    np.testing.assert_allclose(shown, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(("zipmap", "labels"), [(False, "texts"), (True, "numbers")])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_output_says_what_is_predicted(
    name: str, zipmap: bool, labels: str, n_classes: int, tmp_path: Path, refused: Refused
) -> None:
    make, closed = ESTIMATORS[name]
    names = NAMES[labels]
    y = SCORES.argmax(axis=1) if n_classes > 2 else (SCORES[:, 0] > 0).astype(int)
    path = exported(make(), names[y], zipmap, tmp_path / "m.onnx")
    model, others = s2.load(path), (y + 1) % n_classes
    options: dict[str, Any] = {"epochs": 20, "learning_rate": 0.05}
    if n_classes in closed:
        assert (model.n_outputs, model.output) == (0, None)
        for call in (lambda: model.predict_proba(X), lambda: s2.adapt(model, X, others)):
            assert "which cannot be undone" in refused(ModelError, call)
    else:
        check_outputs(path, model, names)
        assert model.class_names == tuple(map(str, names[:n_classes]))
        assert model.predict(X).tolist() == names[model.predict_index(X)].astype(str).tolist()
        adapted = s2.adapt(model, X, names[others], **options)
        assert (adapted.predict_index(X) != model.predict_index(X)).any()
        export_onnx(adapted.backbone, adapted.adapters, tmp_path / "e.onnx", samples=X)
        check_outputs(tmp_path / "e.onnx", adapted, names)
        assert outputs_of(tmp_path / "e.onnx").keys() == outputs_of(path).keys()
    anew = s2.adapt(model, X, names[others], keep_outputs=False, **options)
    export_onnx(anew.backbone, anew.adapters, tmp_path / "n.onnx", samples=X)
    [(output, values)] = outputs_of(tmp_path / "n.onnx").items()
    assert output == "logits"
    np.testing.assert_allclose(values, anew.logits(X), rtol=1e-4, atol=1e-4)


def test_a_list_of_outputs_is_no_row_of_numbers(tmp_path: Path, refused: Refused) -> None:
    """A network for each label: their probabilities are a sequence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few steps of training
        estimator = MultiOutputClassifier(network()).fit(X, SCORES[:, :2] > 0)
    model = skl2onnx.to_onnx(estimator, X[:1], options={"zipmap": False}, target_opset=17)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    backbone = s2.load(tmp_path / "m.onnx")
    assert [(spec.name, spec.width) for spec in backbone.outputs] == [
        ("label", 0), ("probabilities", 0),
    ]  # fmt: skip
    assert "SequenceConstruct" in refused(ModelError, backbone.predict, X)
    anew = s2.adapt(backbone, X, SCORES.argmax(axis=1), keep_outputs=False, epochs=20)
    export_onnx(anew.backbone, anew.adapters, tmp_path / "n.onnx", samples=X)
    np.testing.assert_allclose(
        outputs_of(tmp_path / "n.onnx")["logits"], anew.logits(X), rtol=1e-4, atol=1e-4
    )
