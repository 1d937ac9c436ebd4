"""Layers with weights, what they read, how that is called, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import openvino_models as nets
from openvino_models import op
from skip2lora.backbones.openvino.graph import Graph
from skip2lora.errors import ModelError

Refused = Callable[..., str]


def layers(model: Any) -> list[str]:
    return [read.layer for read in Graph(model).reads()]


def test_layers_are_called_by_what_they_read() -> None:
    assert layers(nets.mlp(shift=0.1)) == ["shifted", "relu0", "relu1"]
    # The first convolution reads x through a Pad, whose zeros are no data.
    assert layers(nets.cnn()) == ["x", "relu0", "relu1", "pooled"]
    assert layers(nets.texts()) == ["embedded", "hidden", "mean"]


def test_rounded_tensors_are_called_as_before_rounding() -> None:
    assert layers(nets.mlp(quantised=True)) == ["x", "relu0", "relu1"]
    assert Graph(nets.mlp(quantised=True)).integers
    assert not Graph(nets.mlp()).integers


def test_rounded_weights_alone_are_no_integers() -> None:
    net = nets.Net()
    x = net.input("x", [-1, 4])
    assert not Graph(net.model(net.dense(x, 4, 2, "fc", quantised=True))).integers


def test_layers_that_read_one_tensor_are_one() -> None:
    net = nets.Net()
    x = net.input("x", [-1, 4])
    both = op.add(net.dense(x, 4, 6, "left"), net.dense(x, 4, 6, "right"))
    assert layers(net.model(net.dense(nets.named(both, "sum"), 6, 2, "fc"))) == ["x", "sum"]


def test_names_are_the_layers_where_tensors_have_none() -> None:
    net = nets.Net()
    x = net.input("x", [-1, 4])
    hidden = op.relu(op.matmul(x, net.weight(4, 6), False, False, name="first"))
    out = op.matmul(hidden, net.weight(6, 2), False, False, name="second")
    assert layers(net.model(nets.named(out, "y"))) == ["x", "second"]


def test_one_name_is_given_once() -> None:
    """A tensor that one layer reads as it is, another rounded."""
    net = nets.Net()
    x = net.input("x", [-1, 4])
    rounded = net.dense(nets.quantise(x, -1, 1), 4, 6, "second")
    both = nets.named(op.add(net.dense(x, 4, 6, "first"), rounded), "sum")
    assert sorted(layers(net.model(net.dense(both, 6, 2, "fc")))) == ["second", "sum", "x"]


def test_weights_that_are_computed() -> None:
    """A depthwise layer whose weights are shaped by a ShapeOf of constants."""
    net = nets.Net()
    x = net.input("x", [-1, 4, 6, 6])
    flat = net.weight(4, 1, 3, 3)
    ones = op.concat([whole(4), whole(1), op.shape_of(flat)], 0)
    shape = op.gather(ones, nets.whole([0, 1, 3, 4, 5]), nets.whole(0))
    weight = op.multiply(op.reshape(flat, shape, False), nets.constant(0.5))
    made = op.group_convolution(x, weight, [1, 1], [1, 1], [1, 1], [1, 1])
    hidden = nets.named(op.reduce_mean(op.relu(made), nets.whole([2, 3]), False), "pooled")
    assert layers(net.model(net.dense(hidden, 4, 2, "fc"))) == ["x", "pooled"]


def whole(value: int) -> Any:
    return nets.whole([value])


def test_weights_from_an_input_are_none() -> None:
    net = nets.Net()
    x, weight = net.input("x", [-1, 4]), net.input("w", [4, 6])
    hidden = nets.named(op.matmul(x, weight, False, False), "hidden")
    assert layers(net.model(net.dense(hidden, 6, 2, "fc"))) == ["hidden"]


def test_weights_on_the_left() -> None:
    net = nets.Net()
    x = net.input("x", [-1, 4, 6])
    mixed = nets.named(op.matmul(net.weight(5, 4), x, False, False), "mixed")
    [read] = Graph(net.model(op.reduce_mean(mixed, nets.whole([1]), False))).reads()
    assert read.layer == "x"
    assert read.places_first


@pytest.mark.parametrize(
    ("end", "ending"),
    [(None, "logits"), ("Softmax", "softmax"), ("Sigmoid", "sigmoid"), ("ArgMax", "softmax")],
)
def test_logits_stand_before_the_activations(end: str | None, ending: str) -> None:
    [output] = Graph(nets.mlp(end=end)).ends()
    assert output.end.ending == ending
    assert output.logits.get_names() == {"fc2"}


def test_two_activations() -> None:
    net = nets.Net()
    logits = net.dense(net.input("x", [-1, 4]), 4, 3, "fc")
    soft = op.unsqueeze(op.softmax(logits, 1), nets.whole([2]))
    best = op.topk(op.squeeze(soft, nets.whole([2])), nets.whole(1), 1, "max", "value")
    [output] = Graph(net.model(best.output(1))).ends()
    assert (output.end.ending, output.logits.get_names()) == ("softmax", {"fc"})


def stateful() -> Any:
    net = nets.Net()
    x = net.input("x", [1, 4])
    before = op.read_value(nets.constant(np.zeros((1, 4))), "memory")
    total = op.add(x, before)
    result = op.result(net.dense(total, 4, 2, "fc"))
    return nets.openvino.Model([result], [op.assign(total, "memory")], net.inputs, "net")


def looped() -> Any:
    net = nets.Net()
    x = net.input("x", [2, 4])
    inner = op.parameter([1, 4], np.float32)
    made = op.result(op.relu(inner))
    iterator = op.tensor_iterator()
    iterator.set_body(nets.openvino.Model([made], [inner], "body"))
    iterator.set_sliced_input(inner, x.output(0), 0, 1, 1, -1, 0)
    joined = iterator.get_concatenated_slices(made.output(0), 0, 1, 1, -1, 0)
    return net.model(net.dense(joined, 4, 2, "fc"))


def branched() -> Any:
    net = nets.Net()
    x = net.input("x", [-1, 4])
    choice = op.greater(op.reduce_max(x, nets.whole([0, 1]), False), nets.constant(0))
    parts = []
    for make in (op.relu, op.negative):
        inner = op.parameter([-1, 4], np.float32)
        result = op.result(make(inner))
        parts.append((inner, result, nets.openvino.Model([result], [inner], "part")))
    branch = op.if_op(choice.output(0))
    branch.set_then_body(parts[0][2])
    branch.set_else_body(parts[1][2])
    branch.set_input(x.output(0), parts[0][0], parts[1][0])
    chosen = branch.set_output(parts[0][1], parts[1][1])
    return net.model(net.dense(chosen, 4, 2, "fc"))


def random() -> Any:
    net = nets.Net()
    x = net.input("x", [-1, 4])
    noise = op.random_uniform(nets.whole([1, 4]), nets.constant(0), nets.constant(1), "f32")
    return net.model(net.dense(op.add(x, noise), 4, 2, "fc"))


def recurrent(*, carried: bool = False, layer: bool = False) -> Any:
    net = nets.Net()
    x = net.input("x", [-1, 5, 4])
    x = net.dense(x, 4, 4, "before") if layer else x
    count = op.gather(op.shape_of(x), nets.whole([0]), nets.whole(0))
    shape = op.concat([count, nets.whole([1, 6])], 0)
    zeros = op.broadcast(nets.constant(0), shape)
    state = op.unsqueeze(net.input("state", [-1, 6]), nets.whole(1)) if carried else zeros
    lengths = op.broadcast(nets.whole(5), count)
    cell = op.lstm_sequence(
        x, state, zeros, lengths, net.weight(1, 24, 4), net.weight(1, 24, 6),
        nets.constant(np.zeros((1, 24))), 6, "forward",
    )  # fmt: skip
    last = nets.named(op.squeeze(cell.output(1), nets.whole([1])), "last")
    return net.model(net.dense(last, 6, 2, "fc"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (stateful, "(ReadValue) keeps a state between samples"),
        (branched, "(If) is a branch"),
        (looped, "(TensorIterator) is a loop"),
        (random, "(RandomUniform) is random"),
        (lambda: recurrent(carried=True), "(LSTMSequence) takes its state from input state"),
    ],
)
def test_refused(make: Callable[[], Any], said: str, refused: Refused) -> None:
    message = refused(ModelError, Graph(make()).cut_before_state, Path("m.xml"))
    assert message.startswith("m.xml: operator ")
    assert said in message


def test_layers_before_a_state_are_tapped(tmp_path: Path) -> None:
    load = nets.loader(tmp_path)
    with pytest.warns(UserWarning, match="takes its state from input state: only the layers up to"):
        model = load(recurrent(carried=True, layer=True))
    assert (model.n_outputs, model.output) == (0, None)
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    rows = model.forward(model.check({"x": x, "state": np.zeros((3, 6), np.float32)}))
    np.testing.assert_allclose(rows.taps[0][:, :4], x.mean(axis=1), atol=1e-6)
    assert len(rows.taps) == 2  # what the recurrent layer reads is before its state


def test_a_recurrent_layer_that_starts_at_zero() -> None:
    graph = Graph(recurrent())
    graph.cut_before_state(Path("m.xml"))
    assert graph.cut is None
    assert [read.layer for read in graph.reads()] == ["x", "last"]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("sequence", [True, False])
def test_a_recurrent_layer_takes_no_state_from_an_input(sequence: bool, kind: str) -> None:
    """Each of the states that the kind has, and none that is constant."""
    gates, states = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 1 + (kind == "LSTM")
    for fed in (None, *range(states)):
        net = nets.Net()
        x = net.input("x", [2, 5, 4] if sequence else [2, 4])
        one = [1] if sequence else []
        shape = [2, *one, 6]
        given = [
            net.input("state", shape) if number == fed else nets.constant(np.zeros(shape))
            for number in range(states)
        ]
        weights = [net.weight(*one, gates * 6, 4), net.weight(*one, gates * 6, 6)]
        bias = nets.constant(np.zeros((*one, gates * 6)))
        make = getattr(op, f"{kind.lower()}_{'sequence' if sequence else 'cell'}")
        if sequence:
            layer = make(x, *given, nets.whole([5, 5]), *weights, bias, 6, "forward")
            last = op.squeeze(layer.output(1), nets.whole([1]))
        else:
            functions = ([], [], []) if kind == "RNN" else ()
            layer = make(x, *given, *weights, bias, 6, *functions)
            last = layer.output(0)
        graph = Graph(net.model(net.dense(last, 6, 2, "fc")))
        fault = graph._fault_of(layer.output(0).get_node())
        assert fault == ("" if fed is None else "takes its state from input state")
