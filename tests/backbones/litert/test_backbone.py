from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.backbones.taps import rows_of
from skip2lora.errors import ParameterError

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from skip2lora.backbones.litert import file as tflite
from skip2lora.backbones.litert.backbone import LiteRTBackbone
from tflite_models import File, Load, Network, cnn, loader, mlp

Refused = Callable[..., str]
KINDS: dict[str, Callable[..., Network]] = {"mlp": lambda **o: mlp([9, 16, 5, 3], **o), "cnn": cnn}


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return loader(tmp_path)


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
