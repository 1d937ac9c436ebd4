"""Running sample by sample: shapes and operators that only the runtime finds wrong."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from skip2lora.errors import ModelError, ParameterError

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")


from ai_edge_litert.interpreter import Interpreter

from skip2lora.backbones.litert.runner import _check_shapes
from tflite_models import File, Load, Network, cnn

Refused = Callable[..., str]


def test_shapes_the_runtime_does_not_make(load: Load, refused: Refused) -> None:
    file = File()
    x, y, z = file.tensor("x", (1, 3)), file.tensor("y", (1, 6)), file.tensor("z", (1, 4))
    weight = file.constant("w", np.ones((2, 3), np.float32))
    bias = file.constant("b", np.zeros(2, np.float32))
    file.operator("TANH", [x], [y])
    file.operator("FULLY_CONNECTED", [y, weight, bias], [z])
    message = refused(ModelError, load, file.pack([x], [z]))
    assert "tensor z has shape (1, 4), LiteRT makes it (1, 2), expected the same" in message


@pytest.mark.parametrize(
    ("signature", "shape", "is_refused"),
    [
        ((1, 4), (1, 2), True), ((-1, 4), (1, 2), True), ((1, 4), (1, 4), False),
        ((1, -1), (1, 2), False), ((), (), False), ((), (1,), False),
    ],
)  # fmt: skip
def test_only_a_fixed_shape_can_be_wrong(
    signature: tuple[int, ...], shape: tuple[int, ...], is_refused: bool, refused: Refused
) -> None:
    of = {"index": 0, "shape": np.array(shape), "shape_signature": np.array(signature)}
    tensor = SimpleNamespace(index=0, name="y", shape=(1, 4))
    graph: Any = SimpleNamespace(tensors=[tensor], path="m.tflite")
    interpreter = SimpleNamespace(get_output_details=lambda: [of])
    if is_refused:
        assert "LiteRT makes it" in refused(ModelError, _check_shapes, interpreter, {0}, graph)
    else:
        _check_shapes(interpreter, {0}, graph)
    _check_shapes(interpreter, {1}, graph)  # of another tensor


def of_changing_size() -> bytes:
    """The first of 4 tokens, and as many more as an input says; the mean of a layer over them."""
    file = File()
    x, more = file.tensor("x", (1, 4, 3)), file.tensor("more", (3,), "int32")
    size = file.tensor("size", (3,), "int32")
    kept = file.tensor("kept", (1, 1, 3), signature=(1, -1, 3))
    made, y = file.tensor("made", (1, 2), signature=(-1, 2)), file.tensor("y", (1, 2))
    least = file.constant("least", np.array([1, 1, 3], np.int32))
    begin, axis = (
        file.constant(name, np.zeros(length, np.int32)) for name, length in (("at", 3), ("axis", 1))
    )
    weight = file.constant("w", np.ones((2, 3), np.float32))
    bias = file.constant("b", np.zeros(2, np.float32))
    file.operator("ADD", [more, least], [size])
    file.operator("SLICE", [x, begin, size], [kept])
    file.operator("FULLY_CONNECTED", [kept, weight, bias], [made])
    file.operator("MEAN", [made, axis], [y], keepDims=True)
    return file.pack([x, more], [y])


def test_sizes_that_change_with_the_sample(load: Load, refused: Refused) -> None:
    with pytest.warns(UserWarning, match="takes no samples of noise .* failed on sample 0"):
        model = load(of_changing_size())
    assert model.tap_widths == (3,)  # as of a sample of zeros
    x, more = np.arange(24).reshape(2, 4, 3), np.zeros((2, 3), int)
    same = model.forward(model.check({"x": x, "more": more}))
    assert same.taps[0].tolist() == x[:, 0].tolist()
    more[1, 1] = 2
    checked = model.check({"x": x, "more": more})
    message = refused(ModelError, model.forward, checked)
    assert "layer made reads kept as (1, 3, 3) of one sample, (1, 1, 3) of another" in message
    assert "leave the layer out with taps=" in message


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


def samples_of(network: Network, n_samples: int = 40) -> np.ndarray:
    """Of the same source as those the integer models are scaled by."""
    return np.random.default_rng(5).normal(size=(n_samples, *network.shape)).astype(np.float32)


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


def test_softmax_with_beta(load: Load) -> None:
    file = File()
    x, y, z = (file.tensor(name, (1, 3)) for name in "xyz")
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    bias = file.constant("b", np.zeros(3, np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    file.operator("SOFTMAX", [y], [z], beta=2.0)
    model = load(file.pack([x], [z]))
    assert model.logits([[1, 2, 3]]).tolist() == [[2, 4, 6]]


def test_maps_are_averaged_over_a_grid(load: Load) -> None:
    """Channels first in a row, then the places: the sample itself is the first tap."""
    network = cnn()
    model, x = load(network.content(), grid=2), samples_of(network)
    cells = x.astype(np.float64).reshape(40, 2, 4, 2, 4, 2).mean(axis=(2, 4))
    want = cells.transpose(0, 3, 1, 2).reshape(40, 8)
    np.testing.assert_allclose(model.forward(x).taps[0], want, rtol=0, atol=1e-6)


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
    with pytest.raises(ParameterError, match=r"input mask of .* may say which tokens count"):
        load(file.pack([tokens, mask], [y]))  # which nothing reads
    model = load(file.pack([tokens, mask], [y]), mask="tokens")
    assert [(tap.kind, tap.width) for tap in model.taps] == [("sequence", 6), ("vector", 2)]
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    kept = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])
    rows = model.forward(model.check({"tokens": x, "mask": kept})).taps[0]
    np.testing.assert_allclose(rows[0], [*x[0, :2].mean(axis=0), *x[0, 0]], rtol=1e-5)
    np.testing.assert_allclose(rows[1], [*x[1].mean(axis=0), *x[1, 0]], rtol=1e-5)


def test_chunks_are_of_no_consequence(load: Load) -> None:
    """More samples than are made into rows at once, and each alone: the same bits."""
    network = cnn()
    model, x = load(network.content()), samples_of(network, 70)
    together = model.forward(x)
    for at in (0, 31, 32, 69):
        alone = model.forward(x[at : at + 1])
        assert alone.base_logits.tobytes() == together.base_logits[at].tobytes()
        for one, all_of_them in zip(alone.taps, together.taps, strict=True):
            assert one.tobytes() == all_of_them[at].tobytes()
