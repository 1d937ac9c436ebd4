"""Operators of an OpenVINO network: its layers with weights, what they read, and its ends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from skip2lora.backbones.ends import End, Op, end_of
from skip2lora.backbones.openvino.ends import key_of, op_of
from skip2lora.errors import ModelError

#: Operators with weights, and where these are. Those of a product may stand on either side.
_WEIGHTS = {
    "Convolution": 1, "GroupConvolution": 1, "ConvolutionBackpropData": 1,
    "GroupConvolutionBackpropData": 1, "DeformableConvolution": 2, "MatMul": 1, "Einsum": 1,
    "LSTMSequence": 4, "GRUSequence": 3, "RNNSequence": 3, "LSTMCell": 3, "GRUCell": 2,
    "RNNCell": 2,
}  # fmt: skip
_BOTH_SIDES = ("MatMul", "Einsum")
#: Recurrent layers, and how many of the inputs behind their data are states they begin with.
_STATES = {
    "LSTMSequence": 2, "GRUSequence": 1, "RNNSequence": 1, "LSTMCell": 2, "GRUCell": 1,
    "RNNCell": 1,
}  # fmt: skip
_REFUSED = {
    "ReadValue": "keeps a state between samples", "Assign": "keeps a state between samples",
    "If": "is a branch", "Loop": "is a loop", "TensorIterator": "is a loop",
    "RandomUniform": "is random", "Multinomial": "is random",
}  # fmt: skip
# What changes shapes, types or the order of axes alone.
_PASSED = ("Reshape", "Squeeze", "Unsqueeze", "Convert", "FakeQuantize")
_MOVED = (
    *_PASSED, "Transpose", "StridedSlice", "Slice", "Split", "VariadicSplit", "Gather", "Concat",
)  # fmt: skip
# What stands between a named tensor and an unnamed one that says the same: rounding and layout.
_UNNAMED = (*_PASSED, "Transpose", "Pad", "Subtract", "Multiply")


@dataclass(frozen=True, eq=False)
class Read:
    """What one layer reads: ``source``, an output of an operator, by the name of the tap.

    ``convolves`` says that it is a map with its channels first; ``places_first`` that the layer
    multiplies from the left, over the last axis but one.
    """

    layer: str
    tensor: str
    source: Any
    convolves: bool = False
    places_first: bool = False


@dataclass(frozen=True, eq=False)
class Output:
    """One output by its ``name``; ``source`` is made of its ``logits``, as ``end`` says."""

    name: str
    logits: Any
    end: End
    source: Any


def _read_by(node: Any) -> list[Any]:
    return [each.get_source_output() for each in node.inputs()]


class Graph:
    """The operators of ``model`` in their order."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.nodes: list[Any] = model.get_ordered_ops()
        #: Names of operators that are left out, and why; None where nothing is.
        self.behind: set[str] = set()
        self.cut: str | None = None

    @cached_property
    def constants(self) -> set[str]:
        """Names of operators that depend on no input."""
        constant: set[str] = set()
        for node in self.nodes:
            makers = [each.get_source_output().get_node().get_name() for each in node.inputs()]
            if node.get_type_name() == "Constant" or (makers and constant.issuperset(makers)):
                constant.add(node.get_name())
        return constant

    @property
    def integers(self) -> bool:
        """Whether data is rounded to a few levels, as in a quantised model."""
        return any(
            node.get_type_name() == "FakeQuantize" and node.get_name() not in self.constants
            for node in self.nodes
        )

    def reads(self) -> list[Read]:
        """What the layers with weights read, in order; each tensor once.

        It is called by its tensor, or where that has no name by the one that it was rounded or
        reshaped from; where that has none or was used, by the layer.
        """
        reads: dict[tuple[str, int], Read] = {}
        names: set[str] = set()
        for node in self.nodes:
            place = self._data(node)
            if place is None:
                continue
            kind = node.get_type_name()
            source = node.input(place).get_source_output()
            if key_of(source)[0] in self.behind:
                continue
            convolves = "Convolution" in kind
            while convolves and source.get_node().get_type_name() == "Pad":
                # Padding belongs to the convolution, and its zeros say nothing.
                source = source.get_node().input(0).get_source_output()
            key = key_of(source)
            if key in reads:
                continue
            tensor = self.name_of(source)
            layer = tensor
            if not layer or layer in names:
                layer = str(node.get_friendly_name())
            if layer in names:
                layer = f"{layer}#{len(reads)}"
            names.add(layer)
            reads[key] = Read(layer, tensor or layer, source, convolves, place == 1)
        return list(reads.values())

    def _data(self, node: Any) -> int | None:
        """Which input of a layer is its data, None for what is no layer with weights."""
        kind = node.get_type_name()
        if kind not in _WEIGHTS or node.get_name() in self.constants:
            return None
        fixed = [
            each.get_source_output().get_node().get_name() in self.constants
            for each in node.inputs()
        ]
        if kind in _BOTH_SIDES:
            return None if len(fixed) != 2 or fixed[0] == fixed[1] else fixed.index(False)
        return 0 if fixed[_WEIGHTS[kind]] and not fixed[0] else None

    def name_of(self, source: Any) -> str:
        """The name of a tensor or of the one it was rounded or reshaped from, "" without any."""
        while not (names := source.get_names()):
            node = source.get_node()
            if node.get_type_name() not in _UNNAMED:
                return ""
            data = [
                each.get_source_output()
                for each in node.inputs()
                if each.get_source_output().get_node().get_name() not in self.constants
            ]
            if len(data) != 1:
                return ""
            source = data[0]
        return str(min(names))

    def ends(self) -> list[Output]:
        """What stands at each output of the model, in their order."""
        results = self.model.get_results()
        return [self._end(each) for each in results if each.get_name() not in self.behind]

    def _end(self, result: Any) -> Output:
        source = result.input(0).get_source_output()
        name = self.name_of(source) or str(result.get_friendly_name())
        end = end_of(key_of(source), self._op_of)
        operator, number = end.logits
        return Output(name, self._by_name[operator].output(number), end, source)

    @cached_property
    def _by_name(self) -> dict[str, Any]:
        return {node.get_name(): node for node in self.nodes}

    def _op_of(self, key: tuple[str, int]) -> Op | None:
        return op_of(self._by_name[key[0]], self.constants, self.is_layer)

    def is_layer(self, node: Any) -> bool:
        """Whether it is a layer with weights."""
        return self._data(node) is not None

    def ancestors(self, source: Any) -> set[tuple[str, int]]:
        """All tensors that ``source`` is computed from, and itself, as :func:`key_of`."""
        left, seen = [source], set[tuple[str, int]]()
        while left:
            tensor = left.pop()
            if key_of(tensor) not in seen:
                seen.add(key_of(tensor))
                left += [each.get_source_output() for each in tensor.get_node().inputs()]
        return seen

    def cut_before_state(self, path: Path) -> None:
        """Leave out what is behind operators that are not the same function of every sample.

        ``cut`` then says what.

        Raises:
            ModelError: no layer with weights is before the first that is a loop, a branch, random,
                or has a state.
        """
        first = ""
        for node in self.nodes:
            reason = self._fault_of(node)
            if reason or any(key_of(each)[0] in self.behind for each in _read_by(node)):
                self.behind.add(node.get_name())
            if reason and not first:
                first = f"operator {node.get_friendly_name()} ({node.get_type_name()}) {reason}"
        if not first:
            return
        before = (node for node in self.nodes if node.get_name() not in self.behind)
        if "is random" in first or all(self._data(node) is None for node in before):
            raise ModelError(
                f"{path}: {first}, expected a network that gives the same for the same sample, as "
                "samples are cached, or layers with weights before that: export the model without "
                "it, or with a state of zeros"
            )
        self.cut = (
            f"{first}: only the layers up to there are tapped, and outputs behind it left out"
        )

    def _fault_of(self, node: Any) -> str:
        """Why an operator need not give the same for the same sample, "" where it does."""
        kind = node.get_type_name()
        if kind in _REFUSED:
            return _REFUSED[kind]
        for place in range(1, 1 + _STATES.get(kind, 0)):
            carried = self._input_behind(node.input(place).get_source_output())
            if carried is not None:
                return f"takes its state from input {carried}"
        return ""

    def _input_behind(self, source: Any) -> str | None:
        """The input of the model that is handed on as it is, if any."""
        sources = [source]
        while sources:
            node = sources.pop().get_node()
            if node.get_type_name() == "Parameter":
                return self.name_of(node.output(0)) or str(node.get_friendly_name())
            if node.get_type_name() in _MOVED:
                sources += [each.get_source_output() for each in node.inputs()]
        return None
