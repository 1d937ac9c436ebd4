"""Chains of models: what their parts give one after the other, run apart by onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnxruntime

import skip2lora as s2
from onnx_models import Net, save, value
from skip2lora.backbones.onnx.preparing import prepare
from skip2lora.errors import FileError, ModelError, ParameterError

Refused = Callable[..., str]
X = np.random.default_rng(0).normal(size=(5, 240)).astype(np.float32)


def frames(path: Path, *, opset: int = 13, samples: Any = "samples") -> Path:
    """Sound to frames of four numbers each: (n, samples) to (n, 1, samples / 10, 4)."""
    net = Net(seed=1, opset=opset)
    row = net.constant("row", np.array([0, 1, -1], np.int64))
    net.node("Reshape", ["x", row], "line")
    net.node("Conv", ["line", net.weight("w", 4, 1, 10)], "bands", strides=[10])
    net.node("Transpose", ["bands"], "turned", perm=[0, 2, 1])
    to = net.constant("to", np.array([0, 1, -1, 4], np.int64))
    net.node("Reshape", ["turned", to], "frames")
    inputs = [value("x", ["n", samples])]
    return save(net.model(inputs, [value("frames", ["n", 1, "t", 4])]), path)


def embedding(path: Path, *, opset: int = 13, n_frames: Any = 8) -> Path:
    """Eight frames to three numbers: (n, 8, 4, 1) to (n, 1, 1, 3)."""
    net = Net(seed=2, opset=opset)
    flat = net.constant("flat", np.array([-1, 32], np.int64))
    net.node("Reshape", ["x", flat], "row")
    net.node("MatMul", ["row", net.weight("w1", 32, 6)], "a")
    net.node("Relu", ["a"], "b")
    net.node("MatMul", ["b", net.weight("w2", 6, 3)], "c")
    to = net.constant("to", np.array([-1, 1, 1, 3], np.int64))
    net.node("Reshape", ["c", to], "y")
    return save(net.model([value("x", ["n", n_frames, 4, 1])], [value("y", ["n", 1, 1, 3])]), path)


def head(path: Path, n_windows: int = 5) -> Path:
    """Five embeddings to two classes: (n, 5, 3) to (n, 2)."""
    net = Net(seed=3)
    flat = net.constant("flat", np.array([-1, 3 * n_windows], np.int64))
    net.node("Reshape", ["x", flat], "row")
    net.node("MatMul", ["row", net.weight("w", 3 * n_windows, 2)], "y")
    return save(net.model([value("x", ["n", n_windows, 3])], [value("y", ["n", 2])]), path)


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path)
    made: np.ndarray = session.run(None, {session.get_inputs()[0].name: x})[0]
    return made


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    frames(tmp_path / "frames.onnx")
    embedding(tmp_path / "embedding.onnx")
    head(tmp_path / "head.onnx")
    return tmp_path


PAIR = [{"path": "frames.onnx"}, {"path": "embedding.onnx", "scale": 0.5, "offset": 2.0}]


def written(folder: Path, models: list[dict[str, Any]], **more: Any) -> Path:
    """As a .toml, in ``folder``."""
    lines = [f"{name} = {number}" for name, number in more.items()]
    for model in models:
        lines += ["[[model]]", *(f"{name} = {of!r}" for name, of in model.items())]
    path = folder / "chain.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_two_models(parts: Path) -> None:
    """Eighty samples make eight frames, which the second one takes in its own shape."""
    model = s2.load(written(parts, PAIR, samples=80))
    x = X[:, :80]
    between = 0.5 * run(parts / "frames.onnx", x) + 2
    want = run(parts / "embedding.onnx", between.reshape(5, 8, 4, 1).astype(np.float32))
    assert model.inputs[0].shape == (80,)
    np.testing.assert_allclose(model.logits(x), want.reshape(5, 3), rtol=0, atol=1e-5)
    assert len(model.taps) >= 3  # of both


def test_windows_that_pass_the_next_one_each(parts: Path) -> None:
    models = [PAIR[0], PAIR[1] | {"hop": 4}, {"path": "head.onnx"}]
    model = s2.load(written(parts, models, samples=240))
    between = 0.5 * run(parts / "frames.onnx", X) + 2
    rows = [
        np.stack([
            run(parts / "embedding.onnx", one[0, at : at + 8, :, None][None].astype(np.float32))
            for at in range(0, 17, 4)
        ]).reshape(1, 5, 3)
        for one in between
    ]  # fmt: skip
    want = np.concatenate([run(parts / "head.onnx", row) for row in rows])
    np.testing.assert_allclose(model.logits(X), want, rtol=0, atol=1e-5)


def test_what_no_window_takes_is_said(parts: Path, tmp_path: Path) -> None:
    """Where it is loaded, beside notes of the model, and of what is written of it."""
    models = [PAIR[0], PAIR[1] | {"hop": 5}, {"path": "head.onnx"}]
    said = (
        "of 30 steps before embedding.onnx the last 2 are left out, as 5 windows of 8, hop 5, end "
        "before them"
    )
    path = written(parts, models, samples=300)
    with pytest.warns(UserWarning, match=said):
        model = s2.load(path)
    assert model.notes == (said,)
    absolute = [entry | {"path": str(parts / entry["path"])} for entry in models]
    with pytest.warns(UserWarning, match=said):
        s2.chain(absolute, tmp_path / "one.onnx", samples=300)
    with pytest.warns(UserWarning, match=said):
        one = s2.load(tmp_path / "one.onnx")
    assert one.notes == (said,)
    x = np.random.default_rng(2).normal(size=(4, 300)).astype(np.float32)
    rest = x.copy()
    rest[:, 280:] = 0  # it is true
    np.testing.assert_array_equal(one.logits(x), one.logits(rest))
    rest[:, 279] += 1
    assert not np.array_equal(one.logits(x), one.logits(rest))
    assert prepare(tmp_path / "one.onnx", tmp_path / "tapped.onnx").cut == said


def test_all_that_windows_take_says_nothing(parts: Path) -> None:
    models = [PAIR[0], PAIR[1] | {"hop": 4}, {"path": "head.onnx"}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert s2.load(written(parts, models, samples=240)).notes == ()


def test_one_file_of_them(parts: Path) -> None:
    models = [parts / "frames.onnx", {**PAIR[1], "path": str(parts / "embedding.onnx")}]
    s2.chain(models, parts / "both.onnx", samples=80)
    one, other = s2.load(parts / "both.onnx"), s2.load(written(parts, PAIR, samples=80))
    assert one.logits(X[:, :80]).tobytes() == other.logits(X[:, :80]).tobytes()
    assert one.fingerprint == other.fingerprint


def test_adapted_and_exported(parts: Path) -> None:
    chain = written(parts, PAIR, samples=80)
    x = np.random.default_rng(1).normal(size=(40, 80)).astype(np.float32)
    y = (x[:, :10].sum(axis=1) > 0).astype(int)
    adapted = s2.adapt(s2.load(chain), x, y, keep_outputs=False)
    adapted.save(parts / "adapter")
    again = s2.AdaptedModel.load(s2.load(chain), parts / "adapter")
    assert (again.predict(x) == adapted.predict(x)).all()
    from skip2lora.export.onnx import export_onnx

    export_onnx(again.backbone, again.adapters, parts / "adapted.onnx")
    session = onnxruntime.InferenceSession(parts / "adapted.onnx")
    names = [each.name for each in session.get_outputs()]
    logits = session.run(["logits"], {session.get_inputs()[0].name: x})[0]
    assert "logits" in names
    np.testing.assert_allclose(logits, adapted.logits(x), rtol=0, atol=1e-4)


def test_older_opsets_are_converted(parts: Path) -> None:
    embedding(parts / "embedding.onnx", opset=11)
    model = s2.load(written(parts, PAIR, samples=80))
    assert model.logits(X[:, :80]).shape == (5, 3)


def test_external_data_is_taken_along(parts: Path) -> None:
    import onnx

    plain = s2.load(written(parts, PAIR, samples=80)).logits(X[:, :80])
    model = onnx.load(parts / "embedding.onnx")
    onnx.save(
        model, parts / "embedding.onnx", save_as_external_data=True, location="e.bin",
        size_threshold=0,
    )  # fmt: skip
    assert s2.load(written(parts, PAIR, samples=80)).logits(X[:, :80]).tobytes() == plain.tobytes()


@pytest.mark.parametrize(
    ("models", "samples", "said"),
    [
        (PAIR, None, "leaves open how many samples it takes"),
        (PAIR, 100, "takes [8, 4, 1] of a sample, the models before it give [1, 10, 4]"),
        (PAIR, 70, "the models before it give [1, 7, 4], expected 32"),
        (PAIR, 0, "samples 0"),
        ([{"path": "frames.onnx", "gain": 2}], 80, "'gain': 2"),
        ([{"path": "frames.onnx", "hop": 0}], 80, "'hop': 0"),
        ([{"path": "frames.onnx", "scale": 0.0}], 80, "'scale': 0.0"),
        ([{"path": "frames.onnx", "scale": 1e39}], 80, "'scale': 1e+39"),  # beyond float32
        ([{"path": "frames.onnx", "scale": -1e-46}], 80, "'scale': -1e-46"),
        ([{"path": "frames.onnx", "offset": -1e39}], 80, "'offset': -1e+39"),
        ([{"path": "frames.onnx", "offset": float("nan")}], 80, "'offset': nan"),
        ([PAIR[1]], 80, "its first model has nothing before it"),
        ([PAIR[0] | {"hop": 2}, PAIR[1]], 80, "its first model has nothing before it"),
        (PAIR, 10**30, f"samples {10**30}"),
        ([{"scale": 1.0}], 80, "'path'"),
        ([{"path": "chain.toml"}], 80, "'path': 'chain.toml'"),
        ([PAIR[0], {"path": "two.onnx"}], 80, "two.onnx has 2 inputs, expected one"),
        ([PAIR[0], {"path": "open.onnx"}], 80, "leaves [0, 4, 1] of its input open"),
        ([{"path": "closed.onnx"}], 70, "takes [80] of a sample"),
        ([PAIR[0], {"path": "turned.onnx"}], 80, "turned.onnx takes [4, 8] of a sample"),
    ],
)
def test_what_does_not_fit(
    models: Any, samples: int | None, said: str, parts: Path, refused: Refused
) -> None:
    net = Net()
    net.node("Add", ["x", "z"], "y")
    save(net.model([value("x", ["n", 3]), value("z", ["n", 3])], [value("y", ["n", 3])]),
         parts / "two.onnx")  # fmt: skip
    net = Net()
    net.node("MatMul", ["x", net.weight("w", 8, 3)], "y")
    save(net.model([value("x", ["n", 4, 8])], [value("y", ["n", 4, 3])]), parts / "turned.onnx")
    embedding(parts / "open.onnx", n_frames="t")
    frames(parts / "closed.onnx", samples=80)
    more = {} if samples is None else {"samples": samples}
    assert said in refused(ModelError, s2.load, written(parts, models, **more))


@pytest.mark.parametrize(
    "text",
    ["", "a = ", "model = 3", "[[model]]\n", "\x00", "surprise = 1", "# " + "x" * (1 << 20)],
)
def test_what_is_no_chain(text: str, parts: Path, refused: Refused) -> None:
    (parts / "c.toml").write_text(text)
    assert "c.toml" in refused(ModelError, s2.load, parts / "c.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[modle]]\npath = "frames.onnx"\n', "('model')"),
        ('[model]\npath = "frames.onnx"\n', "is no chain of models (string indices"),
        ('[[model]\npath = "frames.onnx"\n', "at line 1"),
        ('path = "frames.onnx"\n', "('model')"),
        ('{"model": []}', "JSON, as of a failed download"),
    ],
)
def test_mistakes_in_a_chain_are_not_taken_for_other_files(
    text: str, said: str, parts: Path, refused: Refused
) -> None:
    (parts / "c.toml").write_text(text)
    assert said in refused(ModelError, s2.load, parts / "c.toml")


def test_what_fails_to_run_is_said_once(
    parts: Path, refused: Refused, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the refusal alone, and not by the runtime as well."""
    with np.errstate(all="ignore"):
        message = refused(ModelError, s2.load, written(parts, PAIR, samples=1))
    assert "its models do not run one after the other" in message
    assert capfd.readouterr().err == ""


def test_files_that_are_not_there(parts: Path, refused: Refused) -> None:
    chain = written(parts, [{"path": "none.onnx"}], samples=80)
    assert "none.onnx" in refused(FileError, s2.load, chain)
    out = parts / "out.onnx"
    assert "no models" in refused(ParameterError, s2.chain, [], out)
    assert "'path'" in refused(ParameterError, s2.chain, [{"scale": 2.0}], out)
    assert not out.exists()
