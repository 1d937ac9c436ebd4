"""Small ONNX models with random weights, built with onnx.helper."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class Net:
    """Collects nodes and constants, then becomes a checked model."""

    def __init__(self, *, seed: int = 0, opset: int = 17) -> None:
        self.random = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        scale = 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])
        return self.constant(name, (self.random.normal(size=shape) * scale).astype(np.float32))

    def vector(self, name: str, size: int, *, around: float = 0.0) -> str:
        values = around + 0.2 * np.abs(self.random.normal(size=size))
        return self.constant(name, values.astype(np.float32))

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        made = helper.make_node(operator, list(inputs), [output], name=f"/{output}", **attributes)
        self.nodes.append(made)
        return output

    def model(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        graph = helper.make_graph(self.nodes, "net", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        if any(node.domain == "com.microsoft" for node in self.nodes):
            opsets.append(helper.make_opsetid("com.microsoft", 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.checker.check_model(model)
        return model


def value(name: str, shape: Sequence[Any] | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def mlp(
    widths: Sequence[int] = (9, 16, 5, 3), *, seed: int = 0, opset: int = 17, batch: Any = "n",
    end: str | None = None, shift: float = 0.0,
) -> Any:  # fmt: skip
    """Gemm and Relu; ``end`` is the activation after the logits, ``shift`` is added first."""
    net = Net(seed=seed, opset=opset)
    tensor = "x"
    if shift:
        tensor = net.node("Add", ["x", net.constant("shift", np.float32(shift))], "shifted")
    for number, (n_in, n_out) in enumerate(pairwise(widths)):
        weight = net.weight(f"w{number}", n_in, n_out)
        last = number + 2 == len(widths)
        tensor = net.node("Gemm", [tensor, weight, net.vector(f"b{number}", n_out)], f"fc{number}")
        if not last:
            tensor = net.node("Relu", [tensor], f"relu{number}")
    if end is not None:
        tensor = net.node(end, [tensor], "activated", **({} if end == "Sigmoid" else {"axis": 1}))
    return net.model([value("x", [batch, widths[0]])], [value(tensor, [batch, widths[-1]])])


def cnn(
    *, seed: int = 0, opset: int = 17, size: Any = 14, batch: Any = "n",
    end: str | None = "Softmax", width: int = 8,
) -> Any:  # fmt: skip
    """Conv to ``width`` channels, batch norm, depthwise Conv, GlobalAveragePool, Gemm, Softmax."""
    net = Net(seed=seed, opset=opset)

    def conv(tensor: str, name: str, shape: Sequence[int], **attributes: Any) -> str:
        made = net.node(
            "Conv", [tensor, net.weight(f"{name}.w", *shape), net.vector(f"{name}.b", shape[0])],
            name, **attributes,
        )  # fmt: skip
        normal = [
            net.vector(f"{name}.{part}", shape[0], around=around)
            for part, around in (("gamma", 1), ("beta", 0), ("mean", 0), ("var", 1))
        ]
        made = net.node("BatchNormalization", [made, *normal], f"{name}.bn")
        return net.node("Relu", [made], f"{name}.relu")

    tensor = conv("x", "conv0", (width, 3, 3, 3), pads=[1, 1, 1, 1])
    tensor = conv(
        tensor, "depthwise", (width, 1, 3, 3), group=width, pads=[1, 1, 1, 1], strides=[2, 2]
    )
    tensor = conv(tensor, "conv1", (12, width, 1, 1))
    tensor = net.node("GlobalAveragePool", [tensor], "pooled")
    tensor = net.node("Flatten", [tensor], "flat")
    tensor = net.node("Gemm", [tensor, net.weight("w", 4, 12), net.vector("b", 4)], "fc", transB=1)
    if end:
        tensor = net.node(
            end, [tensor], "probabilities", **({} if end == "Sigmoid" else {"axis": 1})
        )
    return net.model([value("x", [batch, 3, size, size])], [value(tensor, [batch, 4])])


def transformer(
    *, seed: int = 0, opset: int = 17, batch: Any = "n", tokens: Any = "t", encoder: bool = False,
    folded: bool = False,
) -> Any:  # fmt: skip
    """Embeddings, one block of attention with a mask, a feed-forward part, and a head.

    ``encoder`` leaves the head out; ``folded`` runs the feed-forward part on (samples x tokens,
    width), as many exporters do.
    """
    width, vocabulary = 16, 30
    net = Net(seed=seed, opset=opset)
    words = net.weight("words", vocabulary, width)
    kinds = net.weight("kinds", 2, width)
    tensor = net.node(
        "Add",
        [
            net.node("Gather", [words, "input_ids"], "word"),
            net.node("Gather", [kinds, "token_type_ids"], "kind"),
        ],
        "embedded",
    )
    query, key, content = (
        net.node("MatMul", [tensor, net.weight(f"{name}.w", width, width)], name)
        for name in ("query", "key", "value")
    )
    turned = net.node("Transpose", [key], "key.turned", perm=[0, 2, 1])
    scores = net.node("MatMul", [query, turned], "scores")
    scores = net.node("Mul", [scores, net.constant("scale", np.float32(0.25))], "scaled")
    shown = net.node("Cast", ["attention_mask"], "mask.float", to=FLOAT)
    hidden = net.node("Sub", [net.constant("one", np.float32(1)), shown], "hidden")
    hidden = net.node("Mul", [hidden, net.constant("far", np.float32(-1e4))], "hidden.far")
    row = net.constant("row", np.array([0, 1, -1], np.int64))
    scores = net.node("Add", [scores, net.node("Reshape", [hidden, row], "hidden.row")], "masked")
    weights = net.node("Softmax", [scores], "weights", axis=2)
    mixed = net.node("MatMul", [weights, content], "mixed")
    mixed = net.node("MatMul", [mixed, net.weight("output.w", width, width)], "output")
    tensor = net.node("Add", [tensor, mixed], "attended")
    if folded:
        flat = net.constant("flat", np.array([-1, width], np.int64))
        shape = net.node("Shape", [tensor], "shape")
        tensor = net.node("Reshape", [tensor, flat], "rows")
    up = net.node("MatMul", [tensor, net.weight("up.w", width, 32)], "up")
    up = net.node("Relu", [up], "up.relu")
    down = net.node("MatMul", [up, net.weight("down.w", 32, width)], "down")
    tensor = net.node("Add", [tensor, down], "block")
    if folded:
        tensor = net.node("Reshape", [tensor, shape], "unfolded")
    ids = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [value(name, [batch, tokens], INT64) for name in ids]
    if encoder:
        return net.model(inputs, [value(tensor, [batch, tokens, width])])
    first = net.node("Gather", [tensor, net.constant("zero", np.int64(0))], "first", axis=1)
    tensor = net.node("MatMul", [first, net.weight("head.w", width, 3)], "head")
    tensor = net.node("Add", [tensor, net.vector("head.b", 3)], "logits")
    return net.model(inputs, [value("logits", [batch, 3])])


def texts(n_samples: int, n_tokens: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Token ids, a mask that hides some of the last tokens, and token types."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, n_tokens + 1, n_samples)
    mask = (np.arange(n_tokens) < lengths[:, None]).astype(np.int64)
    return {
        "input_ids": random.integers(1, 30, (n_samples, n_tokens)) * mask,
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, (n_samples, n_tokens)) * mask,
    }


def images(n_samples: int, size: int = 14, *, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(n_samples, 3, size, size)).astype(np.float32)


def save(model: Any, path: Path, *, external: bool = False) -> Path:
    """Write a model; ``external`` keeps its weights in another file."""
    if external:
        onnx.save(
            model, path, save_as_external_data=True, location=f"{path.stem}.data", size_threshold=0
        )
    else:
        onnx.save(model, path)
    return path


def quantized(path: Path, feeds: Sequence[dict[str, np.ndarray]], **options: Any) -> Path:
    """A static int8 copy with QuantizeLinear and DequantizeLinear, beside ``path``."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    out = path.with_name(f"{path.stem}.int8.onnx")
    kind = options.pop("quant_format", QuantFormat.QDQ)
    quantize_static(path, out, Reader(), quant_format=kind, **options)
    return out


def raw(path: Path, names: Sequence[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The values of inner tensors, by plain onnxruntime."""
    import onnxruntime

    model = onnx.load(path)
    given = {each.name for each in model.graph.input}
    del model.graph.output[:]
    asked = [name for name in names if name not in given]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in asked)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    made = dict(zip(asked, session.run(asked, feed), strict=True)) if asked else {}
    return [feed[name] if name in given else made[name] for name in names]
