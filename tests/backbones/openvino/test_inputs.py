"""Inputs of a network, and the sizes that it leaves open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import openvino_models as nets
from openvino_models import op
from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.openvino.graph import Graph
from skip2lora.backbones.openvino.inputs import (
    batch_of,
    fix_size,
    shapes_of,
    specs_of,
    takes_any_size,
)
from skip2lora.errors import ModelError, ParameterError

Refused = Callable[..., str]
PATH = Path("m.xml")


def specs(model: Any) -> tuple[InputSpec, ...]:
    return specs_of(Graph(model), PATH)


def of_one(shape: list[int], kind: Any = np.float32) -> Any:
    net = nets.Net()
    return net.model(op.convert(net.input("x", shape, kind), "f32"))


def test_specs() -> None:
    assert specs(nets.cnn(size=-1)) == (InputSpec("x", (3, None, None), "float32"),)
    assert specs(nets.texts(tokens=7)) == (
        InputSpec("input_ids", (7,), "int64"),
        InputSpec("attention_mask", (7,), "int64"),
    )
    for kind in ("float16", "float64", "bool", "int8", "uint8", "int32", "uint16"):
        assert specs(of_one([-1, 4], np.dtype(kind)))[0].dtype == kind


def test_specs_refused(refused: Refused) -> None:
    for shape, kind, said in (
        ([], np.float32, "input x has shape [], expected an axis of samples"),
        ([-1, 4], nets.openvino.Type.bf16, "input x has type bf16, expected numbers"),
        ([-1], nets.openvino.Type.string, "input x has type string, expected numbers"),
    ):
        net = nets.Net()
        node = net.input("x", shape, kind)
        assert said in refused(ModelError, specs, net.model(node))
    net = nets.Net()
    node = net.input("x", [1], np.float32)
    node.set_partial_shape(nets.openvino.PartialShape.dynamic())
    model = net.model(node)
    model.validate_nodes_and_infer_types()
    assert "input x has shape [...]" in refused(ModelError, specs, model)
    constant = nets.openvino.Model([op.result(nets.constant([1.0]))], [])
    assert "m.xml has no inputs" in refused(ModelError, specs, constant)


def test_batch() -> None:
    assert [batch_of(nets.mlp(batch=batch)) for batch in (-1, 1, 4)] == [None, 1, 4]


def test_images_of_any_size() -> None:
    assert takes_any_size(specs(nets.cnn(size=-1)))
    assert not takes_any_size(specs(nets.cnn()))
    assert not takes_any_size(specs(nets.mlp()))
    assert not takes_any_size(specs(nets.texts()))
    assert takes_any_size(specs(of_one([-1, -1, -1, 3])))


def test_fixing_the_size() -> None:
    for shape, fixed in (([-1, 3, -1, 8], (3, 6, 8)), ([4, -1, -1, 1], (6, 8, 1))):
        model = of_one(shape)
        fix_size(model, specs(model), PATH, (6, 8))
        assert specs(model)[0].shape == fixed
        assert batch_of(model) == (None if shape[0] < 0 else shape[0])


@pytest.mark.parametrize(
    ("size", "shape", "said"),
    [
        ((6, 9), [-1, 3, -1, 8], "size is 6x9, but m.xml takes anyx8: leave size out"),
        ((6, 8), [-1, 5], "but 0 inputs of m.xml are images"),
        ((6, 8), [-1, 5, -1, -1], "but 0 inputs of m.xml are images"),
        ((6,), [-1, 3, -1, -1], "size is (6,), expected height and width of 1 to 16384 pixels"),
        (6, [-1, 3, -1, -1], "size is 6, expected height and width of 1 to 16384 pixels"),
        ((0, 6), [-1, 3, -1, -1], "size is (0, 6), expected height and width of 1 to 16384 pixels"),
    ],
)
def test_sizes_refused(size: Any, shape: list[int], said: str, refused: Refused) -> None:
    model = of_one(shape)
    assert said in refused(ParameterError, fix_size, model, specs(model), PATH, size)


def test_a_size_that_an_operator_does_not_take(refused: Refused) -> None:
    net = nets.Net()
    x = net.input("x", [-1, 3, -1, -1])
    model = net.model(op.convolution(x, net.weight(2, 3, 9, 9), [1, 1], [0, 0], [0, 0], [1, 1]))
    said = refused(ParameterError, fix_size, model, specs(model), PATH, (4, 4))
    assert "size is 4x4, but m.xml does not take it: " in said


def test_shapes_for_two_sizes() -> None:
    model = nets.texts()
    sources = [read.source for read in Graph(model).reads()]
    one, other, samples = shapes_of(model, sources)
    assert samples == (2, 3)
    assert one == [(2, 12, 12), (2, 12, 16), (2, 12)]
    assert other == [(3, 20, 12), (3, 20, 16), (3, 12)]
    # The model is as before.
    assert specs(model)[0].shape == (None,)
    assert batch_of(model) is None


def test_shapes_of_a_model_that_takes_no_such_sizes() -> None:
    """One that takes 7 tokens, which only its operators say."""
    net = nets.Net()
    x = net.input("x", [-1, -1])
    model = net.model(op.add(net.dense(x, 7, 3, "fc"), nets.constant(0)))
    [read] = Graph(model).reads()
    one, other, _ = shapes_of(model, [read.source])
    assert one == other == [(None, None)]
