"""The ends of an ONNX graph: what stands between each output and its logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skip2lora.backbones import ends
from skip2lora.backbones.ends import End, Op, end_of
from skip2lora.backbones.onnx.graph import OPERATORS, Graph, infer
from skip2lora.errors import ModelError

#: Activations on integers, as com.microsoft has them, and the standard's.
ON_INTEGERS = {"QLinearSoftmax": "Softmax", "QLinearSigmoid": "Sigmoid"}
_LINEAR = "LinearClassifier"
_TRANSFORMS = {b"NONE": "Identity", b"SOFTMAX": "Softmax", b"LOGISTIC": "Sigmoid"}
#: What :func:`float_activations` rewrites.
REWRITTEN = frozenset({*ON_INTEGERS, _LINEAR})
_SAME = (
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Dropout", "ZipMap",
    "Normalizer", "LabelEncoder", "QuantizeLinear", "DequantizeLinear",
)  # fmt: skip
_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")
_NUMBERS = ("Softplus", "Exp")
#: What gives the label of each class, of a table.
TABLES = ("Gather", "ArrayFeatureExtractor")
_CLOSED = ("HardSigmoid", "Hardmax")
_ML_ONLY = (
    "LinearClassifier", "SVMClassifier", "SVMRegressor", "TreeEnsembleClassifier",
    "TreeEnsembleRegressor", "TreeEnsemble",
)  # fmt: skip
_FLOATS = (1, 10, 11, 16)  # float, float16, double, bfloat16, as TensorProto numbers types
_BOOL = 9
# What spreads the largest value or the sum of a softmax written out over its row again.
_SPREAD = ("Reshape", "Expand", "Squeeze", "Unsqueeze", "Identity", "Cast", "Max", "Where")


@dataclass(frozen=True)
class Head:
    """The end of a graph at one ``output``.

    ``logits`` is the tensor before the activations, itself where there are none.
    """

    output: str
    logits: str
    end: End

    def refuted(self) -> Head:
        """The same where the output was not what follows from its logits."""
        return replace(self, end=self.end.refuted())

    @property
    def trailing(self) -> tuple[Any, ...]:
        """The nodes from the logits to the output, in that order."""
        return self.end.nodes


def head_of(graph: Graph, output: str) -> Head:
    """What stands between ``output`` and its logits; the output itself where there is nothing."""
    rounding = graph.producer.get(output)
    if rounding is None or rounding.op_type != "QuantizeLinear":
        end = end_of(output, lambda tensor: op_of(graph, tensor))
        return Head(output, str(end.logits), end)
    end = end_of(str(rounding.input[0]), lambda tensor: op_of(graph, tensor))
    last = Op(ends.SAME, (end.logits,), nodes=(rounding,))  # the output has integers
    return Head(output, str(end.logits), replace(end, ops=(*end.ops, last), says=None))


def labels_of(graph: Graph, head: Head) -> tuple[str, ...]:
    """What a table on the way to an output calls each place of the logits; () without one."""
    for node in head.trailing:
        if node.op_type == "ZipMap":
            lists = {each.name: [*each.strings, *each.ints] for each in node.attribute}
            return tuple(map(_text, next(filter(None, lists.values()), [])))
        if node.op_type in TABLES and str(node.input[0]) in graph.constants:
            table = graph.array(str(node.input[0]))
            return () if table is None else tuple(map(_text, table.reshape(-1).tolist()))
    return ()


def _text(label: Any) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def op_of(graph: Graph, tensor: str) -> Op | None:
    """What makes a tensor, as :mod:`skip2lora.backbones.ends` takes it."""
    node = graph.producer.get(tensor)
    if node is None or not node.input or tensor in graph.constants:
        return None
    kind, title, nodes = str(node.op_type), f"{node.op_type} {node.name or node.output[0]}", (node,)
    data = tuple(str(name) for name in node.input if name and name not in graph.constants)
    if kind in _ML_ONLY or kind in _CLOSED:
        return Op(ends.CLOSED, data, title)
    if kind in OPERATORS and len(data) < sum(map(bool, node.input)):
        return Op(ends.LAYER, data, title)
    if kind in _SAME and (kind != "Normalizer" or _attribute(node, "norm") == b"L1"):
        return Op(ends.SAME, data[:1], title, None, nodes, rounds=kind == "QuantizeLinear")
    if kind in ("ArgMax", "TopK"):
        return Op(ends.LARGEST, data[:1], title, None, nodes)
    if kind in TABLES and str(node.input[0]) in graph.constants:
        return Op(ends.SAME, data[:1], title, None, nodes)  # the label of each place
    if of_one_number(graph, node):
        return Op(ends.SAME, data[:1], title, None, nodes)
    if kind == "Concat":
        return Op(ends.JOIN, data, title, None, nodes)
    return (
        _sigmoid(graph, node, title)
        or _function(graph, node, data, title)
        or _written_out(graph, node, title)
    )


def of_one_number(graph: Graph, node: Any) -> bool:
    """Whether it is a reduction over axes of one number alone, which gives that number."""
    if node.op_type not in _REDUCTIONS:
        return False
    axes = next((list(each.ints) for each in node.attribute if each.name == "axes"), None)
    if len(node.input) > 1:
        array = graph.array(str(node.input[1]))
        axes = None if array is None else array.reshape(-1).tolist()
    try:
        shape = infer(graph).get(str(node.input[0]), ())
    except ModelError:  # as is said when it is looked at
        return False
    return bool(axes) and all(
        -len(shape) <= axis < len(shape) and shape[axis] == 1 for axis in axes or ()
    )


def _function(graph: Graph, node: Any, data: tuple[str, ...], title: str) -> Op | None:
    """A function of each number, where all other operands are constants of one value."""
    kind, nodes = str(node.op_type), (node,)
    if kind in _NUMBERS and not _says_of(graph, data):
        return Op(ends.NUMBERS, data, title)
    each = Op(ends.OTHER, data, title, None, nodes)
    if function := ends.of_one(kind, each):
        return function
    if kind in ("Cast", "CastLike"):
        return _cast(graph, node, data, title)
    if len(data) != 1:
        return None
    if ends.takes_two(kind) and len(node.input) == 2:
        at = [str(name) for name in node.input].index(data[0])
        constant = _scalar(graph, str(node.input[1 - at]))
        if constant is None:
            return _moved(graph, data, title) if kind in ("Add", "Sub") else None
        return ends.of_two(kind, each, constant, at)
    if kind == "Clip":
        low, high = (_limit(graph, node, at, name) for at, name in ((1, "min"), (2, "max")))
        if low is None or high is None:
            return None
        return Op(ends.EACH, data, title, lambda values: np.clip(values, low, high), nodes)
    if kind == "Binarizer":
        threshold = float(_attribute(node, "threshold") or 0.0)
        return Op(ends.EACH, data, title, lambda values: values > threshold, nodes)
    if kind == "Where" and str(node.input[0]) == data[0]:
        yes, no = (_scalar(graph, str(name)) for name in node.input[1:3])
        if yes is not None and no is not None:
            return Op(ends.EACH, data, title, lambda values: np.where(values, yes, no), nodes)
    if kind == "BatchNormalization":
        return _moved(graph, data, title)
    return None


def _says_of(graph: Graph, data: tuple[str, ...]) -> bool:
    """Whether what is exponentiated is a logarithm, as that of a softmax."""
    maker = graph.producer.get(data[0]) if data else None
    return maker is not None and maker.op_type in ("LogSoftmax", "Log", "Sub", "Mul", "Div")


def _moved(graph: Graph, data: tuple[str, ...], title: str) -> Op | None:
    """A constant for each output, as the bias of a layer: a part of it."""
    before = op_of(graph, data[0])
    if before is not None and before.kind == ends.LAYER:
        return Op(ends.LAYER, data, title)
    return None


def _cast(graph: Graph, node: Any, data: tuple[str, ...], title: str) -> Op:
    to = _attribute(node, "to")
    if node.op_type == "CastLike":
        to = graph.types.get(str(node.input[1]))
    given = graph.types.get(data[0])
    return ends.cast(
        Op(ends.OTHER, data[:1], title, None, (node,)),
        to_truth=to == _BOOL, to_whole=to not in _FLOATS and given in _FLOATS,
    )  # fmt: skip


def _limit(graph: Graph, node: Any, at: int, name: str) -> float | None:
    """A limit of Clip: an input, an attribute in old opsets, or none at all."""
    if len(node.input) > at and node.input[at]:
        return _scalar(graph, str(node.input[at]))
    given = _attribute(node, name)
    if given is not None:
        return float(given)
    return -np.inf if name == "min" else np.inf


def _attribute(node: Any, name: str) -> Any:
    for each in node.attribute:
        if each.name == name:
            return {1: each.f, 2: each.i, 3: each.s}.get(each.type)
    return None


def _scalar(graph: Graph, name: str) -> float | None:
    """A constant of one value, however it is cast and shaped."""
    for _ in range(ends.MOST_STEPS):
        array = graph.array(name)
        if array is not None:
            same = array.size > 0 and array.dtype.kind in "fiub" and np.ptp(array * 1.0) == 0
            return float(array.reshape(-1)[0]) if same else None
        node = graph.producer.get(name)
        if (
            node is None
            or node.op_type not in (*_SPREAD, "CastLike")
            or name not in graph.constants
        ):
            return None
        name = str(node.input[0])
    return None


def _sigmoid(graph: Graph, node: Any, title: str) -> Op | None:
    """A sigmoid as skl2onnx writes it, 1 / (1 + exp(-z)), node by node."""
    below, nodes = str(node.input[-1]), [node]
    divides = node.op_type == "Div" and _scalar(graph, str(node.input[0])) == 1
    if node.op_type != "Reciprocal" and not divides:
        return None
    for kinds, constant in ((("Add",), 1.0), (("Exp",), None)):
        each = graph.producer.get(below)
        if each is None or each.op_type not in kinds:
            return None
        values = {str(name): _scalar(graph, str(name)) for name in each.input}
        data = [name for name, value in values.items() if value is None]
        if len(data) != 1 or len(values) < len(each.input):
            return None
        if set(values.values()) - {None, constant}:
            return None
        below, nodes = data[0], [each, *nodes]
    return Op(ends.SIGMOID, (below,), title, lambda values: 1 - values, tuple(nodes))


def _written_out(graph: Graph, node: Any, title: str) -> Op:
    """A softmax as other frameworks write it, else any operator.

    exp(z - max(z)) / sum(exp(z - max(z))), node by node. A product with the reciprocal of the sum
    is one as well; the largest value need not be there.
    """
    data = tuple(str(name) for name in node.input if name and name not in graph.constants)
    other = Op(ends.OTHER, data, title)
    if node.op_type not in ("Div", "Mul") or len(node.input) != 2:
        return other
    power, spread = str(node.input[0]), str(node.input[1])
    exponential = graph.producer.get(power)
    if node.op_type == "Mul" and (exponential is None or exponential.op_type != "Exp"):
        power, spread = spread, power
        exponential = graph.producer.get(power)
    if exponential is None or exponential.op_type != "Exp":
        return other
    below = _spread_of(graph, spread, "ReduceSum", power, turned=node.op_type == "Mul")
    if below is None:
        return other
    logits, nodes = str(exponential.input[0]), [exponential, *below, node]
    shifted = graph.producer.get(logits)
    if shifted is not None and shifted.op_type == "Sub":
        before = _spread_of(graph, str(shifted.input[1]), "ReduceMax", str(shifted.input[0]))
        if before is not None:
            logits, nodes = str(shifted.input[0]), [*before, shifted, *nodes]
    return Op(ends.SOFTMAX, (logits,), title, None, tuple(nodes))


def _spread_of(
    graph: Graph, tensor: str, kind: str, source: str, *, turned: bool = False
) -> list[Any] | None:
    """The nodes from ``source``, reduced by ``kind``, to ``tensor``; None where it is not that.

    ``turned`` asks for a Reciprocal on the way, as of the sum that a product divides by.
    """
    nodes: list[Any] = []
    reciprocals = 0
    for _ in range(ends.MOST_STEPS):
        node = graph.producer.get(tensor)
        if node is None:
            return None
        nodes.append(node)
        if node.op_type == kind:
            fits = str(node.input[0]) == source and reciprocals == turned
            return nodes[::-1] if fits else None
        reciprocals += node.op_type == "Reciprocal"
        if node.op_type not in _SPREAD and not (turned and node.op_type == "Reciprocal"):
            return None
        read = node.input[1:] if node.op_type == "Where" else node.input
        data = [str(name) for name in read if name and name not in graph.constants]
        # A shape that is computed is the second input; of Max and Where all but one are constant.
        if not data or (node.op_type in ("Max", "Where") and len(data) > 1):
            return None
        tensor = data[0]
    return None


def float_activations(graph: Graph) -> Graph:
    """Make activations on integers, at the end of a graph, the standard's between two roundings.

    So the logits before them are numbers that adapters can be added to; and a LinearClassifier is
    written out. The same graph where there are none.
    """
    model, activations = graph.model, {}
    for value in model.graph.output:
        tensor = value.name
        for _ in range(ends.MOST_STEPS):
            node, step = graph.producer.get(tensor), op_of(graph, tensor)
            if node is not None and node.op_type in ON_INTEGERS:
                activations[str(node.output[0])] = node  # several outputs may share one
                break
            if step is None or not step.nodes:
                break
            tensor = step.inputs[0]
    for node in activations.values():
        _make_float(graph.onnx, model, node)
    linear = [node for node in model.graph.node if node.op_type == _LINEAR]
    rewritten = [_write_out(graph.onnx, model, node) for node in linear]
    return Graph(model) if activations or any(rewritten) else graph


def _write_out(onnx: Any, model: Any, node: Any) -> bool:
    """Make a LinearClassifier a layer with activation and labels, if it is of the usual kind."""
    of = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    labels = of.get("classlabels_ints") or of.get("classlabels_strings") or []
    behind = _TRANSFORMS.get(of.get("post_transform", b"NONE"))
    weights, bias = of.get("coefficients", []), of.get("intercepts", [])
    if len(labels) < 2 or behind is None or len(bias) != len(labels) or len(node.output) != 2:
        return False
    if len(weights) % len(labels):
        return False
    matrix = np.array(weights, np.float32).reshape(len(labels), -1)
    offset = np.array(bias, np.float32)
    opposed = not (matrix[:1] + matrix[1:]).any() and not (offset[:1] + offset[1:]).any()
    if behind == "Sigmoid" and len(labels) == 2 and opposed:  # 1 - p beside p
        half = np.float32(0.5)
        matrix, offset, behind = half * matrix, half * offset, "Softmax"
    names = np.array(labels, object if isinstance(labels[0], bytes) else np.int64)
    name, (label, scores) = str(node.name or node.output[1]), map(str, node.output)
    for part, values in (("w", matrix), ("b", offset), ("labels", names)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, f"{scores}.{part}"))
    make, place = onnx.helper.make_node, f"{scores}.place"
    logits = scores if behind == "Identity" else f"{scores}.logits"
    parts = [f"{scores}.w", f"{scores}.b"]
    new = [make("Gemm", [node.input[0], *parts], [logits], name, transB=1)]
    if logits != scores:
        new.append(make(behind, [logits], [scores], f"{name}.{behind}"))
    new.append(make("ArgMax", [logits], [place], f"{name}.place", axis=1, keepdims=0))
    new.append(make("Gather", [f"{scores}.labels", place], [label], f"{name}.label"))
    nodes = list(model.graph.node)
    at = next(number for number, each in enumerate(nodes) if node.output[1] in each.output)
    nodes[at : at + 1] = new
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return True


def _make_float(onnx: Any, model: Any, node: Any) -> None:
    # The last one may be left out.
    data, scale, zero, out_scale, out_zero = (*node.input, "")[:5]
    name, result = str(node.name or node.output[0]), str(node.output[0])
    axes = [each for each in node.attribute if each.name == "axis"]
    kind = ON_INTEGERS[node.op_type]
    make = onnx.helper.make_node
    real, active = f"{result}.real", f"{result}.active"
    new = [
        make("DequantizeLinear", [data, scale, *([zero] if zero else [])], [real], f"{name}.real"),
        make(kind, [real], [active], name),
        make("QuantizeLinear", [active, out_scale, *([out_zero] if out_zero else [])], [result]),
    ]
    new[1].attribute.extend(axes)
    at = [each.output[0] if each.output else "" for each in model.graph.node].index(result)
    nodes = list(model.graph.node)
    nodes[at : at + 1] = new
    del model.graph.node[:]
    model.graph.node.extend(nodes)
