"""States in and out of ONNX graphs: which output is which input, and what onnxruntime gives."""

from __future__ import annotations

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
from skip2lora.backbones.onnx import OnnxBackbone, prepare
from skip2lora.backbones.onnx.states import _axis
from skip2lora.errors import DataError, ModelError
from skip2lora.export.onnx import export_onnx
from stream_models import HIDDEN, STEP, WIDTH, lstm

Refused = Callable[..., str]
X = np.random.default_rng(0).normal(size=(6, 4 * STEP, WIDTH)).astype(np.float32)


def streamed(path: Path, x: np.ndarray, names: tuple[str, ...] = ("h0", "c0")) -> list[Any]:
    """All outputs of the last call of each sample, run alone by onnxruntime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = []
    for sample in x:
        states = dict.fromkeys(names, np.zeros((1, 1, HIDDEN), np.float32))
        for at in range(0, len(sample), STEP):
            y, *after = session.run(None, {"x": sample[None, at : at + STEP], **states})
            after = after[: len(names)]  # taps may follow
            states = dict(zip(names, after, strict=True))
        rows.append([y[0], *(state[:, 0] for state in after)])
    return [np.stack(each) for each in zip(*rows, strict=True)]


def softmax(logits: np.ndarray) -> np.ndarray:
    values = np.exp(logits - logits.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("batch", ["n", 1], ids=["any batch", "one at a time"])
@pytest.mark.parametrize(
    "names",
    [
        ("h0", "c0", "hn", "cn"), ("h", "c", "h_out", "c_out"), ("in_h", "in_c", "out_h", "out_c"),
        ("hidden_in", "cell_in", "hidden_out", "cell_out"), ("sH", "sC", "sHN", "sCN"),
        ("past_h", "past_c", "present_h", "present_c"), ("h0", "h1", "h0_out", "h1_out"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_states_are_found_by_their_names(
    names: tuple[str, ...], batch: Any, tmp_path: Path
) -> None:
    path = lstm(tmp_path / "m.onnx", names=names, batch=batch)
    model = s2.load(path)
    assert isinstance(model, OnnxBackbone)
    assert model.stream is not None
    assert dict(model.stream.states) == {names[0]: names[2], names[1]: names[3]}
    assert [(each.name, each.shape) for each in model.inputs] == [("x", (None, STEP, WIDTH))]
    expected, state, _ = streamed(path, X, names[:2])
    rows = model.forward(model.check(X))
    np.testing.assert_allclose(softmax(rows.base_logits), expected, atol=1e-6)
    np.testing.assert_allclose(rows.taps[-1], state[:, 0], atol=1e-6)


def test_the_only_one_of_its_shape_needs_no_name(tmp_path: Path) -> None:
    model = s2.load(lstm(tmp_path / "m.onnx", kind="GRU", names=("before", "", "later", "")))
    assert model.stream is not None
    assert dict(model.stream.states) == {"before": "later"}


def test_a_sample_alone_is_as_in_a_batch_and_in_another_order(tmp_path: Path) -> None:
    model = s2.load(lstm(tmp_path / "m.onnx"))
    x = np.concatenate([X] * 12)  # in several runs of the session
    logits = model.logits(x)
    np.testing.assert_array_equal(logits[: len(X)], logits[-len(X) :])
    np.testing.assert_array_equal(model.logits(X[::-1])[::-1], logits[: len(X)])
    alone = np.concatenate([model.logits(sample[None]) for sample in X])
    np.testing.assert_allclose(alone, logits[: len(X)], rtol=1e-5, atol=1e-6)
    assert np.abs(np.diff(logits[: len(X)], axis=0)).min() > 1e-6


def test_calls_before_the_last_count(tmp_path: Path) -> None:
    model = s2.load(lstm(tmp_path / "m.onnx"))
    assert np.abs(model.logits(X) - model.logits(X[:, -STEP:])).max() > 1e-3


def test_adapters_for_sequences(tmp_path: Path) -> None:
    path, y = lstm(tmp_path / "m.onnx"), np.arange(len(X)) % 4
    adapted = s2.adapt(s2.load(path), X, y)
    adapted.save(tmp_path / "a")
    again = s2.AdaptedModel.load(s2.load(path), tmp_path / "a")
    np.testing.assert_array_equal(again.logits(X), adapted.logits(X))
    out = tmp_path / "e.onnx"
    export_onnx(adapted.backbone, adapted.adapters, out)
    expected, *states = streamed(path, X)
    probabilities, *same = streamed(out, X)
    np.testing.assert_allclose(probabilities, adapted.predict_proba(X), atol=1e-5)
    assert np.abs(probabilities - expected).max() > 1e-2
    for one, other in zip(same, states, strict=True):  # what is learned changes no state
        np.testing.assert_array_equal(one, other)
    assert dict(s2.load(out).stream.states) == {"h0": "hn", "c0": "cn"}


def test_a_prepared_file_keeps_its_states(tmp_path: Path) -> None:
    path, out = lstm(tmp_path / "m.onnx"), tmp_path / "p.onnx"
    prepare(path, out)
    model, prepared = s2.load(path), s2.load(out)
    np.testing.assert_array_equal(prepared.logits(X), model.logits(X))
    assert prepared.notes == model.notes
    np.testing.assert_array_equal(streamed(out, X)[0], streamed(path, X)[0])


def test_what_is_said_of_it(tmp_path: Path) -> None:
    assert s2.load(lstm(tmp_path / "m.onnx")).notes == (
        "state: h0 (1 x 6), c0 (1 x 6); a sample is any number of calls of 3 x 5 from a fresh "
        "state, and its row the last call",
    )


def test_a_rest_of_a_call(tmp_path: Path, refused: Refused) -> None:
    model = s2.load(lstm(tmp_path / "m.onnx"))
    message = refused(DataError, model.logits, X[:, :-1])
    assert message.startswith("X has 11 along the second axis, the model takes 3 a call, expected")


def test_states_that_may_be_either(tmp_path: Path, refused: Refused) -> None:
    path = lstm(tmp_path / "m.onnx", names=("i", "j", "first", "second"))
    message = refused(ModelError, s2.load, path)
    assert message.startswith(
        f"{path}: state i may be carried on by outputs first or second, expected one of them: say"
    )


def stateful(
    path: Path, *, steps: Any = STEP, hidden: Any = HIDDEN, logits_fed: bool = False
) -> Path:
    """A network without recurrent layers, whose state is one of its inputs; or that of a GRU."""
    net = Net(seed=3)
    frames = net.node("Transpose", ["x"], "frames", perm=[1, 0, 2])
    shape = (1, 3 * HIDDEN)
    weights = [net.weight("w", *shape, WIDTH), net.weight("r", *shape, HIDDEN)]
    net.node("GRU", [frames, *weights, "", "", "state"], "all", hidden_size=HIDDEN)
    net.nodes[-1].output.append("after")
    row = net.node("Squeeze", ["after", net.constant("zero", np.array([0], np.int64))], "row")
    logits = net.node("Gemm", [row, net.weight("v", HIDDEN, HIDDEN)], "y")
    state = net.node("Unsqueeze", [logits if logits_fed else row, "zero"], "stateN")
    inputs = [value("x", ["n", steps, WIDTH]), value("state", [1, "n", hidden])]
    return save(
        net.model(inputs, [value("y", ["n", HIDDEN]), value(state, [1, "n", HIDDEN])]), path
    )


def test_how_much_a_call_takes_is_to_be_known(tmp_path: Path, refused: Refused) -> None:
    path = stateful(tmp_path / "m.onnx", steps="t")
    message = refused(ModelError, s2.load, path)
    assert message == (
        f"{path} leaves open how much of input x a call takes, expected samples = NUMBER in a "
        ".toml that names it: add it"
    )
    path = stateful(tmp_path / "o.onnx", hidden="h")
    assert "leaves open how large state state is, expected fixed" in refused(
        ModelError, s2.load, path
    )


def test_logits_that_are_the_next_state_stay_as_they_are(tmp_path: Path) -> None:
    path, out = stateful(tmp_path / "m.onnx", logits_fed=True), tmp_path / "e.onnx"
    adapted = s2.adapt(s2.load(path), X, np.arange(len(X)) % HIDDEN)
    export_onnx(adapted.backbone, adapted.adapters, out)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    states = {True: np.zeros((1, len(X), HIDDEN), np.float32)}
    states[False] = states[True]
    base = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for at in range(0, X.shape[1], STEP):
        x = X[:, at : at + STEP]
        values = dict(zip(names, session.run(None, {"x": x, "state": states[True]}), strict=True))
        states[True] = values["stateN"]
        _, states[False] = base.run(None, {"x": x, "state": states[False]})
        np.testing.assert_array_equal(states[True], states[False])
    np.testing.assert_allclose(values["logits"], adapted.logits(X), atol=1e-4)


def toml(folder: Path, text: str, model: str = "m.onnx") -> Path:
    """A ``.toml`` that says ``text`` of the states of a model beside it."""
    path = folder / "m.toml"
    head, _, rest = text.partition("\n\n")
    path.write_text(f'{head}\n[[model]]\npath = "{model}"\n[stream]\n{rest}\n')
    return path


def test_the_mean_of_all_calls(tmp_path: Path) -> None:
    path, y = lstm(tmp_path / "m.onnx"), np.arange(len(X)) % 4
    model, last = s2.load(toml(tmp_path, '\n\ncalls = "mean"')), s2.load(path)
    assert model.fingerprint != last.fingerprint
    n_frames = [STEP * n_calls for n_calls in range(1, 5)]
    each = [last.forward(last.check(X[:, :n])) for n in n_frames]
    rows = model.forward(model.check(X))
    logits = np.mean([of.base_logits for of in each], axis=0)
    np.testing.assert_allclose(rows.base_logits, logits, rtol=1e-4, atol=1e-5)
    taps = np.mean([of.taps[-1] for of in each], axis=0)
    np.testing.assert_allclose(rows.taps[-1], taps, rtol=1e-4, atol=1e-5)
    adapted, out = s2.adapt(model, X, y), tmp_path / "e.onnx"
    export_onnx(adapted.backbone, adapted.adapters, out)
    again = s2.load(out)  # which says of itself that the mean counts
    assert again.stream.calls == "mean"
    np.testing.assert_allclose(again.logits(X), adapted.logits(X), rtol=1e-4, atol=1e-4)
    probabilities = [streamed(out, X[:, :n])[0] for n in n_frames]  # the device has each call's
    logs = np.mean([np.log(of) for of in probabilities], axis=0)
    np.testing.assert_allclose(softmax(logs), adapted.predict_proba(X), atol=1e-5)


def test_states_that_are_said(tmp_path: Path) -> None:
    lstm(tmp_path / "m.onnx", names=("i", "j", "first", "second"))
    path = toml(tmp_path, '\n\nstates = { i = "first", j = "second" }')
    expected = streamed(tmp_path / "m.onnx", X, ("i", "j"))[0]
    np.testing.assert_allclose(softmax(s2.load(path).logits(X)), expected, atol=1e-6)
    out = tmp_path / "c.onnx"
    stream = {"states": {"i": "first", "j": "second"}}
    s2.chain([tmp_path / "m.onnx"], out, stream=stream)
    np.testing.assert_allclose(softmax(s2.load(out).logits(X)), expected, atol=1e-6)


def test_how_much_a_call_takes_may_be_said(tmp_path: Path) -> None:
    stateful(tmp_path / "m.onnx", steps="t")
    fixed = stateful(tmp_path / "f.onnx")
    with pytest.raises(ModelError, match="leaves open how many samples it takes"):
        s2.load(toml(tmp_path, ""))
    model = s2.load(toml(tmp_path, f"samples = {STEP}"))
    assert [each.shape for each in model.inputs] == [(None, STEP, WIDTH)]
    np.testing.assert_array_equal(model.logits(X), s2.load(fixed).logits(X))


def accumulator(path: Path) -> Path:
    """A state without a recurrent layer, which is an input like others unless it is said."""
    net = Net(seed=4)
    gain = net.node("Mul", ["x", "gain"], "scaled")
    mixed = net.node("Gemm", ["state", net.weight("u", HIDDEN, HIDDEN)], "mixed")
    news = net.node("Gemm", [gain, net.weight("w", WIDTH, HIDDEN)], "news")
    net.node("Add", [mixed, news], "sum")
    after = net.node("Tanh", ["sum"], "state_out")
    logits = net.node("Gemm", [after, net.weight("v", HIDDEN, 3)], "y")
    inputs = [value("x", ["n", WIDTH]), value("gain", []), value("state", ["n", HIDDEN])]
    return save(net.model(inputs, [value(logits, ["n", 3]), value(after, ["n", HIDDEN])]), path)


def test_constants_and_states_of_any_layers(tmp_path: Path, refused: Refused) -> None:
    path = accumulator(tmp_path / "m.onnx")
    model = s2.load(toml(tmp_path, "\n\nconstants = { gain = 0.5 }"))
    assert dict(model.stream.states) == {"state": "state_out"}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    state = np.zeros((len(X), HIDDEN), np.float32)
    for at in range(X.shape[1]):
        given = {"x": X[:, at], "gain": np.array(0.5, np.float32), "state": state}
        expected, state = session.run(None, given)
    np.testing.assert_allclose(model.logits(X), expected, rtol=1e-4, atol=1e-5)
    message = refused(ModelError, s2.load, toml(tmp_path, "\n\nconstants = { loud = 1 }"))
    assert "has no input loud of fixed size, expected one of x, gain, state: correct" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('states = { h0 = "y" }', "has no state h0 that output y carries on, expected an input"),
        ('states = { h = "hn" }', "has no state h that output hn carries on"),
        ('states = { h0 = "hn", c0 = "hn" }', "expected an output for each, and a further input"),
        ('calls = "first"', "is no chain of models (calls), expected"),
        ('call = "last"', "is no chain of models (call), expected"),
        ("states = 3", "is no chain of models"),
        ("hop = 4", "goes on by hop = 4, and takes x [3, 5] a call, expected at most as much"),
        ("hop = 0", "is no chain of models (hop 0), expected"),
        ('constants = { h0 = "a" }', "is no chain of models (constants), expected"),
    ],
)
def test_what_is_said_wrongly(text: str, words: str, tmp_path: Path, refused: Refused) -> None:
    lstm(tmp_path / "m.onnx")
    assert words in refused(ModelError, s2.load, toml(tmp_path, f"\n\n{text}"))


def test_nothing_to_carry_on(tmp_path: Path, refused: Refused) -> None:
    net = Net()
    net.node("Gemm", ["x", net.weight("w", WIDTH, 3)], "y")
    save(net.model([value("x", ["n", WIDTH])], [value("y", ["n", 3])]), tmp_path / "m.onnx")
    message = refused(ModelError, s2.load, toml(tmp_path, ""))
    assert "has no input that an output carries on, as far as names and shapes tell" in message


def test_metadata_that_say_it_wrongly(tmp_path: Path, refused: Refused) -> None:
    import onnx

    model = onnx.load(lstm(tmp_path / "m.onnx"))
    model.metadata_props.add(key="skip2lora.stream", value='{"calls": []}')
    message = refused(ModelError, s2.load, save(model, tmp_path / "m.onnx"))
    assert "says wrongly which states it has, expected states and calls" in message


def test_a_call_takes_some_again(tmp_path: Path) -> None:
    """Exported and loaded again, the file knows by how much a call goes on."""
    path = lstm(tmp_path / "m.onnx")
    model, x = s2.load(toml(tmp_path, "\n\nhop = 2")), X[:, :8]
    before = np.concatenate([np.zeros((len(x), 1, WIDTH), np.float32), x], axis=1)
    calls = np.stack([before[:, at : at + STEP] for at in range(0, 8, 2)], axis=1)
    np.testing.assert_array_equal(model.logits(x), s2.load(path).logits(calls))
    adapted, out = s2.adapt(model, x, np.arange(len(x)) % 4), tmp_path / "e.onnx"
    export_onnx(adapted.backbone, adapted.adapters, out)
    np.testing.assert_allclose(s2.load(out).logits(x), adapted.logits(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("state", "data", "axis"),
    [
        ([1, "n", 6], ["n", 3], 1), (["n", 2, 6], ["n", 3], 0), ([2, 1, 6], [1, 3], 1),
        ([1, 1, 6], [1, 3], 1), ([1, 6], [1, 3], 0), ([6, 1], [1, 3], 1), ([1, 1, 4, 5], [1, 3], 0),
        ([4, 1, 1, 5], [1, 3], 1), ([2, 0, 6], [5, 3], 1), ([4, 6], [1, 3], 0), ([6], [1, 3], 0),
        ([4, 1, 6], ["n", 3], 1), ([2, 3, 3], [3, 3], 1), ([3, 2, 6], [3, 3], 0),
    ],
)  # fmt: skip
def test_the_axis_of_a_state_that_has_the_samples(state: Any, data: Any, axis: int) -> None:
    """The one that is as large as the data's, one that is open, one of size 1; as layers have it.

    Layers have it second of three, and first of any other number.
    """
    assert _axis(value("s", state), value("x", data)) == axis
