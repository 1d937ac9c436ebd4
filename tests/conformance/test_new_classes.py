"""New classes behind every end of a graph: what is exported says what the adapted model does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnxruntime

import skip2lora as s2
from backbones.onnx.test_ends import KEPT, LONG, Said, Tail, X, of_rows, softmax
from skip2lora.export.onnx import export_onnx, export_onnx_adapter

End = tuple[int, Callable[[Tail], Any], list[Callable[[Said], Any]]]


def tables(t: Tail, kind: str) -> str:
    """The label of each sample by a table of three."""
    place = t("ArgMax", t.z, axis=1, keepdims=0)
    if kind == "Gather":
        return t("Gather", np.array([7, 9, 4]), place)
    options = {"keys_int64s": [0, 1, 2], "values_int64s": [7, 9, 4]}
    return t("LabelEncoder", place, domain="ai.onnx.ml", **options)


def beside(kind: str) -> End:
    """A label by a table, beside the probabilities."""
    return 3, lambda t: (t.output(tables(t, kind), LONG), t.output(softmax(t))), [lambda s: s.proba]


ENDS: dict[str, End] = {
    **KEPT,
    "none": (3, lambda t: t.output(t.z), []),
    "none, one number": (1, lambda t: t.output(t.z), []),
    "probabilities beside a table": beside("Gather"),
    "probabilities beside an encoder": beside("LabelEncoder"),
}
#: What can tell any number of classes; other ends give the logits instead.
WIDE = {
    "softmax", "log", "log of softmax", "percent", "per mille", "clamped", "clamped in steps",
    "temperature", "half", "label", "label of percent", "none", "probabilities beside a table",
    "probabilities beside an encoder", "clipped from below", "normed logits",
}  # fmt: skip


def ran(folder: Path, *, with_adapter: bool) -> dict[str, Any]:
    """The outputs of an exported model for ``X``."""
    options = onnxruntime.RunOptions()
    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 3
    if with_adapter:
        adapter = onnxruntime.LoraAdapter()
        adapter.Load(str(folder / "e.onnx_adapter"))
        options.add_active_adapter(adapter)
    session = onnxruntime.InferenceSession(folder / "e.onnx", session_options)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, {"x": X}, options), strict=True))


@pytest.mark.parametrize(
    ("name", "n_new"), [(name, n_new) for name, n_new in product(ENDS, (1, 3))]
)
def test_new_classes_behind(name: str, n_new: int, tmp_path: Path) -> None:
    width, build, expected = ENDS[name]
    tail = Tail(width)
    build(tail)
    model = s2.load(tail.save(tmp_path / "m.onnx"))
    old = list(model.class_names or map(str, range(max(2, model.n_outputs))))
    titles = np.array([*old, *(f"new {number}" for number in range(n_new))])
    names = {"output_names": old} if model.class_names is None else {}
    adapted = s2.adapt(
        model, X, titles[np.arange(len(X)) % len(titles)], task="classification", new_classes=True,
        epochs=3, learning_rate=0.02, **names,
    )  # fmt: skip
    logits = adapted.logits(X)
    assert logits.shape == (len(X), len(titles))
    for export in (export_onnx, export_onnx_adapter):
        export(adapted.backbone, adapted.adapters, tmp_path / "e.onnx", samples=X)
        made = ran(tmp_path, with_adapter=export is export_onnx_adapter)
        if name not in WIDE:
            assert list(made) == ["logits"] or name == "linear classifier"
        wanted = [lambda _: logits] if name not in WIDE or not expected else expected
        if name == "linear classifier":  # its table of labels is left out, its probabilities stay
            wanted = expected[1:]
        assert len(made) == len(wanted)
        said = Said(adapted.predict_proba(X), adapted.predict_index(X))
        for values, of in zip(made.values(), wanted, strict=True):
            got, want = of_rows(values), of(said)
            near = 2e-3 if got.dtype == np.float16 else 1e-4 * max(1, np.abs(want).max())
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=near)
