"""An ONNX graph as layers that follow each other, branches that are added included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from skip2lora.backbones.base import Backbone
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.onnx.file import embed, read_model
from skip2lora.backbones.onnx.graph import Graph, input_specs
from skip2lora.backbones.onnx.tapped import understand
from skip2lora.errors import ModelError
from skip2lora.export.c_axes import Axes
from skip2lora.export.c_branches import Branches, nodes
from skip2lora.export.c_chain import Operation, joined
from skip2lora.export.c_layers import Dense, Layer, with_tap
from skip2lora.export.c_recurrent import ALL_HANDLERS

# What may stand between a product and the end of its sum.
_ADDED = ("Add", "Identity", "Dropout", "Cast")


def layers_of(model: Backbone) -> tuple[Dense | Layer, ...] | None:
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
    proto = read_model(model.path)
    embed(proto, model.path.parent)
    graph = Graph(proto)
    name = graph.inputs[0].name
    samples = anatomy.look.axes[name]
    shape = input_specs(graph, {name: samples})[0].shape
    if None in shape:
        raise ModelError(
            f"{model.path} takes samples of {shape}, expected sizes that are known: export it with "
            "fixed sizes, or the taps alone with taps_only=True"
        )
    axes = Axes.of(name, [size for size in shape if size is not None], samples)
    steps = list(operations(graph, axes, anatomy.head.logits, model.path))
    return _tapped(joined(steps, model.path), model)


def _tapped(layers: tuple[Dense | Layer, ...], model: OnnxBackbone) -> tuple[Dense | Layer, ...]:
    """The layers with the taps of the model, each of which must be one that C has."""
    taps = {tap.layer: tap for tap in model.taps}
    result = [with_tap(layer, taps.get(layer.layer)) for layer in layers]
    names = [layer.layer for layer in layers if layer.layer in taps]
    if None in result or names != [tap.layer for tap in model.taps]:
        raise ModelError(
            f"{model.path} is tapped at {', '.join(taps)}, expected inputs of layers as C has "
            "them: leave taps= and grid= out, or export the taps alone with taps_only=True"
        )
    return tuple(layer for layer in result if layer is not None)


def operations(graph: Graph, axes: Axes, logits: str, path: object) -> Iterator[Operation]:
    """Those from the only input of ``graph``, which lies as ``axes``, to its ``logits``.

    Raises:
        ModelError: a node that C does not have.
    """
    product: Operation | None = None  # whose sum may still come
    steps = nodes(graph, logits, path)
    branches = Branches(steps, graph.inputs[0].name, axes)
    for node in steps:
        operator, joins = node.proto.op_type, len(node.places) > 1
        moves = branches.add(node) if joins else branches.read(node.reads[0], node)
        if product is not None and (moves or operator not in _ADDED):
            yield product
            product = None
        yield from moves
        if joins:
            continue
        axes = branches.axes[node.reads[0]]
        if product is not None:
            if operator == "Add":
                weight, zeros = product.arrays
                bias = node.vector(1 - node.place, len(zeros))
                yield replace(product, arrays=(weight, zeros + bias))
                product = None
        elif operator in ALL_HANDLERS:
            axes, of_node = ALL_HANDLERS[operator](node, axes)
            product = of_node.pop() if operator == "MatMul" else None
            yield from of_node
        else:
            raise node.refused()
        branches.give(node.tensor, axes)
    if product is not None:
        yield product
