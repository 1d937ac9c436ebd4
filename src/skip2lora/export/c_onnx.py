"""An ONNX graph as operations that follow each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from skip2lora.backbones.base import Backbone
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.onnx.file import read_model
from skip2lora.backbones.onnx.graph import Graph
from skip2lora.backbones.onnx.tapped import understand
from skip2lora.errors import ModelError
from skip2lora.export.c_chain import Array, Dense, Operation, joined, no_counterpart

_PASSED = ("Identity", "Flatten", "Dropout", "Reshape", "Squeeze", "Cast")


def layers_of(model: Backbone) -> tuple[Dense, ...] | None:
    """The layers of an ONNX model that has no others than C has; None of other models.

    Raises:
        ModelError: it has others, or changed since it was loaded.
    """
    if not isinstance(model, OnnxBackbone):
        return None
    proto = read_model(model.path)
    anatomy, _, fingerprint = understand(
        proto, model.path, grid=model.grid, size=model.size, output=model.output, mask=model.mask
    )
    if fingerprint != model.fingerprint or anatomy.head is None:
        raise ModelError(
            f"{model.path} changed since it was loaded, or has no logits, expected it unchanged "
            "and with some: load it again"
        )
    if len(model.session.inputs) != 1:
        raise ModelError(
            f"{model.path} has {len(model.session.inputs)} inputs, expected one: export the taps "
            "alone with taps_only=True"
        )
    graph = Graph(read_model(model.path))
    layers = joined(list(operations(graph, anatomy.head.logits, model.path)), model.path)
    taps = [tap.layer for tap in model.taps]
    if [layer.layer for layer in layers][-len(taps) :] != taps:
        raise ModelError(
            f"{model.path} is tapped at {', '.join(taps)}, expected its last layers in order: "
            "leave taps= out"
        )
    return layers


def operations(graph: Graph, logits: str, path: object) -> Iterator[Operation]:
    """Those from the only input of ``graph`` to its ``logits``, which are a tensor's name.

    Raises:
        ModelError: a node that C does not have.
    """
    product: Operation | None = None  # whose sum is still to come
    for node, place in _nodes(graph, logits, path):
        if node.op_type in _PASSED:
            continue
        if product is not None and node.op_type == "Add":
            weight, zeros = product.arrays
            bias = _vector(graph, node, 1 - place, len(zeros), path)
            yield replace(product, arrays=(weight, zeros + bias))
            product = None
            continue
        if product is not None:
            yield product
            product = None
        of = _operation(graph, node, path)
        if node.op_type == "MatMul":
            product = of
        else:
            yield of
    if product is not None:
        yield product


def _nodes(graph: Graph, logits: str, path: object) -> list[tuple[Any, int]]:
    """From the input on, each with the place of what it reads of the one before."""
    first, tensor, nodes = {value.name for value in graph.inputs}, logits, []
    while tensor not in first:
        node = graph.producer[tensor]
        places = [
            place for place, name in enumerate(node.input) if name and name not in graph.constants
        ]
        if len(places) != 1:
            raise no_counterpart(path, _title(graph, node))
        nodes.append((node, places[0]))
        tensor = str(node.input[places[0]])
    return nodes[::-1]


def _title(graph: Graph, node: Any) -> str:
    return f"node {graph.title(node)} ({node.op_type})"


def _operation(graph: Graph, node: Any, path: object) -> Operation:
    title, layer = _title(graph, node), str(node.name or node.output[0])
    values = {each.name: graph.onnx.helper.get_attribute_value(each) for each in node.attribute}
    if node.op_type == "Relu":
        return Operation(title, "relu")
    if node.op_type == "BatchNormalization":
        width = len(_array(graph, node, 1, path))
        arrays = [_vector(graph, node, place, width, path) for place in (1, 2, 3, 4)]
        return Operation(
            title, "norm", arrays=tuple(arrays), eps=float(values.get("epsilon", 1e-5))
        )
    if node.op_type not in ("Gemm", "MatMul") or values.get("transA"):
        raise no_counterpart(path, title)
    weight = _array(graph, node, 1, path)
    if weight.ndim != 2:
        raise no_counterpart(path, title)
    weight = weight.T if values.get("transB") else weight
    weight = weight * np.float32(values.get("alpha", 1.0))
    bias = np.zeros(weight.shape[1], np.float32)
    if len(node.input) > 2 and node.input[2]:
        given = _vector(graph, node, 2, len(bias), path)
        bias = given * np.float32(values.get("beta", 1.0))
    return Operation(title, "dense", layer, (np.ascontiguousarray(weight), bias))


def _array(graph: Graph, node: Any, place: int, path: object) -> Array:
    array = graph.array(str(node.input[place]))
    if array is None or array.dtype not in (np.float32, np.float64):
        raise no_counterpart(path, _title(graph, node))
    return np.asarray(array, np.float32)


def _vector(graph: Graph, node: Any, place: int, width: int, path: object) -> Array:
    array = _array(graph, node, place, path)
    if array.size not in (1, width):
        raise no_counterpart(path, _title(graph, node))
    return np.broadcast_to(array.reshape(-1), (width,)).copy()
