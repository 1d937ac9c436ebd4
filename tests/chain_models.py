"""ONNX networks of convolutions, pooling and recurrent layers, one after the other, at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from onnx_models import Net, value

_ACTIVATIONS = ("Relu", "Relu", "Clip", "HardSwish", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid")


class Chain:
    """Nodes one after the other; ``tensor`` is what the next one reads."""

    def __init__(self, *, seed: int, opset: int = 17) -> None:
        self.net = Net(seed=seed, opset=opset)
        self.random = np.random.default_rng(seed + 1)
        self.tensor = "x"

    def whole(self, least: int, most: int) -> int:
        """A random number from ``least`` to ``most``."""
        return int(self.random.integers(least, most + 1))

    def then(self, operator: str, *constants: str, output: str = "", **attributes: Any) -> None:
        """One node further."""
        name = output or f"{operator.lower()}{len(self.net.nodes)}"
        self.tensor = self.net.node(operator, [self.tensor, *constants], name, **attributes)

    def norm(self, channels: int) -> None:
        """Batch norm."""
        name = f"bn{len(self.net.nodes)}"
        parts = (("gamma", 1), ("beta", 0), ("mean", 0), ("var", 1))
        arrays = [
            self.net.vector(f"{name}.{part}", channels, around=around) for part, around in parts
        ]
        self.then("BatchNormalization", *arrays, output=name)

    def conv(self, shape: Sequence[int], **attributes: Any) -> None:
        """A convolution with bias."""
        name = f"conv{len(self.net.nodes)}"
        weight = self.net.weight(f"{name}.w", *shape)
        bias = self.net.vector(f"{name}.b", shape[0])
        self.then("Conv", weight, bias, output=name, **attributes)

    def activation(self) -> None:
        """One of those that C has."""
        kind = _ACTIVATIONS[self.whole(0, len(_ACTIVATIONS) - 1)]
        constants = []
        if kind == "Clip":
            name = f"clip{len(self.net.nodes)}"
            bounds = zip(("min", "max"), (0.0, 6.0), strict=True)
            constants = [self.net.constant(f"{name}.{end}", np.float32(at)) for end, at in bounds]
        self.then(kind, *constants)

    def dense(self, n_in: int, n_out: int) -> None:
        """A fully connected layer."""
        name = f"fc{len(self.net.nodes)}"
        weight, bias = (
            self.net.weight(f"{name}.w", n_out, n_in),
            self.net.vector(f"{name}.b", n_out),
        )
        self.then("Gemm", weight, bias, output=name, transB=1)

    def model(self, shape: Sequence[int], n_outputs: int, *, batch: Any = "n") -> Any:
        """Samples of ``shape`` become ``n_outputs`` logits."""
        return self.net.model(
            [value("x", [batch, *shape])], [value(self.tensor, [batch, n_outputs])]
        )


def maps(*, seed: int = 0, axes: int = 2, batch: Any = "n") -> tuple[Any, tuple[int, ...]]:
    """A random network of maps with one or two ``axes`` of places, and the shape of a sample."""
    chain = Chain(seed=seed)
    whole = chain.whole
    channels, places = whole(1, 3), [whole(9, 14) for _ in range(axes)]
    shape = (channels, *places)
    if whole(0, 2) == 0:
        chain.norm(channels)
    for _ in range(whole(1, 3)):
        kernel = [min(whole(1, 3), size) for size in places]
        dilations = [whole(1, 2) if (many - 1) * 2 < size else 1
                     for many, size in zip(kernel, places, strict=True)]  # fmt: skip
        pads = [whole(0, 1) for _ in range(2 * axes)]
        strides = [whole(1, 2) for _ in places]
        outs, groups = [(8, 1), (channels, channels), (2 * channels, channels)][whole(0, 2)]
        chain.conv((outs, channels // groups, *kernel), group=groups, pads=pads, strides=strides,
                   dilations=dilations)  # fmt: skip
        places = [
            (size + before + behind - (many - 1) * apart - 1) // step + 1
            for size, before, behind, many, apart, step in zip(
                places, pads[:axes], pads[axes:], kernel, dilations, strides, strict=True
            )
        ]
        channels = outs
        if whole(0, 1):
            chain.norm(channels)
        chain.activation()
        if min(places) >= 3 and whole(0, 1):
            kind = ("MaxPool", "AveragePool")[whole(0, 1)]
            counts = {"count_include_pad": whole(0, 1)} if kind == "AveragePool" else {}
            chain.then(
                kind, kernel_shape=[2] * axes, strides=[2] * axes, pads=[1, 0] * axes, **counts
            )
            ends = list(zip(([1, 0] * axes)[:axes], ([1, 0] * axes)[axes:], strict=True))
            places = [
                (size + a + b - 2) // 2 + 1 for size, (a, b) in zip(places, ends, strict=True)
            ]
    end = whole(0, 3)
    if end < 2:
        chain.then(("GlobalAveragePool", "GlobalMaxPool")[end])
        places = [1] * axes
    elif end == 2:
        chain.then("ReduceMean", axes=list(range(2, 2 + axes)), keepdims=0)
        places = [1] * axes
    width = channels * int(np.prod(places))
    if end != 2:
        chain.then("Flatten")
    chain.dense(width, 6)
    chain.then("Relu")
    chain.dense(6, 4)
    return chain.model(shape, 4, batch=batch), shape


def sequences(
    *, seed: int = 0, kind: str = "GRU", last: str = "state", batch: Any = "n"
) -> tuple[Any, tuple[int, ...]]:
    """One or two recurrent layers as PyTorch exports them, and the shape of a sample.

    ``last`` is what the classes read: state (the layer's second output), gather, slice, step or
    rest (of the last step of the first), or mean (over all steps).
    """
    chain = Chain(seed=seed)
    net, whole = chain.net, chain.whole
    steps, width = whole(4, 9), whole(2, 6)
    shape, gates = (steps, width), 3 if kind == "GRU" else 4
    chain.then("Transpose", perm=[1, 0, 2])
    for number in range(whole(1, 2)):
        hidden, name = whole(3, 8), f"rnn{number}"
        arrays = [net.weight(f"{name}.w", 1, gates * hidden, width)]
        arrays.append(net.weight(f"{name}.r", 1, gates * hidden, hidden))
        bias = net.random.normal(size=(1, 2 * gates * hidden)) / 2
        arrays.append(net.constant(f"{name}.b", bias.astype(np.float32)))
        before = {"linear_before_reset": whole(0, 1)} if kind == "GRU" else {}
        attributes = {"hidden_size": hidden, **before}
        states = [f"{name}.h", *([f"{name}.c"] if kind == "LSTM" else [])]
        net.nodes.append(
            helper.make_node(kind, [chain.tensor, *arrays], [f"{name}.all", *states],
                             name=name, **attributes)
        )  # fmt: skip
        chain.tensor = net.node(
            "Squeeze", [f"{name}.all", net.constant(f"{name}.one", np.array([1]))], f"{name}.rows"
        )
        width = hidden
    if last == "state":
        chain.tensor = states[0]
        chain.then("Squeeze", net.constant("zero", np.array([0])))
    else:
        chain.then("Transpose", perm=[1, 0, 2])
    if last == "gather":
        chain.then("Gather", net.constant("end", np.array(-1)), axis=1)
    end = np.iinfo(np.int64).max
    ways = {"slice": (-1, end), "step": (steps - 1, steps), "rest": (steps - 1, end)}
    if last in ways:
        begin, end = ways[last]
        bounds = {"from": begin, "to": end, "of": 1}
        chain.then("Slice", *(net.constant(name, np.array([at])) for name, at in bounds.items()))
        chain.then("Squeeze", net.constant("of1", np.array([1])))
    if last == "mean":
        chain.then("ReduceMean", axes=[1], keepdims=0)
    chain.dense(width, 4)
    return chain.model(shape, 4, batch=batch), shape
