"""--output-name in every command that loads a model."""

from __future__ import annotations

import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
onnx = pytest.importorskip("onnx", reason="needs the package onnx")

import skip2lora as s2  # noqa: E402
from conformance.several_outputs import N_FEATURES, onnx_file  # noqa: E402
from skip2lora import cli  # noqa: E402

NAMES = ["age", "gender", "emotion"]
TAKEN = "skip2lora: output gender of age, gender, emotion is taken"
ASK = ["--output-name", "gender"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """m.onnx, which ends in a softmax, equal.onnx, which does not, d.npz, and an adapter a."""
    monkeypatch.chdir(tmp_path)
    onnx_file(Path("m.onnx"))
    onnx_file(Path("equal.onnx"), softmax=False)
    random = np.random.default_rng(2)
    x, y = random.normal(size=(12, N_FEATURES)).astype(np.float32), np.arange(12) % 2
    np.savez("d.npz", X=x, y=y)
    s2.adapt(s2.load("equal.onnx", output="gender"), x, y, epochs=3).save("a")
    return tmp_path


@dataclass(frozen=True)
class Done:
    exit_code: int
    stdout: str
    stderr: str


def run(*words: str) -> Done:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.run(list(words))
    return Done(code, out.getvalue(), err.getvalue())


def facts(*words: str) -> dict[str, Any]:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", ["inspect", "plan"])
def test_it_is_named_and_the_others_listed(command: str, desk: Path) -> None:
    found = facts(command, "m.onnx")
    assert found["output"] == {"name": "emotion", "shape": [5], "ending": "softmax"}
    assert [of["name"] for of in found["outputs"]] == NAMES
    assert facts(command, "m.onnx", *ASK)["output"]["name"] == "gender"
    assert facts(command, "m.onnx", *ASK)["n_outputs"] == 2
    text = " ".join(run(command, "m.onnx", *ASK).stdout.split())
    assert "output gender 2 (logits)" in text
    assert "other outputs age 1 (logits), emotion 5 (softmax)" in text


def test_adapt_evaluate_predict_keep_the_choice(desk: Path) -> None:
    done = run("adapt", "equal.onnx", "d.npz", "-o", "b", "--epochs", "3", *ASK)
    assert done.exit_code == 0, done.stderr
    assert TAKEN in done.stderr
    assert json.loads(Path("b/adapter_config.json").read_text())["output"] == "gender"
    x = np.load("d.npz")["X"]
    expected = s2.AdaptedModel.load(s2.load("equal.onnx", output=1), "b").predict(x)
    for more in ([], ASK):
        done = run(
            "predict", "equal.onnx", "d.npz", "--adapter", "b", "-o", "p.csv", "--force", *more
        )
        assert TAKEN in done.stderr
        made = [line.split(",")[1] for line in Path("p.csv").read_text().splitlines()[1:]]
        assert list(map(int, made)) == expected.tolist()
    scores = facts("evaluate", "equal.onnx", "d.npz", "--adapter", "b")
    assert len(scores["classes"]) == 2
    assert facts("inspect", "b")["output"] == "gender"


def test_without_an_adapter(desk: Path) -> None:
    assert len(facts("evaluate", "m.onnx", "d.npz", *ASK)["classes"]) == 2
    assert run("predict", "m.onnx", "d.npz", "-o", "p.csv", *ASK).exit_code == 0


def test_a_prepared_file_keeps_the_choice(desk: Path) -> None:
    assert facts("prepare", "equal.onnx", "-o", "t.onnx", *ASK)["n_outputs"] == 2
    assert (s2.load("t.onnx").output, s2.load("t.onnx", output=1).n_outputs) == ("gender", 2)
    assert [spec.name for spec in s2.load("t.onnx").outputs] == NAMES
    assert s2.load("t.onnx", output="emotion").n_outputs == 5
    assert s2.load("t.onnx").with_taps(1).output == "gender"
    assert s2.load("t.onnx").fingerprint == s2.load("equal.onnx", output=0).fingerprint


@pytest.mark.parametrize("kind", ["onnx", "onnx-adapter"])
def test_an_exported_model_has_the_others_as_they_were(kind: str, desk: Path) -> None:
    import onnxruntime as ort

    assert (
        run("export", "equal.onnx", "--adapter", "a", "--to", kind, "-o", "e.onnx").exit_code == 0
    )
    x = np.load("d.npz")["X"]
    options = ort.RunOptions()
    made = ort.InferenceSession("e.onnx")
    if kind == "onnx-adapter":
        adapter = ort.LoraAdapter()
        adapter.Load("e.onnx_adapter")
        options.add_active_adapter(adapter)
    before = ort.InferenceSession("equal.onnx").run(NAMES, {"x": x})
    after = made.run(NAMES, {"x": x}, options)
    for number in (0, 2):
        np.testing.assert_allclose(after[number], before[number], rtol=1e-6, atol=1e-6)
    adapted = s2.AdaptedModel.load(s2.load("equal.onnx", output=1), "a").logits(x)
    np.testing.assert_allclose(after[1], adapted, rtol=1e-4, atol=1e-5)
    assert np.abs(after[1] - before[1]).max() > 1e-3


def test_what_an_adapted_embedding_feeds_stays(desk: Path) -> None:
    import onnxruntime as ort

    from conformance.several_outputs import embedding_file
    from skip2lora.export.onnx import export_onnx

    embedding_file(Path("e.onnx"))
    x = np.load("d.npz")["X"]
    adapted = s2.adapt(s2.load("e.onnx", output="embedding"), x, np.arange(12) % 8, epochs=3)
    export_onnx(adapted.backbone, adapted.adapters, "o.onnx")
    before = ort.InferenceSession("e.onnx").run(["logits"], {"x": x})[0]
    embedding, logits = ort.InferenceSession("o.onnx").run(["embedding", "logits"], {"x": x})
    np.testing.assert_allclose(logits, before, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(embedding, adapted.logits(x), rtol=1e-4, atol=1e-5)


def test_bench(desk: Path) -> None:
    small = ["--samples", "4", "--rounds", "1", "--batch-size", "2"]
    assert facts("bench", "equal.onnx", *ASK, *small)["n_samples"] == 4
    assert "without MODEL" in run("bench", *ASK, *small).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspect", "equal.onnx"], "emotion 5 (logits), of which several may be that with the"),
        (["inspect", "equal.onnx"], "choose it with --output-name"),
        (["inspect", "d.npz", *ASK], "--output-name is gender, but d.npz is no model"),
        (["inspect", "m.onnx", "--output-name", "z"], "output is 'z' for m.onnx, expected a name"),
        (
            ["evaluate", "equal.onnx", "d.npz", "--adapter", "a", "--output-name", "age"],
            "--output-name is age, a was made for gender, expected the same: leave",
        ),
        (
            ["export", "equal.onnx", "--adapter", "a", "--to", "onnx", "-o", "x.onnx",
             "--output-name", "age"],
            "--output-name is age, a was made for gender, expected the same: leave",
        ),
    ],
)  # fmt: skip
def test_refusals(words: list[str], said: str, desk: Path) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
