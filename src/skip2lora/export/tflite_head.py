"""The end of an exported .tflite graph: where the adapters' sum joins the base logits."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from skip2lora.arrays import SamplesLike
from skip2lora.backbones.ends import PAIR
from skip2lora.backbones.litert.file import Operator, Output, Tensor
from skip2lora.backbones.standins import Binary
from skip2lora.errors import ModelError
from skip2lora.export.check import exact_logits
from skip2lora.export.tflite_base import Base
from skip2lora.export.tflite_nodes import PREFIX, Node, Nodes

#: Operators behind integer logits that are computed again in float.
_AGAIN = frozenset({"SOFTMAX", "LOGISTIC", "ARG_MAX", "RESHAPE", "SQUEEZE"})
_ROUNDING = frozenset({"QUANTIZE", "DEQUANTIZE"})
_ROOM = 1.25  # of the range of integers, beyond what logits of samples take


class Head:
    """Adds to ``nodes`` what stands between the adapters' sum and the outputs of ``base``."""

    def __init__(self, base: Base, nodes: Nodes, samples: SamplesLike | None = None) -> None:
        self.base, self.nodes, self.samples = base, nodes, samples
        self._numbers: Node | None = None
        self._logits: Node | None = None
        end = self.base.end
        makers = self.base.makers()
        self.last = len(self.base.graph.operators) - 1
        if end is not None:
            self.last = makers[end.logits.index]
        self._is_real = end is not None and end.logits.dtype == "float32"

    def numbers(self) -> Node:
        """The base's own numbers of the logits, as floats; a new tensor where they are replaced."""
        end = self.base.end
        if end is None:
            raise RuntimeError("a model without logits has no numbers of them")
        if self._numbers is None:
            self.nodes.behind = self.last
            own = end.logits
            if not self.base.apart and (self._is_real or self._ends_here(own)):
                own = self._renamed(own)
            self._numbers = self.nodes.real(own, "base_logits.real")
        return self._numbers

    def base_logits(self) -> Node:
        """The base logits, (n_outputs,), as the adapters' derived tap has them."""
        if self._logits is None:
            numbers = self.numbers()
            row = self.nodes.reshaped(numbers, [max(numbers.width, 1)], "base_logits.row")
            columns = self.base.own_columns
            if columns is not None:
                row = self.nodes.product(row, columns, "base_logits")
            self._logits = row
        return self._logits

    def plug(self, added: Node) -> int:
        """Let the logits be those of the base plus ``added``; the tensor that they are in."""
        self.nodes.behind = self.last
        if self.base.apart:
            return self._apart(added)
        numbers, end = self.numbers(), self.base.end
        if end is None:
            raise RuntimeError("a model without logits has its outputs apart")
        more = added.width - max(numbers.width, 1)
        shape = list(numbers.shape)
        if more:
            axis = max(range(len(shape)), key=lambda at: shape[at])
            numbers = self.nodes.padded(numbers, axis, more, "base_logits.padded")
            shape[axis] += more
        whole = end.logits.shape[:1] == (1,) if end.logits.shape else False
        added = self.nodes.reshaped(added, shape, "added.shaped", open_batch=whole)
        if self._is_real:
            self._leave_elsewhere(end.logits.index)
            self.nodes.total(numbers, added, "sum", into=end.logits.index)
            if more:
                self._widen(end.logits, more)
            return end.logits.index
        total = self.nodes.total(numbers, added, "sum")
        for output in self.base.graph.outputs:
            if output.logits.index == end.logits.index:
                self._again(output, total, more)
        self._drop_stale(end.logits.index)
        return total.index

    # --- floats -----------------------------------------------------------------------------

    def _renamed(self, own: Tensor) -> Tensor:
        """Let what makes the logits make another tensor like them."""
        front = self.nodes.front
        index = front.tensor(
            f"{PREFIX}base_logits", own.shape or (), own.dtype, scale=own.scale,
            zero_point=own.zero_point,
        )  # fmt: skip
        operator = self.base.graph.operators[self.last]
        outputs = [index if at == own.index else at for at in operator.outputs]
        front.rewire(self.last, outputs=outputs)
        return Tensor(index, own.name, own.dtype, own.shape, own.scale, own.zero_point)

    def _leave_elsewhere(self, logits: int) -> None:
        """Let readers of the logits on the way to further layers read those of the base."""
        graph, base = self.base.graph, self.numbers().index
        further: set[int] = set()
        for layer in graph.layers(None):
            behind = graph.ancestors(layer.input.index)
            if logits in behind:
                further |= behind | {layer.input.index}
        for number, operator in enumerate(graph.operators):
            leads = further.intersection(operator.outputs) and logits in operator.inputs
            if leads or graph.data_input(operator) == logits:
                inputs = [base if at == logits else at for at in operator.inputs]
                self.nodes.front.rewire(number, inputs=inputs)

    def _widen(self, logits: Tensor, more: int) -> None:
        """Let tensors of as many numbers as the logits, and behind them, take more classes."""
        graph, behind = self.base.graph, {logits.index}
        for operator in graph.operators:
            if behind.intersection(operator.inputs):
                behind.update(operator.outputs)
        old = max(logits.sample_shape)
        for index in behind:
            shape = list(graph.tensors[index].shape or ())
            if old in shape:
                at = len(shape) - 1 - shape[::-1].index(old)
                shape[at] += more
                self.nodes.front.reshape(index, shape)

    # --- integers ---------------------------------------------------------------------------

    def _ends_here(self, own: Tensor) -> bool:
        """Whether the tensor of the logits is itself an output of the file."""
        return any(output.tensor.index == own.index for output in self.base.graph.outputs)

    def _again(self, output: Output, total: Node, more: int) -> None:
        """What follows from the logits, in float, and in the type of the output at the end."""
        steps = [node for node in output.end.nodes if node.name not in _ROUNDING]
        for step in steps:
            if step.name not in _AGAIN:
                raise ModelError(
                    f"{self.base.backbone.path}: {step.name} stands behind integer logits, "
                    "expected SOFTMAX, LOGISTIC or ARG_MAX: adapt with new outputs "
                    "(keep_outputs=False)"
                )
        node, is_real = total, output.tensor.dtype == "float32" or not output.tensor.scale
        self._drop(output.end.nodes)
        if more:
            self._widen_tensor(output.tensor, total.width - more, more)
        for place, step in enumerate(steps):
            into = output.tensor.index if is_real and place + 1 == len(steps) else None
            node = self._step(step, node, into, more)
        if not is_real:
            if not steps:
                self._rescale(output)
            self.nodes.whole(node, output.tensor.dtype, output.tensor.index)
        elif not steps:
            self.nodes.reshaped(node, node.shape, "output", into=output.tensor.index)

    def _rescale(self, output: Output) -> None:
        """Let the integers of an output that is the logits reach as far as adapted ones do."""
        tensor = output.tensor
        if self.samples is None:
            raise ModelError(
                f"{self.base.backbone.path}: output {output.name} is its logits as {tensor.dtype}, "
                "expected samples that tell how large adapted ones are: pass some with samples="
            )
        limits = np.iinfo(tensor.dtype)
        own = [(at - tensor.zero_point) * tensor.scale for at in (limits.min, limits.max)]
        adapted = exact_logits(self.base.given, self.base.adapters, self.samples)
        low, high = min(own[0], _ROOM * adapted.min()), max(own[1], _ROOM * adapted.max())
        scale = (high - low) / (limits.max - limits.min)
        self.nodes.front.rescale(tensor.index, scale, round(limits.min - low / scale))

    def _step(self, step: Operator, node: Node, into: int | None, more: int) -> Node:
        if step.name in ("RESHAPE", "SQUEEZE"):
            sizes = list(self.base.graph.tensors[step.outputs[0]].sample_shape)
            if more:
                sizes[-1] += more
            return self.nodes.reshaped(node, sizes, "reshaped", into=into)
        inputs = [node.index, *step.inputs[1:]]
        options = self.nodes.front.options_of(self.base.number_of(step))
        shape = node.shape
        if step.name == "ARG_MAX":
            shape = self.base.graph.tensors[step.outputs[0]].sample_shape
        title = step.name.lower()
        return self.nodes.add(step.name, inputs, shape, title, options=options, into=into)

    def _widen_tensor(self, tensor: Tensor, old: int, more: int) -> None:
        shape = list(tensor.shape or ())
        if old in shape:
            shape[len(shape) - 1 - shape[::-1].index(old)] += more
            self.nodes.front.reshape(tensor.index, shape)

    def _drop(self, operators: Iterable[Operator]) -> None:
        """Leave operators out whose tensors nothing else reads."""
        graph = self.base.graph
        dropped = {id(operator) for operator in operators}
        for operator in operators:
            readers = [of for of in graph.operators if set(operator.outputs) & set(of.inputs)]
            if all(id(of) in dropped for of in readers):
                self.nodes.front.drop(self.base.number_of(operator))

    # --- outputs ----------------------------------------------------------------------------

    def _apart(self, added: Node) -> int:
        """The sum as an output of its own, without outputs that say what the base says."""
        if self.base.end is not None:
            own = self.base_logits()
            if isinstance(self.base.given, Binary):
                own = self.nodes.product(own, PAIR, "own.pair")
            more = added.width - own.width
            own = self.nodes.padded(own, 0, more, "own.padded") if more else own
            added = self.nodes.total(own, added, "output")
        front, graph = self.nodes.front, self.base.graph
        end = self.base.backbone.end
        shows = set()
        if end is not None:
            shows = {
                each.tensor.index for each in graph.outputs
                if end.logits.index in graph.ancestors(each.tensor.index)
            }  # fmt: skip
        specs = zip(graph.outputs, self.base.backbone.outputs, strict=True)
        says = end is not None and end.end.ending != "unknown"
        stale = {
            each.tensor.index for each, spec in specs
            if spec.closed or (each.tensor.index in shows and says)
        }  # fmt: skip
        front.outputs = [at for at in front.outputs if at not in stale] + [added.index]
        front.name_output(added.index, self._free_name())
        return added.index

    def _free_name(self) -> str:
        taken = {tensor.name for tensor in self.base.graph.tensors}
        return next(name for name in ("logits", "adapted_logits") if name not in taken)

    def _drop_stale(self, logits: int) -> None:
        """Leave out outputs made of the integer logits in ways that are not computed again."""
        front, graph = self.nodes.front, self.base.graph
        front.outputs = [
            index
            for index, output in zip(front.outputs, graph.outputs, strict=True)
            if output.logits.index == logits or logits not in graph.ancestors(index)
        ]
        if not front.outputs:
            raise ModelError(
                f"{self.base.backbone.path} has no output that follows from its logits, expected "
                "one: adapt with new outputs (keep_outputs=False)"
            )
