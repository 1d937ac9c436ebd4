from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.backbones.taps import rows_of
from skip2lora.errors import DataError, FileError, MissingExtraError, ModelError, ParameterError
from skip2lora.inputs import Inputs

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from skip2lora.backbones import tflite
from skip2lora.backbones.litert import LiteRTBackbone
from tflite_models import File, Network, cnn, mlp

Load = Callable[..., LiteRTBackbone]
Refused = Callable[..., str]
KINDS: dict[str, Callable[..., Network]] = {"mlp": lambda **o: mlp([9, 16, 5, 3], **o), "cnn": cnn}


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load_(content: bytes, **options: Any) -> LiteRTBackbone:
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return LiteRTBackbone.load(path, **options)

    return load_


def samples_of(network: Network, n_samples: int = 40) -> np.ndarray:
    """Of the same source as those the integer models are scaled by."""
    return np.random.default_rng(5).normal(size=(n_samples, *network.shape)).astype(np.float32)


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["SOFTMAX", "LOGISTIC", "ARG_MAX", ""])
def test_taps_and_logits(kind: str, end: str, load: Load) -> None:
    network = KINDS[kind](end=end)
    model, x = load(network.content()), samples_of(network)
    taps, logits = network.taps(x)
    made = model.forward(model.check(x))
    assert len(made.taps) == len(taps) == 3
    for tap, got, want in zip(model.taps, made.taps, taps, strict=True):
        np.testing.assert_allclose(got, rows_of(tap, want), rtol=0, atol=2e-6 * np.abs(want).max())
    np.testing.assert_allclose(made.base_logits, logits, rtol=0, atol=1e-5)
    assert model.logits(x).tobytes() == made.base_logits.tobytes()
    assert model.predict(x).shape == ((40, 3) if end == "LOGISTIC" else (40,))
    assert model.task == ("multi-label" if end == "LOGISTIC" else "classification")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("integers", "per_channel"), [("int8", False), ("int8", True), ("uint8", False)]
)
def test_integers(kind: str, integers: str, per_channel: bool, load: Load) -> None:
    """Taps and logits are real numbers, as close to the real network as 8 bits are."""
    network = KINDS[kind](integers=integers, per_channel=per_channel)
    model, x = load(network.content()), samples_of(network)
    taps, logits = network.taps(x)
    checked = model.check(x)
    assert checked.dtype == integers
    made = model.forward(checked)
    for tap, got, want in zip(model.taps, made.taps, taps, strict=True):
        np.testing.assert_allclose(got, rows_of(tap, want), rtol=0, atol=0.03 * np.abs(want).max())
    np.testing.assert_allclose(made.base_logits, logits, rtol=0, atol=0.04 * np.abs(logits).max())
    again = model.forward(x)  # real numbers are quantised on the way too
    assert again.base_logits.tobytes() == made.base_logits.tobytes()
    assert model.check(checked) is checked  # integers of the model's own type are as they are


