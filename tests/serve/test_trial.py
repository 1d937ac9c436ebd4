"""The service that runs for a moment does all that one does, and leaves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import onnx_models
import skip2lora as s2
from serve.place import field, meter, model, readings
from skip2lora.errors import MissingExtraError
from skip2lora.serve import trial
from skip2lora.serve.http import Infer
from skip2lora.serve.service import Service


@pytest.fixture
def done(monkeypatch):
    """What was called meanwhile, and what each gave."""
    calls = []

    def watch(owner, name):
        before = getattr(owner, name)

        def instead(self, *args, **kwargs):
            result = before(self, *args, **kwargs)
            calls.append((name, result))
            return result

        monkeypatch.setattr(owner, name, instead)

    for name in ("predict", "ask", "label", "learn", "status", "samples", "versions", "events"):
        watch(Service, name)
    watch(Infer, "__call__")
    return calls


def of(done, name):
    return [result for each, result in done if each == name]


@pytest.mark.parametrize("kind", ["table", "images", "numbers"])
def test_it_serves_asks_labels_and_learns(tmp_path: Path, monkeypatch, done, kind) -> None:
    pytest.importorskip("uvicorn")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    some: Any = field(n_samples=trial.N_SAMPLES)[0]
    served: Any = model()
    if kind == "images":
        served = s2.load(onnx_models.save(onnx_models.cnn(), tmp_path / "m.onnx"))
        some = onnx_models.images(trial.N_SAMPLES)
    if kind == "numbers":
        served, some = meter(), readings(n_samples=trial.N_SAMPLES)[0]
    trial.rehearse(served, some)
    assert {name for name, _ in done} == {
        "predict", "ask", "label", "learn", "status", "samples", "versions", "events", "__call__",
    }  # fmt: skip
    sizes = [len(each) for each in of(done, "predict")]
    assert sizes[0] == sum(sizes[1:]) == trial.N_SAMPLES
    assert len(of(done, "__call__")) == trial.N_SAMPLES
    assert of(done, "learn")[0].version == 1
    assert not list((tmp_path / "temporary").iterdir())


def test_without_the_extra_it_does_all_but_http(monkeypatch, done) -> None:
    def lacking() -> None:
        raise MissingExtraError("not installed")

    monkeypatch.setattr(trial, "need_starlette", lacking)
    trial.rehearse(model(), field(n_samples=trial.N_SAMPLES)[0])
    assert not of(done, "__call__")
    assert of(done, "learn")[0].version == 1
