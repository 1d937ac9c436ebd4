"""Small models of OpenVINO with random weights, built operator by operator."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino is not installed (extra openvino)", allow_module_level=True)

from skip2lora.backbones.openvino.runtime import core, openvino

op = openvino.opset13
LEVELS = 255  # of weights in 8 bits


class Net:
    """Makes operators whose outputs have names; ``model`` ends it."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.inputs: list[Any] = []

    def input(self, name: str, shape: Sequence[int], kind: Any = np.float32) -> Any:
        """An input; -1 in ``shape`` is a size that is open."""
        node = op.parameter(list(shape), kind, name=name)
        self.inputs.append(node)
        return named(node, name)

    def weight(self, *shape: int, quantised: bool = False) -> Any:
        values = self.random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        node = constant(values)
        if quantised:
            limit = np.abs(values).max()
            node = quantise(node, -limit, limit, LEVELS)
        return node

    def dense(self, x: Any, n_in: int, n_out: int, name: str, *, quantised: bool = False) -> Any:
        weight = self.weight(n_in, n_out, quantised=quantised)
        bias = constant(self.random.normal(size=(1, n_out)) / 4)
        return named(op.add(op.matmul(x, weight, False, False, name=name), bias), name)

    def conv(
        self, x: Any, n_in: int, n_out: int, size: int, name: str, *, stride: int = 1,
        groups: int = 1, quantised: bool = False, pad: int | None = None,
    ) -> Any:  # fmt: skip
        steps, pads = [stride] * 2, [size // 2 if pad is None else pad] * 2
        if groups == 1:
            weight = self.weight(n_out, n_in, size, size, quantised=quantised)
            node = op.convolution(x, weight, steps, pads, pads, [1, 1], name=name)
        else:
            weight = self.weight(groups, n_out // groups, n_in // groups, size, size)
            node = op.group_convolution(x, weight, steps, pads, pads, [1, 1], name=name)
        return named(op.add(node, constant(self.random.normal(size=(1, n_out, 1, 1)) / 4)), name)

    def model(self, *outputs: Any) -> Any:
        return openvino.Model([op.result(node) for node in outputs], self.inputs, "net")


def constant(values: Any) -> Any:
    return op.constant(np.asarray(values, np.float32))


def whole(values: Any) -> Any:
    return op.constant(np.asarray(values, np.int64))


def named(node: Any, name: str) -> Any:
    node.output(0).set_names({name})
    return node


def quantise(node: Any, low: float, high: float, levels: int = 256) -> Any:
    """Rounded to so many levels, as a quantised model has it."""
    ends = [constant(low), constant(high)]
    return op.fake_quantize(node, *ends, *ends, levels)


def end_with(node: Any, end: str | None) -> Any:
    if end is None:
        return node
    if end == "ArgMax":
        best = op.topk(node, whole(1), 1, "max", "value")
        return op.squeeze(best.output(1), whole(1))
    made = {"Softmax": lambda: op.softmax(node, 1), "Sigmoid": lambda: op.sigmoid(node)}[end]()
    return named(made, "probabilities")


def mlp(
    widths: Sequence[int] = (9, 16, 5, 3), *, seed: int = 0, batch: int = -1, shift: float = 0.0,
    end: str | None = None, quantised: bool = False,
) -> Any:  # fmt: skip
    """Fully connected layers and ReLU behind a shift."""
    net = Net(seed)
    x = net.input("x", [batch, widths[0]])
    if shift:
        x = named(op.add(x, constant(shift)), "shifted")
    for number, (n_in, n_out) in enumerate(pairwise(widths)):
        if quantised:
            x = quantise(x, -6, 6)
        x = net.dense(x, n_in, n_out, f"fc{number}", quantised=quantised)
        if number + 2 < len(widths):
            x = named(op.relu(x), f"relu{number}")
    return net.model(end_with(x, end))


def cnn(*, seed: int = 0, batch: int = -1, size: int = 14, end: str | None = "Softmax") -> Any:
    """Convolutions, one of them behind a Pad and one by channel, an average, a dense layer."""
    net = Net(seed)
    x = net.input("x", [batch, 3, size, size])
    edge = whole([0, 0, 1, 1])
    padded = named(op.pad(x, edge, edge, "constant"), "padded")
    h = named(op.relu(net.conv(padded, 3, 8, 3, "conv0", pad=0)), "relu0")
    h = named(op.relu(net.conv(h, 8, 8, 3, "depthwise", stride=2, groups=8)), "relu1")
    h = named(op.relu(net.conv(h, 8, 12, 1, "conv1")), "relu2")
    h = named(op.reduce_mean(h, whole([2, 3]), False), "pooled")
    return net.model(end_with(net.dense(h, 12, 4, "fc"), end))


def residual(*, seed: int = 0, quantised: bool = True) -> Any:
    """Quantised blocks with a way round them.

    With OpenVINO's fusion of integers its answers move by 2 % of the largest logit where the
    inputs of its layers are read.
    """
    net = Net(seed)

    def rounded(node: Any, low: float, high: float) -> Any:
        return quantise(node, low, high) if quantised else node

    x = net.input("x", [-1, 3, 8, 8])
    h = net.conv(rounded(x, -2.5, 2.5), 3, 16, 3, "stem", quantised=quantised)
    h = rounded(h, -3.1, 3.2)
    for number in range(2):
        inner = op.clamp(net.conv(h, 16, 32, 1, f"expand{number}", quantised=quantised), 0, 6)
        inner = net.conv(rounded(inner, 0, 6), 32, 16, 1, f"project{number}", quantised=quantised)
        h = rounded(named(op.add(rounded(inner, -5.3, 4.9), h), f"sum{number}"), -6.1, 6.5)
    h = named(op.reduce_mean(h, whole([2, 3]), False), "pooled")
    return net.model(net.dense(rounded(h, -3, 3), 16, 5, "fc", quantised=quantised))


def texts(*, seed: int = 0, batch: int = -1, tokens: int = -1, head: bool = True) -> Any:
    """Embedded tokens, a layer on each, their mean by a mask, and a head."""
    net = Net(seed)
    ids = net.input("input_ids", [batch, tokens], np.int64)
    mask = net.input("attention_mask", [batch, tokens], np.int64)
    table = constant(net.random.normal(size=(30, 12)))
    x = named(op.gather(table, ids, whole(0)), "embedded")
    x = named(op.relu(net.dense(x, 12, 16, "up")), "hidden")
    x = net.dense(x, 16, 12, "down")
    if not head:
        return net.model(x)
    counted = op.unsqueeze(op.convert(mask, "f32"), whole(2))
    total = op.maximum(op.reduce_sum(counted, whole([1]), False), constant(1))
    mean = op.divide(op.reduce_sum(op.multiply(x, counted), whole([1]), False), total)
    return net.model(net.dense(named(mean, "mean"), 12, 3, "fc"))


def feed_of_texts(n_samples: int, n_tokens: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, n_tokens + 1, n_samples)
    mask = (np.arange(n_tokens) < lengths[:, None]).astype(np.int64)
    return {"input_ids": random.integers(1, 30, mask.shape) * mask, "attention_mask": mask}


def save(model: Any, path: Path) -> Path:
    """Write ``model`` as it is: by default OpenVINO makes its weights 16 bits."""
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def converted(onnx_path: Path) -> Path:
    """The .onnx as an .xml beside it."""
    return save(core().read_model(onnx_path), onnx_path.with_suffix(".xml"))


def answers(model: Any, *arrays: np.ndarray) -> list[np.ndarray]:
    """What plain OpenVINO gives, in floats of 32 bits and without its fusion of integers."""
    options = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": False}
    compiled = core().compile_model(model, "CPU", options)
    made = compiled(list(arrays))
    return [np.array(made[number]) for number in range(len(made))]


def loader(folder: Path) -> Callable[..., Any]:
    """load(model, **options): the backbone of a file with that model."""
    import skip2lora as s2

    def load(model: Any, **options: Any) -> Any:
        path = save(model, folder / "model.xml")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* is quantised")
            return s2.load(path, **options)

    return load
