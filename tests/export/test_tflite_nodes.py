"""Operators one by one, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert: group runtimes")

import tflite_models as nets
from skip2lora.backbones.litert.file import Tensor
from skip2lora.export.tflite_front import Front
from skip2lora.export.tflite_nodes import Node, Nodes
from tflite_exports import Stock

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def graph(width: int, shape: tuple[int, ...] = (4,)) -> tuple[Nodes, Node, int]:
    file = nets.File()
    x, y = file.tensor("x", (1, *shape)), file.tensor("y", (1, width))
    front = Front(file.pack([x], [y]), "a test")
    return Nodes(front), Node(x, shape), y


def values(nodes: Nodes, node: Node, y: int, x: np.ndarray = X) -> np.ndarray:
    nodes.reshaped(node, node.shape, "out", into=y)
    return next(iter(Stock(nodes.front.content()).run(x).values()))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 17])
def test_rows_side_by_side(count: int) -> None:
    """Any number of them, at most four by one operator."""
    nodes, x, y = graph(4 * count)
    parts = [nodes.of_two("MUL", x, float(at + 1), f"p{at}") for at in range(count)]
    got = values(nodes, nodes.joined(parts, "joined"), y)
    np.testing.assert_allclose(got, np.concatenate([X * (at + 1) for at in range(count)], axis=1))


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("ADD", np.add), ("SUB", np.subtract), ("MUL", np.multiply), ("DIV", np.divide),
        ("MINIMUM", np.minimum), ("MAXIMUM", np.maximum),
    ],
)  # fmt: skip
def test_functions_of_two(kind: str, function: np.ufunc) -> None:
    nodes, x, y = graph(4)
    got = values(nodes, nodes.of_two(kind, x, 0.75, "made"), y)
    np.testing.assert_allclose(got, function(X, np.float32(0.75)), rtol=1e-6)


def test_products_and_padding() -> None:
    nodes, x, y = graph(5)
    weight = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    bias = np.array([0.5, -9, 0], np.float32)
    product = nodes.product(x, weight, "product", bias, relu=True)
    got = values(nodes, nodes.padded(product, 0, 2, "padded"), y)
    want = np.pad(np.maximum(X @ weight + bias, 0), ((0, 0), (0, 2)))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_integers_become_real(dtype: str) -> None:
    file = nets.File()
    x = file.tensor("x", (1, 4), dtype, scale=0.5, zero_point=3)
    y = file.tensor("y", (1, 4))
    nodes = Nodes(Front(file.pack([x], [y]), "a test"))
    node = nodes.real(Tensor(x, "x", dtype, (1, 4), 0.5, 3), "real")
    nodes.reshaped(node, node.shape, "out", into=y)
    given = np.arange(12).reshape(3, 4).astype(dtype)
    (got,) = Stock(nodes.front.content()).run(given).values()
    np.testing.assert_allclose(got, (given.astype(np.float32) - 3) / 2)


def test_equal_constants_are_one() -> None:
    nodes, _, _ = graph(4)
    one = nodes.constant(np.array([1, 2], np.int32), "a")
    assert nodes.constant(np.array([1, 2], np.int32), "b") == one
    assert nodes.constant(np.array([1, 2], np.int64), "c") != one
    assert nodes.constant(np.array([[1, 2]], np.int32), "d") != one


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integers_without_a_scale_stay_the_numbers_they_are(dtype: str) -> None:
    file = nets.File()
    x, y = file.tensor("x", (1, 4), dtype), file.tensor("y", (1, 4))
    nodes = Nodes(Front(file.pack([x], [y]), "a test"))
    node = nodes.real(Tensor(x, "x", dtype, (1, 4)), "real")
    nodes.reshaped(node, node.shape, "out", into=y)
    given = np.arange(12).reshape(3, 4).astype(dtype)
    (got,) = Stock(nodes.front.content()).run(given).values()
    np.testing.assert_array_equal(got, given.astype(np.float32))


@pytest.mark.parametrize(("shape", "batched"), [((1, 4), True), ((4, 3), False)])
def test_whether_there_is_an_axis_of_samples(shape: tuple[int, ...], batched: bool) -> None:
    file = nets.File()
    x, y = file.tensor("x", shape, "int8", scale=0.5), file.tensor("y", (1, 4))
    nodes = Nodes(Front(file.pack([x], [y]), "a test"))
    node = nodes.real(Tensor(x, "x", "int8", shape, 0.5, 0), "real")
    assert (node.batched, node.width) == (batched, int(np.prod(shape)))
