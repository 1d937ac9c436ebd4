"""Files with variables: a sample begins anew, and what LiteRT gives of a new interpreter."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")

from ai_edge_litert.interpreter import Interpreter

import skip2lora as s2
from onnx_exports import expected, random_adapters
from skip2lora.backbones.litert.variables import Variable
from skip2lora.backbones.standins import Headless
from skip2lora.errors import DataError
from skip2lora.export.tflite import export_tflite
from skip2lora.tasks.task import softmax
from tflite_models import Load, mlp
from tflite_streams import FIRST, STEP, WIDTH, answers, samples, streaming

Refused = Callable[..., str]
X = samples()


@pytest.mark.parametrize("n_calls", [1, 2, 5])
def test_a_sequence_of_calls_is_what_a_new_interpreter_gives(n_calls: int, load: Load) -> None:
    model, x = load(streaming()), samples(5, n_calls)
    assert [(each.name, each.shape) for each in model.inputs] == [("x", (None, STEP, WIDTH))]
    np.testing.assert_allclose(softmax(model.logits(x)), answers(streaming(), x)[0], atol=1e-6)
    flat = x.reshape(len(x), -1, WIDTH)
    np.testing.assert_array_equal(model.logits(flat), model.logits(x))


def test_no_state_passes_to_the_next_sample(load: Load) -> None:
    model = load(streaming())
    logits = model.logits(X)
    np.testing.assert_array_equal(logits, model.logits(X))
    np.testing.assert_array_equal(logits, model.logits(X[::-1])[::-1])
    alone = np.concatenate([model.logits(sample[None]) for sample in X])
    np.testing.assert_array_equal(logits, alone)
    many = np.concatenate([X] * 8)  # in several chunks of the runner
    np.testing.assert_array_equal(model.logits(many)[-len(X) :], logits)
    assert np.abs(model.logits(X[:, -1:]) - logits).min() > 1e-6  # earlier calls count


def test_taps_are_those_of_the_last_call(load: Load) -> None:
    model = load(streaming())
    rows = model.forward(model.check(X))
    frames = np.concatenate([X[:, -2, -2:], X[:, -1]], axis=1).reshape(len(X), -1)
    np.testing.assert_array_equal(rows.taps[0], frames)
    first = model.forward(model.check(X[:, :1]))
    before = np.full((len(X), 2 * WIDTH), FIRST)  # as CALL_ONCE says
    np.testing.assert_array_equal(first.taps[0][:, : 2 * WIDTH], before)


def test_what_is_said_of_it(load: Load) -> None:
    model = load(streaming())
    assert model.graph.variables == (
        Variable("frames", model.graph.variables[0].read, model.graph.variables[0].written),
        Variable("sums", model.graph.variables[1].read, model.graph.variables[1].written),
    )
    assert model.notes == (
        "state: frames (2 x 4), sums (6); a sample is any number of calls of 3 x 4 from a fresh "
        "state, and its row the last call",
    )


def test_a_rest_of_a_call(load: Load, refused: Refused) -> None:
    x = X.reshape(len(X), -1, WIDTH)[:, :-1]
    message = refused(DataError, load(streaming()).logits, x)
    assert message.startswith("X has 11 along the second axis, the model takes 3 a call, expected")


@pytest.mark.parametrize("how", ["late", "twice"])
def test_variables_that_are_read_otherwise(how: str, load: Load, refused: Refused) -> None:
    """What reads a value of this call, or reads one twice, is no input of the call."""
    message = refused(s2.errors.ModelError, load, streaming(**{how: True}))
    assert "operator 0, CALL_ONCE, keeps a state from one sample to the next, expected" in message


def test_adapted_and_kept(load: Load, tmp_path: Path) -> None:
    model, y = load(streaming()), np.arange(len(X)) % 4
    adapted = s2.adapt(model, X, y)
    adapted.save(tmp_path / "a")
    again = s2.AdaptedModel.load(s2.load(tmp_path / "model.tflite"), tmp_path / "a")
    np.testing.assert_array_equal(again.logits(X), adapted.logits(X))
    assert adapted.score(X, y) > 0.5


@pytest.mark.parametrize("end", ["SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("how", ["", "new classes", "anew", "fed"])
def test_the_exported_file_keeps_streaming(how: str, end: str, load: Load, tmp_path: Path) -> None:
    """Of the stock interpreter, a new one a sample; logits that a state is made of stay."""
    content, out = streaming(end=end, fed=how == "fed"), tmp_path / "e.tflite"
    given = Headless(load(content), 3) if how == "anew" else load(content)
    adapters = random_adapters(given, new=2 * (how == "new classes"))
    export_tflite(given, adapters, out)
    sums = expected(given, adapters, given.check(X))
    values = answers(out.read_bytes(), X)
    plain = {"SOFTMAX": softmax, "LOGISTIC": lambda logits: 1 / (1 + np.exp(-logits))}[end]
    assert len(values) == 1
    shown = sums if how in ("anew", "fed") else plain(sums)
    np.testing.assert_allclose(values[-1], shown, rtol=1e-4, atol=1e-4)
    again = s2.load(out)
    assert again.graph.variables
    assert [each.name for each in again.graph.variables] == ["frames", "sums"]
    together = Interpreter(model_content=out.read_bytes())  # its state goes on with the next
    together.allocate_tensors()
    (x,) = together.get_input_details()
    for call in np.concatenate(X[:2]):
        together.set_tensor(x["index"], call[None])
        together.invoke()
    last = together.get_tensor(together.get_output_details()[-1]["index"])
    assert how == "fed" or np.abs(last - values[-1][1]).max() > 1e-4


def test_wake_words_of_a_package(refused: Refused) -> None:
    """Bit by bit, with integers; where the package is installed."""
    spec = importlib.util.find_spec("pymicro_wakeword")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package pymicro-wakeword")
    files = sorted((Path(spec.origin).parent / "models").glob("*.tflite"))
    assert files
    x = np.random.default_rng(0).integers(-128, 128, (2, 30, 3, 40)).astype(np.int8)
    for file in files:
        probabilities = 1 / (1 + np.exp(-s2.load(file).logits(x)))
        expected = answers(file.read_bytes(), x)[0]
        assert np.abs(np.clip(np.round(256 * probabilities), 0, 255) - expected).max() <= 1


def test_the_mean_of_all_calls(load: Load, tmp_path: Path, refused: Refused) -> None:
    last, file = load(streaming()), tmp_path / "m.toml"
    file.write_text('[[model]]\npath = "model.tflite"\n[stream]\ncalls = "mean"\n')
    model = s2.load(file)
    assert model.fingerprint != last.fingerprint
    each = [last.forward(last.check(X[:, :n])) for n in range(1, 5)]
    rows = model.forward(model.check(X))
    for got, wanted in (
        (rows.base_logits, [of.base_logits for of in each]),
        (rows.taps[-1], [of.taps[-1] for of in each]),
    ):
        np.testing.assert_allclose(got, np.mean(wanted, axis=0), rtol=1e-4, atol=1e-5)
    adapters, out = random_adapters(model), tmp_path / "e.tflite"
    export_tflite(model, adapters, out)
    logs = [np.log(answers(out.read_bytes(), X[:, :n])[0]) for n in range(1, 5)]
    sums = expected(model, adapters, X)
    np.testing.assert_allclose(softmax(np.mean(logs, axis=0)), softmax(sums), atol=1e-4)
    file.write_text('[[model]]\npath = "model.tflite"\n[stream]\ncalls = "last"\n')
    assert s2.load(file).fingerprint == last.fingerprint


@pytest.mark.parametrize(
    "text", ["[stream]\nhop = 2", "[stream]\nconstants = { x = 1 }", "", "scale = 2\n[stream]"]
)
def test_what_a_toml_may_not_say(text: str, load: Load, tmp_path: Path, refused: Refused) -> None:
    load(streaming())
    file = tmp_path / "m.toml"
    file.write_text(f'[[model]]\npath = "model.tflite"\n{text}\n')
    message = refused(s2.errors.ModelError, s2.load, file)
    assert "names a .tflite, expected [stream] with calls alone: leave the rest out" in message


@pytest.mark.parametrize("names", [("model.tflite", "model.tflite"), ("a.onnx", "model.tflite")])
def test_a_chain_with_a_tflite(
    names: tuple[str, str], load: Load, tmp_path: Path, refused: Refused
) -> None:
    load(streaming())
    file = tmp_path / "m.toml"
    file.write_text("".join(f'[[model]]\npath = "{name}"\n' for name in names))
    message = refused(s2.errors.ModelError, s2.load, file)
    assert f"m.toml chains {', '.join(names)}, expected .onnx models alone: give a" in message


def test_a_toml_of_a_file_without_variables(load: Load, tmp_path: Path, refused: Refused) -> None:
    load(mlp([9, 7, 3]).content())
    file = tmp_path / "m.toml"
    file.write_text('[[model]]\npath = "model.tflite"\n[stream]\n')
    message = refused(s2.errors.ModelError, s2.load, file)
    assert "model.tflite has no variables that go from call to call, expected some" in message
