"""Branches of an ONNX graph that are added: their order, and the slots in which they wait."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from skip2lora.backbones.onnx.graph import OPERATORS, Graph, infer
from skip2lora.errors import ModelError
from skip2lora.export.c_axes import SAMPLES, Axes
from skip2lora.export.c_chain import Operation
from skip2lora.export.c_layers import ADD, EXCHANGE, SAVE, slot
from skip2lora.export.c_nodes import Node, ordered
from skip2lora.export.c_recurrent import ALL_HANDLERS

_MOST_SLOTS = 8  # S2_MODEL_MAX_SLOTS


def nodes(graph: Graph, logits: str, path: object) -> list[Node]:
    """Those between the input and ``logits``, each with the places of what it reads of others.

    Layers with weights come in the file's order, as taps do; others follow what they read at once.

    Raises:
        ModelError: an operator that C does not have, or one that reads or gives several tensors.
    """
    first = {value.name for value in graph.inputs}
    data = _descendants(graph, first) & graph.ancestors(logits)
    shapes, left = _shapes(graph), list[Node]()
    for proto in graph.model.graph.node:
        places = tuple(at for at, name in enumerate(proto.input) if name in data)
        outputs = [at for at, name in enumerate(proto.output) if name in data]
        if not places or not outputs:
            continue
        following = shapes.get(str(proto.output[outputs[0]]))
        node = Node(graph, proto, places, outputs[0], following, path)
        operator = str(proto.op_type)
        joins = operator == "Add" and len(places) == 2
        single = len(places) == 1 and (operator in ALL_HANDLERS or operator == "Add")
        if len(outputs) > 1 or not (joins or single):
            raise node.refused()
        left.append(node)
    return _scheduled(left, first)


def _descendants(graph: Graph, first: set[str]) -> set[str]:
    """All tensors whose values depend on those of ``first``."""
    seen, left = set[str](), deque(first)
    while left:
        tensor = left.popleft()
        if tensor in seen:
            continue
        seen.add(tensor)
        for node in graph.readers.get(tensor, ()):
            if node.op_type not in ("Shape", "Size"):
                left.extend(name for name in node.output if name)
    return seen


def _shapes(graph: Graph) -> dict[str, tuple[int | str | None, ...]]:
    """What shape inference tells, which is nothing where it does not come to an end."""
    try:
        return infer(graph)
    except ModelError:
        return {}


def _scheduled(left: list[Node], ready: set[str]) -> list[Node]:
    """Each once what it reads is there, as :func:`nodes` says."""
    result, ready, last = list[Node](), set(ready), ""
    while left:
        node = next(
            (
                node
                for node in left
                if last in node.reads
                and node.proto.op_type not in OPERATORS
                and ready.issuperset(node.reads)
            ),
            None,
        ) or next(node for node in left if ready.issuperset(node.reads))
        left.remove(node)
        result.append(node)
        last = node.tensor
        ready.add(last)
    return result


class Branches:
    """Which tensor goes on, which wait in slots, how each lies, and how often it is still read."""

    def __init__(self, steps: Sequence[Node], tensor: str, axes: Axes) -> None:
        self.axes = {tensor: axes}
        self._left = Counter(name for node in steps for name in node.reads)
        self._tensor = tensor
        self._slots: list[str | None] = []

    def give(self, tensor: str, axes: Axes) -> None:
        """What goes on now."""
        self._tensor = tensor
        self.axes[tensor] = axes

    def read(self, tensor: str, node: Node) -> list[Operation]:
        """What makes ``tensor`` go on, with a copy in a slot where it is read once more."""
        steps = []
        if tensor != self._tensor:
            number = self._slots.index(tensor)
            width, after = self.axes[self._tensor].width, self.axes[tensor].width
            steps.append(_operation(node, EXCHANGE, number, width, after))
            self._slots[number], self._tensor = self._tensor, tensor
        self._left[tensor] -= 1
        if self._left[tensor]:
            if None not in self._slots:
                self._slots.append(None)
            number, width = self._slots.index(None), self.axes[tensor].width
            if number >= _MOST_SLOTS:
                raise node.refused(f"behind more than {_MOST_SLOTS} open branches")
            steps.append(_operation(node, SAVE, number, width, width))
            self._slots[number] = tensor
        return steps

    def add(self, node: Node) -> list[Operation]:
        """What makes the sum of the two tensors go on that ``node`` reads.

        Raises:
            ModelError: they are of unlike shapes, or no one transposition brings them together.
        """
        first, second = node.reads
        if second == self._tensor:
            first, second = second, first
        steps = self.read(first, node)
        if self._left[second] > 1:  # and later again
            steps += self.read(second, node)
            first, second = second, first
        else:
            self._left[second] -= 1
        one, other = self.axes[first], self.axes[second]
        places = tuple(name == SAMPLES for name in one.onnx)
        if one.shape != other.shape or places != tuple(name == SAMPLES for name in other.onnx):
            raise node.refused("between unlike shapes")
        memory = [one.onnx[other.onnx.index(name)] for name in other.memory]
        moved, turns = ordered(node, one, memory)
        number = self._slots.index(second)
        self._slots[number] = None
        self.give(node.tensor, moved)
        return [*steps, *turns, _operation(node, ADD, number, moved.width, moved.width)]


def _operation(node: Node, kind: int, number: int, n_in: int, n_out: int) -> Operation:
    return Operation(node.title, "layer", whole=slot(node.title, kind, number, (n_in, n_out)))
