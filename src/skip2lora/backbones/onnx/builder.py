"""Appends nodes to an ONNX graph, under names of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.onnx.file import need_onnx
from skip2lora.backbones.onnx.graph import Graph

PREFIX = "skip2lora."
_OWN_DOMAIN = "com.microsoft"


class Builder:
    """Appends nodes to a graph under names of its own, which begin with ``prefix``."""

    def __init__(self, graph: Graph, prefix: str = PREFIX) -> None:
        self.graph = graph
        self.prefix = prefix
        self._onnx = need_onnx("rewriting a model")
        self._made: set[str] = set()
        _raise_ir_version(graph.model)

    def made(self, name: str) -> str | None:
        """The full name of a tensor that was made under ``name``, None where there is none."""
        return self.prefix + name if name in self._made else None

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """An initializer of that name; asking again gives the same."""
        full = self.prefix + name
        if name not in self._made:
            tensor = self._onnx.numpy_helper.from_array(np.asarray(array, order="C"), full)
            self.graph.add_initializer(tensor)
            self._made.add(name)
        return full

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        *,
        renamed: str | None = None,
        **attributes: Any,
    ) -> str:
        """A node of that name; it makes a tensor of the same name, or the one it is renamed to."""
        name = self.prefix + output
        made = renamed or name
        self.graph.model.graph.node.append(
            self._onnx.helper.make_node(operator, list(inputs), [made], name=name, **attributes)
        )
        self._made.add(output)
        return made

    def own_node(self, operator: str, inputs: Sequence[str], output: str) -> str:
        """A node of an operator that onnxruntime adds to the standard ones."""
        imports = self.graph.model.opset_import
        if not any(each.domain == _OWN_DOMAIN for each in imports):
            imports.append(self._onnx.helper.make_opsetid(_OWN_DOMAIN, 1))
        return self.node(operator, inputs, output, domain=_OWN_DOMAIN)

    def reshape(self, tensor: str, shape: Sequence[int], output: str) -> str:
        """The tensor in another shape; 0 keeps a size, -1 is what remains."""
        name = "shape." + "x".join(map(str, shape))
        constant = self.constant(name, np.array(shape, np.int64))
        return self.node("Reshape", [tensor, constant], output)

    def mean(self, tensor: str, axes: Sequence[int], output: str) -> str:
        """The mean over axes, which vanish; opset 18 made them an input."""
        if self.graph.opset < 18:
            return self.node("ReduceMean", [tensor], output, axes=list(axes), keepdims=0)
        name = "axes." + ".".join(map(str, axes))
        constant = self.constant(name, np.array(axes, np.int64))
        return self.node("ReduceMean", [tensor, constant], output, keepdims=0)

    def as_float(self, tensor: str, output: str, *, like: str | None = None) -> str:
        """The tensor as float32, itself where it is; ``like`` is one with the same type."""
        if self.graph.type_of(like or tensor) == self._onnx.TensorProto.FLOAT:
            return tensor
        return self.node("Cast", [tensor], output, to=self._onnx.TensorProto.FLOAT)


def _raise_ir_version(model: Any) -> None:
    """Make initializers constants: before version 4 each was an input as well."""
    if model.ir_version >= 4:
        return
    initializers = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in initializers]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = 4
