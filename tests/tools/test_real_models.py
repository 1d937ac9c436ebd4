"""The script that tries real model files, on two small generated ones and one that is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models as nets

TOOL = Path(__file__).parents[2] / "tools" / "real_models.py"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("models")
    nets.save(nets.mlp(), folder / "a.onnx")
    nets.save(nets.transformer(encoder=True), folder / "b.onnx")
    (folder / "c.onnx").write_bytes(b"<html>not found</html>")
    done = subprocess.run(
        [sys.executable, TOOL, folder, "--json"], capture_output=True, text=True, check=True
    )
    *models, counts = done.stdout.splitlines()
    assert counts == "2 works, 0 partly, 1 refused, 0 WRONG"
    return [json.loads(line) for line in models]


def test_a_model_that_works_went_all_the_way(lines: list[dict]) -> None:
    for facts in lines[:2]:
        assert facts["wrong"] == facts["refused"] == []
        assert facts["export"] <= 1e-4
        assert facts["step"] == "plan"


def test_a_refused_model_has_its_line(lines: list[dict]) -> None:
    (reason,) = lines[2]["refused"]
    assert "c.onnx is a web page" in reason


def test_disagreement_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(TOOL.parent)
    import real_models

    path = nets.save(nets.mlp(), tmp_path / "a.onnx")
    monkeypatch.setattr(real_models, "exported_logits", lambda *_: 1e9)
    monkeypatch.setattr(real_models, "apart", lambda one, other: 1.0)
    facts = real_models.tried(path)
    assert facts["wrong"]
    assert real_models.line_of(facts).startswith("WRONG")