@pytest.mark.parametrize("integers", [None, "int8"])
def test_outputs_are_those_of_the_file(integers: str | None, load: Load) -> None:
    """Tapping changes no bit of what the model gives."""
    network = cnn(integers=integers)
    model, x = load(network.content()), samples_of(network, 5)
    probabilities = []
    interpreter = Interpreter(model_content=network.content(), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    for sample in model.check(x):
        interpreter.set_tensor(given["index"], sample[None])
        interpreter.invoke()
        probabilities.append(interpreter.get_tensor(made["index"])[0])
    got = model.predict_proba(x)
    want = np.array(probabilities)
    if integers:
        want = (want.astype(np.float32) + 128) / 256
    np.testing.assert_allclose(got, want, rtol=0, atol=0.005 if integers else 1e-6)


def test_quantised_input_is_clipped(load: Load) -> None:
    model = load(mlp([9, 16, 5, 3], integers="int8").content())
    x = np.array([[1e9, -1e9, 0, 0, 0, 0, 0, 0, 0]])
    whole = model.check(x)
    spec = model.inputs[0]
    assert whole[0, :3].tolist() == [127, -128, spec.zero_point]


def test_a_padded_layer_is_tapped_before_its_padding(load: Load) -> None:
    """Taps of what the runtime pads inside of a convolution would take the two apart."""
    file, random = File(), np.random.default_rng(0)
    x, padded, y = (
        file.tensor(n, (1, s, s, c)) for n, s, c in (("x", 4, 3), ("p", 6, 3), ("y", 4, 2))
    )
    z, out = file.tensor("z", (1, 32)), file.tensor("out", (1, 2))
    around = file.constant("around", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    kernel = file.constant("k", random.normal(size=(2, 3, 3, 3)).astype(np.float32))
    weight = file.constant("w", random.normal(size=(2, 32)).astype(np.float32))
    zeros = file.constant("b", np.zeros(2, np.float32))
    file.operator("PAD", [x, around], [padded])
    file.operator("CONV_2D", [padded, kernel, zeros], [y], padding=1, strideH=1, strideW=1)
    shape = file.constant("shape", np.array([1, 32], np.int32))
    file.operator("RESHAPE", [y, shape], [z])
    file.operator("FULLY_CONNECTED", [z, weight, zeros], [out])
    model = load(file.pack([x], [out]))
    assert [tap.tensor for tap in model.taps] == ["x", "z"]
    samples = random.normal(size=(3, 4, 4, 3)).astype(np.float32)
    made = model.forward(samples)
    np.testing.assert_array_equal(made.taps[0], samples.transpose(0, 3, 1, 2).reshape(3, -1))


def test_softmax_with_beta(load: Load) -> None:
    file = File()
    x, y, z = (file.tensor(name, (1, 3)) for name in "xyz")
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    bias = file.constant("b", np.zeros(3, np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    file.operator("SOFTMAX", [y], [z], beta=2.0)
    model = load(file.pack([x], [z]))
    assert model.logits([[1, 2, 3]]).tolist() == [[2, 4, 6]]


def test_only_the_last_activation_is_left_out(load: Load) -> None:
    file = File()
    x, y, z, p = (file.tensor(name, (1, 2)) for name in "xyzp")
    weight = file.constant("w", np.eye(2, dtype=np.float32))
    bias = file.constant("b", np.zeros(2, np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    file.operator("LOGISTIC", [y], [z])
    file.operator("SOFTMAX", [z], [p], beta=1.0)
    model = load(file.pack([x], [p]))
    assert model.task == "classification"
    np.testing.assert_allclose(model.logits([[0, 50]]), [[0.5, 1]], rtol=1e-6)


def test_maps_are_averaged_over_a_grid(load: Load) -> None:
    """Channels first in a row, then the places: the sample itself is the first tap."""
    network = cnn()
    model, x = load(network.content(), grid=2), samples_of(network)
    cells = x.astype(np.float64).reshape(40, 2, 4, 2, 4, 2).mean(axis=(2, 4))
    want = cells.transpose(0, 3, 1, 2).reshape(40, 8)
    np.testing.assert_allclose(model.forward(x).taps[0], want, rtol=0, atol=1e-6)


def test_constant_behind_an_operator(load: Load) -> None:
    """Weights stored as float16 reach the layer through DEQUANTIZE."""
    file = File()
    x, w, y = file.tensor("x", (1, 3)), file.tensor("w", (2, 3)), file.tensor("y", (1, 2))
    half = file.constant("half", np.array([[1, 2, 3], [4, 5, 6]], np.float16))
    bias = file.constant("b", np.zeros(2, np.float32))
    file.operator("DEQUANTIZE", [half], [w])
    file.operator("FULLY_CONNECTED", [x, w, bias], [y])
    model = load(file.pack([x], [y]))
    assert [tap.tensor for tap in model.taps] == ["x"]
    assert model.logits([[1, 0, 1]]).tolist() == [[4, 10]]


# --- kinds of taps --------------------------------------------------------------------------


def test_sequences_and_their_mask(load: Load) -> None:
    """Tokens with a mask: their mean counts those of the mask alone; BATCH_MATMUL is a layer."""
    file = File()
    tokens, mask = file.tensor("tokens", (1, 4, 3)), file.tensor("mask", (1, 4), "int32")
    made, mean, y = (
        file.tensor(name, shape)
        for name, shape in [("made", (1, 4, 2)), ("mean", (1, 2)), ("y", (1, 2))]
    )
    weight = file.constant("w", np.array([[1, 0], [0, 1], [1, 1]], np.float32))
    other = file.constant("v", np.eye(2, dtype=np.float32))
    bias = file.constant("b", np.zeros(2, np.float32))
    axis = file.constant("axis", np.array([1], np.int32))
    file.operator("BATCH_MATMUL", [tokens, weight], [made])
    file.operator("MEAN", [made, axis], [mean], keepDims=False)
    file.operator("FULLY_CONNECTED", [mean, other, bias], [y])
    model = load(file.pack([tokens, mask], [y]))
    assert [(tap.kind, tap.width) for tap in model.taps] == [("sequence", 6), ("vector", 2)]
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    kept = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])
    rows = model.forward(model.check({"tokens": x, "mask": kept})).taps[0]
    np.testing.assert_allclose(rows[0], [*x[0, :2].mean(axis=0), *x[0, 0]], rtol=1e-5)
    np.testing.assert_allclose(rows[1], [*x[1].mean(axis=0), *x[1, 0]], rtol=1e-5)


def shared(path_names: tuple[str, ...] = ("q", "k", "v")) -> bytes:
    """Three layers that read one tensor, their sum, and a last layer."""
    file = File()
    random = np.random.default_rng(0)
    x = at = file.tensor("x", (1, 4))
    bias = file.constant("b", np.zeros(4, np.float32))
    made = []
    for name in path_names:
        weight = file.constant(f"w{name}", random.normal(size=(4, 4)).astype(np.float32))
        made.append(file.tensor(name, (1, 4)))
        file.operator("FULLY_CONNECTED", [x, weight, bias], [made[-1]])
    at = made[0]
    for number, other in enumerate(made[1:]):
        total = file.tensor(f"sum{number}", (1, 4))
        file.operator("ADD", [at, other], [total])
        at = total
    weight = file.constant("wo", random.normal(size=(4, 4)).astype(np.float32))
    unused, y = file.tensor("unused", (1, 4)), file.tensor("y", (1, 4))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [unused])
    file.operator("FULLY_CONNECTED", [at, weight, bias], [y])
    return file.pack([x], [y, unused])


def test_each_tensor_once(load: Load) -> None:
    model = load(shared())
    assert [(tap.layer, tap.tensor) for tap in model.taps] == [("q", "x"), ("y", "sum1")]


def test_the_last_layer_is_among_the_taps(load: Load) -> None:
    """Even where it reads a tensor that an earlier layer reads as well."""
    file = File()
    x, q, r, s, y = (file.tensor(name, (1, 2)) for name in "xqrsy")
    bias = file.constant("b", np.zeros(2, np.float32))
    weight = file.constant("w", np.eye(2, dtype=np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [q])
    file.operator("FULLY_CONNECTED", [q, weight, bias], [r])
    file.operator("FULLY_CONNECTED", [x, weight, bias], [s])
    file.operator("ADD", [r, s], [y])
    content = file.pack([x], [y])
    assert [tap.tensor for tap in load(content).taps] == ["q", "x"]
    assert [tap.tensor for tap in load(content, taps=1).taps] == ["x"]


def test_which_output(load: Load, refused: Refused) -> None:
    model = load(shared())
    assert (model.output.name, len(model.layers)) == ("y", 2)
    other = load(shared(), output="unused")
    assert [tap.layer for tap in other.layers] == ["unused"]  # what does not lead there is no layer
    assert load(shared(), output=1).output.name == "unused"
    message = refused(ParameterError, load, shared(), output="z")
    assert "output is 'z', expected a name or number from 0 of y (4,), unused (4,)" in message


def test_choosing_taps(load: Load, refused: Refused) -> None:
    network = cnn()
    model, x = load(network.content()), samples_of(network, 6)
    names = [tap.layer for tap in model.layers]
    assert names == ["layer0", "layer1", "layer4"]
    every = model.forward(x)
    chosen = model.with_taps(["layer4", 0])
    assert [tap.layer for tap in chosen.taps] == ["layer0", "layer4"]
    assert chosen.fingerprint == model.fingerprint
    made = chosen.forward(x)
    for one, other in zip(made.taps, (every.taps[0], every.taps[2]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [tap.layer for tap in load(network.content(), taps=1).taps] == ["layer4"]
    message = refused(ParameterError, load, network.content(), taps="layr4")
    assert 'taps has "layr4", which fits no layer, expected names or patterns such as' in message
    assert "layer4" in message
    assert load(network.content(), grid=2).tap_widths == (8, 24, 24)


def test_loading_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(cnn().content())
    model = s2.load(path, taps="layer1")
    assert isinstance(model, LiteRTBackbone)
    assert [tap.layer for tap in model.taps] == ["layer1"]


def test_pickle_and_fingerprint(load: Load) -> None:
    network = cnn()
    model, x = load(network.content(), taps=2), samples_of(network, 4)
    before = model.forward(x)
    other = pickle.loads(pickle.dumps(model))  # noqa: S301  - our own bytes
    assert other.fingerprint == model.fingerprint
    assert other.forward(x).taps[0].tobytes() == before.taps[0].tobytes()
    assert load(cnn(seed=1).content()).fingerprint != model.fingerprint


def test_adapter_keeps_its_taps(load: Load, tmp_path: Path) -> None:
    network = cnn()
    x = samples_of(network, 60)
    y = (x.mean(axis=(1, 2, 3)) > 0).astype(int)
    model = load(network.content(), taps=["layer1", "layer4"])
    adapted = s2.adapt(model, x, y)
    adapted.save(tmp_path / "adapter")
    back = s2.AdaptedModel.load(load(network.content()), tmp_path / "adapter")
    assert back.logits(x).tobytes() == adapted.logits(x).tobytes()


# --- what is in the file --------------------------------------------------------------------


def test_with_outputs_keeps_every_byte() -> None:
    """Only the offset of the outputs changes; a file of any length can be appended to."""
    content = cnn().content() + b"zip"
    graph = tflite.parse(content, "it")
    made = graph.with_outputs([1, 2])
    differing = [at for at, byte in enumerate(content) if made[at] != byte]
    assert 0 < len(differing) <= 4
    assert (len(made) - 4 * 4) % 4 == 0  # a length and three numbers, where they may be read
    root = schema.Model.GetRootAs(made).Subgraphs(0)
    assert root.OutputsAsNumpy().tolist() == [graph.operators[-1].outputs[0], 1, 2]


def test_shapes_that_are_not_in_the_file(load: Load) -> None:
    file = File()
    x, y, z = file.tensor("x", (1, 4)), file.tensor("y", (1, 1), signature=(-1, -1)), 0
    z = file.tensor("z", (1, 2))
    bias = file.constant("b", np.zeros(2, np.float32))
    weight = file.constant("w", np.array([[1, 0, 0, 0], [0, 0, 0, 1]], np.float32))
    scale = file.constant("s", np.ones((1, 4), np.float32))
    file.operator("ADD", [x, scale], [y])
    file.operator("FULLY_CONNECTED", [y, weight, bias], [z])
    model = load(file.pack([x], [z]))
    assert model.tap_widths == (4,)
    made = model.forward(model.check([[1, 2, 3, 4]]))
    assert made.taps[0].tolist() == [[2, 3, 4, 5]]
    assert made.base_logits.tolist() == [[2, 5]]


def test_batch_axis_that_changes(load: Load) -> None:
    """A batch of any size in the file runs one by one."""
    file = File()
    x, y = file.tensor("x", (1, 2), signature=(-1, 2)), file.tensor("y", (1, 2), signature=(-1, 2))
    bias = file.constant("b", np.zeros(2, np.float32))
    weight = file.constant("w", np.eye(2, dtype=np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    model = load(file.pack([x], [y]))
    assert model.logits([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]


# --- several inputs and what they take ------------------------------------------------------


def two_inputs() -> bytes:
    file = File()
    left, ids = file.tensor("left:0", (1, 2)), file.tensor("ids", (1, 1), "int32")
    real, both, y = (
        file.tensor(name, shape)
        for name, shape in [("real", (1, 1)), ("both", (1, 3)), ("y", (1, 3))]
    )
    bias = file.constant("b", np.zeros(3, np.float32))
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    file.operator("CAST", [ids], [real])
    file.operator("CONCATENATION", [left, real], [both], axis=1)
    file.operator("FULLY_CONNECTED", [both, weight, bias], [y])
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex, signature.outputs = "run", 0, []
    signature.inputs = [schema.TensorMapT(), schema.TensorMapT()]
    for entry, (name, index) in zip(
        signature.inputs, [("left", left), ("ids", ids)], strict=True
    ):  # fmt: skip
        entry.name, entry.tensorIndex = name, index
    file.model.signatureDefs = [signature]
    return file.pack([left, ids], [y])


def test_several_inputs(load: Load) -> None:
    model = load(two_inputs())
    left, ids = [[1, 2], [3, 4]], [[7.0], [8.0]]
    want = [[1, 2, 7], [3, 4, 8]]
    assert model.logits({"left": left, "ids": ids}).tolist() == want
    assert model.logits({"ids": ids, "left:0": left}).tolist() == want
    assert model.logits([np.array(left), np.array(ids)]).tolist() == want
    checked = model.check({"left": left, "ids": ids})
    assert isinstance(checked, Inputs)
    assert model.logits(checked).tolist() == want
    assert model.forward(checked[1:]).taps[0].tolist() == want[1:]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"left": [[1, 2]]}, "X has no input ids, expected left:0, ids: pass an array for each"),
        (
            {"left": [[1, 2]], "left:0": [[1, 2]]},
            "X has the inputs left, left:0, some of them twice, expected left:0, ids",
        ),
        (
            [[1, 2, 3]],
            "X is list, the model takes 2 inputs: pass a dict of arrays named left:0, ids",
        ),
        (np.zeros((2, 3)), "X is ndarray, the model takes 2 inputs"),
        ({"left": [[1, 2]], "ids": [[1], [2]]}, "numbers of samples (left:0 1, ids 2)"),
        ({"left": [[1, 2]], "ids": [[1.5]]}, "ids has fractions, expected whole numbers (int32)"),
        ({"left": [[1, 2]], "ids": [[2**31]]}, "expected int32, -2147483648 to 2147483647"),
        (
            {"left": [[1, np.nan]], "ids": [[1]]},
            "left:0 has NaN or infinite values, the first in sample 0",
        ),
        (
            {"left": [[1, 2, 3]], "ids": [[1]]},
            "left:0 has shape (1, 3), the model expects (samples, 2)",
        ),
    ],
)
def test_bad_inputs(given: Any, said: str, load: Load, refused: Refused) -> None:
    assert said in refused(DataError, load(two_inputs()).check, given)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((8, 8, 2)), "an axis is missing, X[None] for one sample"),
        (np.zeros((4, 2, 8, 8)), "channels come last, np.moveaxis(X, 1, -1)"),
        (np.zeros((4, 127)), "pass each sample with all its axes"),
        (np.zeros((4, 9, 9, 2)), "X has shape (4, 9, 9, 2), the model expects (samples, 8, 8, 2)"),
        (np.zeros((0, 8, 8, 2)), "X has no samples, expected at least one"),
        (
            np.zeros((1, 8, 8, 2), complex),
            "X has dtype complex128, expected float32 (samples, 8, 8, 2)",
        ),
        (np.full((2, 8, 8, 2), np.inf), "X has NaN or infinite values, the first in sample 0"),
        ([[1], [1, 2]], "X has samples of different sizes"),
    ],
)
@pytest.mark.parametrize("integers", [None, "int8"])
def test_bad_samples(
    x: Any, said: str, integers: str | None, load: Load, refused: Refused
) -> None:  # fmt: skip
    model = load(cnn(integers=integers).content())
    for call in (model.check, model.predict, model.logits):
        assert said in refused(DataError, call, x)


# --- files that cannot be used --------------------------------------------------------------


def test_truncated_anywhere(load: Load, refused: Refused) -> None:
    content = mlp([9, 16, 5, 3]).content()
    graph = tflite.parse(content, "it")
    assert graph.layers(graph.outputs[0])
    for length in {*range(0, len(content) - 4, 7), len(content) // 2}:
        message = refused(ModelError, load, content[:length])
        assert "model.tflite is" in message
        assert ": c" in message  # check the file, copy it again


def test_damaged_anywhere() -> None:
    """A bit changed: the reader refuses the file or gives a whole graph, and nothing else."""
    content, random = mlp([9, 16, 5, 3]).content(), np.random.default_rng(0)
    refusals = 0
    for _ in range(300):
        other = bytearray(content)
        other[random.integers(8, len(other))] ^= 1 << random.integers(8)
        try:
            graph = tflite.parse(bytes(other), "it")
        except ModelError:
            refusals += 1
            continue
        for output in graph.outputs:
            graph.layers(output)
        tflite.parse(graph.with_outputs([output.logits.index]), "it again")
    assert 20 < refusals < 280


def test_shapes_the_runtime_does_not_make(load: Load, refused: Refused) -> None:
    file = File()
    x, y, z = file.tensor("x", (1, 3)), file.tensor("y", (1, 4)), file.tensor("z", (1, 3))
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    bias = file.constant("b", np.zeros(3, np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    file.operator("FULLY_CONNECTED", [y, weight, bias], [z])
    message = refused(ModelError, load, file.pack([x], [z]))
    assert "tensor y has shape (1, 4), LiteRT makes it (1, 3), expected the same" in message


def one_operator(kind: str, *, variable: bool = False) -> bytes:
    file = File()
    x, y, z = file.tensor("x", (1, 3)), file.tensor("y", (1, 3)), file.tensor("z", (1, 3))
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    bias = file.constant("b", np.zeros(3, np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    file.operator(kind, [y], [z])
    file.graph.tensors[y].isVariable = variable
    return file.pack([x], [z])


@pytest.mark.parametrize("kind", ["WHILE", "IF", "CALL_ONCE", "VAR_HANDLE", "ASSIGN_VARIABLE"])
def test_control_flow(kind: str, load: Load, refused: Refused) -> None:
    message = refused(ModelError, load, one_operator(kind))
    assert f"operator 1, {kind}, is control flow or a variable" in message


def test_state_and_chance(load: Load, refused: Refused) -> None:
    message = refused(ModelError, load, one_operator("TANH", variable=True))
    assert "operator 1, TANH, keeps a state from one sample to the next" in message
    assert "MULTINOMIAL, is random" in refused(ModelError, load, one_operator("MULTINOMIAL"))


def test_several_graphs(load: Load, refused: Refused) -> None:
    file = File()
    x, y = file.tensor("x", (1, 3)), file.tensor("y", (1, 3))
    file.operator("TANH", [x], [y])
    file.model.subgraphs.append(file.graph)
    assert "has 2 graphs, expected one" in refused(ModelError, load, file.pack([x], [y]))


def test_no_weights(load: Load, refused: Refused) -> None:
    file = File()
    x, y = file.tensor("x", (1, 3)), file.tensor("y", (1, 3))
    file.operator("TANH", [x], [y])
    message = refused(ModelError, load, file.pack([x], [y]))
    assert "has no layer with weights on the way to y, expected FULLY_CONNECTED" in message


def test_no_row_of_numbers(load: Load, refused: Refused) -> None:
    network = cnn(end="")
    network.layers = network.layers[:1]
    message = refused(ModelError, load, network.content())
    assert "has the outputs layer0 (8, 8, 6), expected one with a row of numbers" in message


def test_operator_the_runtime_lacks(load: Load, refused: Refused) -> None:
    file = File()
    x, y, z = file.tensor("x", (1, 3)), file.tensor("y", (1, 3)), file.tensor("z", (1, 3))
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    bias = file.constant("b", np.zeros(3, np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    file.operator("CUSTOM", [y], [z])
    file.model.operatorCodes[-1].customCode = "MyOperator"
    message = refused(ModelError, load, file.pack([x], [z]))
    assert "model.tflite: Encountered unresolved custom op: MyOperator" in message


@pytest.mark.parametrize(
    ("dtype", "shape", "signature", "said"),
    [
        ("float32", (1, 1), (-1, -1), 'input "x" has sizes that may change'),
        ("string", (1, 1), None, 'input "x" has type string, expected numbers'),
    ],
)
def test_inputs_that_cannot_be_given(
    dtype: str, shape: Any, signature: Any, said: str, load: Load, refused: Refused
) -> None:
    file = File()
    x, y = file.tensor("x", shape, dtype, signature=signature), file.tensor("y", (1, 1))
    file.operator("CAST", [x], [y])
    assert said in refused(ModelError, load, file.pack([x], [y]))


def test_options_and_paths(load: Load, tmp_path: Path, refused: Refused) -> None:
    content = cnn().content()
    for options in ({"grid": 0}, {"grid": 1.5}, {"threads": 0}, {"threads": True}):
        (name,) = options
        assert f"{name} is {options[name]!r}, expected a whole number from 1" in refused(
            ParameterError, load, content, **options
        )
    assert "does not exist" in refused(FileError, s2.load, tmp_path / "none.tflite")
    (tmp_path / "folder.tflite").mkdir()
    refused(FileError, LiteRTBackbone.load, tmp_path / "folder.tflite")
    assert "is no .tflite model, expected TFL3" in refused(ModelError, load, b"PK" + bytes(100))


def test_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(cnn().content())
    monkeypatch.delitem(sys.modules, "skip2lora.backbones.tflite")
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    message = refused(MissingExtraError, s2.load, path)
    assert "needs ai-edge-litert: pip install 'skip2lora[litert]'" in message
