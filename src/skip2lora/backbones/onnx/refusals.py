"""Why an ONNX graph cannot be tapped, each reason in a line of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skip2lora.backbones.onnx.graph import OPERATORS, Graph, Read, Size
from skip2lora.errors import ModelError

#: Operators of ai.onnx.ml that keep what they learned in attributes: what they are.
_LEARNED = {
    "LinearClassifier": "a linear model", "LinearRegressor": "a linear model",
    "SVMClassifier": "support vectors", "SVMRegressor": "support vectors",
    "TreeEnsembleClassifier": "trees", "TreeEnsembleRegressor": "trees", "TreeEnsemble": "trees",
}  # fmt: skip
_KINDS = {"sequence_type": "a sequence", "optional_type": "optional", "map_type": "a map"}


def no_samples(graph: Graph, path: Path, shapes: Mapping[str, Sequence[Size]]) -> ModelError:
    """The error for a graph without inputs, or with one that is no array of samples."""
    for value in graph.inputs:
        name, kind = value.name, value.type.WhichOneof("value")
        if kind in _KINDS:
            return ModelError(
                f"{path}: input {name} is {_KINDS[kind]}, expected one array for all samples: "
                "export the model without the part that reads it"
            )
        if name not in shapes:
            return ModelError(
                f"{path}: input {name} has no shape, expected its number of axes: export the "
                "model with its shapes"
            )
        if not shapes[name]:
            return ModelError(
                f"{path}: input {name} is one number for all samples, expected an axis of "
                "samples: fix it to a constant when exporting the model"
            )
    return ModelError(
        f"{path} has no inputs, expected at least one: was it exported with its samples as "
        "constants?"
    )


def no_layers(graph: Graph, path: Path) -> ModelError:
    """The error for a graph in which no layer with weights was found."""
    given = {value.name for value in graph.inputs}
    for node in graph.model.graph.node:
        title = f"node {graph.title(node)} ({node.op_type})"
        if node.op_type in _LEARNED and node.domain == "ai.onnx.ml":
            return ModelError(
                f"{path}: {title} is {_LEARNED[node.op_type]}, all that the model has learned, "
                "expected layers of a network (Gemm, MatMul, Conv, ...), whose inputs are tapped: "
                "use a network such as MLPClassifier"
            )
        fed = [name for name in node.input if name in given]
        if node.op_type in OPERATORS and len(node.input) > 1 and node.input[1] in fed:
            return ModelError(
                f"{path}: {title} takes its weights from input {node.input[1]}, expected constants "
                "in the file: export the model with its weights"
            )
    others = sorted({node.domain for node in graph.model.graph.node if _is_custom(node)})
    where = f", but operators of {', '.join(others)}," if others else ","
    return ModelError(
        f"{path} has no layer with weights (Gemm, MatMul, Conv, ...){where} expected at least one: "
        "is this the whole network?"
    )


def _is_custom(node: Any) -> bool:
    return node.domain not in ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


def no_taps(
    graph: Graph, path: Path, shapes: Mapping[str, Sequence[Size]], reads: Sequence[Read]
) -> ModelError:
    """The error for a graph whose layers read nothing that has a row for each sample."""
    read = [shapes.get(each.tensor) for each in reads]
    if any(shape and isinstance(shape[-1], int) for shape in read):
        name = graph.inputs[0].name
        sizes = ", ".join("?" if isinstance(s, str) else str(s) for s in shapes[name])
        return ModelError(
            f"{path}: input {name} has shape ({sizes}), but no layer with weights reads one row or "
            "map for each place along its first axis, expected an axis of samples there: export "
            "the model with one in front, open or of size 1"
        )
    return ModelError(
        f"{path}: no input of a layer with weights has a known width, expected at least one: "
        "export the model with fixed shapes (only the samples and tokens may vary)"
    )
