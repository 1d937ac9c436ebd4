"""What loading a model opens and runs, counted where the runtime does so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnxruntime

import onnx_models as nets
import skip2lora as s2
from skip2lora.backbones.onnx.preparing import prepare

# name: what makes the model, passes of noise at loading, and their samples
MODELS: dict[str, tuple[Callable[[], Any], int, int]] = {
    "vectors": (nets.mlp, 3, 7),
    "images of one size": (lambda: nets.cnn(size=14), 3, 7),
    "one sample at a time": (lambda: nets.mlp(batch=1), 3, 3),
    "four samples at a time": (lambda: nets.mlp(batch=4), 2, 8),
    "images of any size": (lambda: nets.cnn(size="s"), 4, 9),
}


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    counts: Counter[str] = Counter()

    class Counting(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            counts["sessions"] += 1
            super().__init__(*arguments, **options)

        def run(self, names: Any, feed: Any, options: Any = None) -> Any:
            counts["passes"] += 1
            counts["samples"] += len(next(iter(feed.values())))
            return super().run(names, feed, options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Counting)
    return counts


@pytest.mark.parametrize("name", MODELS)
def test_one_session_and_few_passes_of_a_few_samples(
    name: str, tmp_path: Path, counts: Counter[str]
) -> None:
    """Three, and a fourth where sizes are open; the session with the taps opens with a row."""
    make, passes, samples = MODELS[name]
    model = s2.load(nets.save(make(), tmp_path / "m.onnx"))
    assert counts == {"sessions": 1, "passes": passes, "samples": samples}
    shape = [14 if size is None else size for size in model.inputs[0].shape]
    x = np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)
    for _ in range(2):
        model.forward(model.check(x))
        model.with_taps([0]).logits(x)
    assert counts["sessions"] == 2


def test_a_prepared_file_runs_no_noise(tmp_path: Path, counts: Counter[str]) -> None:
    prepare(nets.save(nets.mlp(), tmp_path / "m.onnx"), tmp_path / "p.onnx")
    counts.clear()
    s2.load(tmp_path / "p.onnx")
    assert counts == {"sessions": 1}


def test_weights_beside_the_file_are_those_of_loading(tmp_path: Path) -> None:
    """A session that opened later would read what lies there then."""
    model = nets.mlp([4, 64, 48, 3])
    path = nets.save(model, tmp_path / "m.onnx", external=True)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    before, late = s2.load(path).logits(x), s2.load(path)
    [beside] = [file for file in tmp_path.iterdir() if file != path]
    size = beside.stat().st_size
    beside.unlink()  # else it would change below the session, too
    beside.write_bytes(bytes(size))
    np.testing.assert_array_equal(late.logits(x), before)


def test_what_cannot_be_opened_is_said_when_it_is_asked_for(
    tmp_path: Path, counts: Counter[str], monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    backbone = s2.load(nets.save(nets.mlp(), tmp_path / "m.onnx"))

    def failing(*_: Any) -> None:
        raise onnxruntime.capi.onnxruntime_pybind11_state.Fail("[ONNXRuntimeError] : 1 : no room")

    monkeypatch.setattr(onnxruntime, "InferenceSession", failing)
    said = refused(s2.errors.ModelError, backbone.logits, np.zeros((2, 9), np.float32))
    assert "m.onnx: onnxruntime" in said
