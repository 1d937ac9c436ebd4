"""Blocks of random ONNX graphs over tokens, as exporters write them.

Tokens lie in one of four ways, by the axes of samples (n), time (t) and features (f): "ntf", "tnf",
and folded into two axes, "nt-f" and "tn-f".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_models import Net

_ACTIVATIONS = ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "HardSigmoid", "Softplus", "Erf")


@dataclass
class Tokens:
    """A tensor of ``count`` tokens a sample, ``width`` features each."""

    tensor: str
    layout: str
    count: int
    width: int


@dataclass
class Sketch:
    """Draws one graph, block by block. ``baked`` puts a batch of one into its constants."""

    random: np.random.Generator
    net: Net
    baked: bool = False
    names: int = 0

    def name(self, word: str) -> str:
        self.names += 1
        return f"{word}{self.names}"

    def pick(self, *of: Any) -> Any:
        return of[self.random.integers(len(of))]

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def node(self, operator: str, inputs: Sequence[str], word: str = "", **attributes: Any) -> str:
        name = self.name(word or operator.lower())
        return self.net.node(operator, inputs, name, **attributes)

    def weight(self, *shape: int) -> str:
        return self.net.weight(self.name("w"), *shape)

    def vector(self, size: int, around: float = 0.0) -> str:
        return self.net.vector(self.name("v"), size, around=around)

    def ints(self, *values: int) -> str:
        return self.net.constant(self.name("i"), np.array(values, np.int64))

    def number(self, scalar: float) -> str:
        return self.net.constant(self.name("c"), np.float32(scalar))

    @property
    def open(self) -> int:
        """What a shape says where samples are: any number, or the one that was baked in."""
        return 1 if self.baked else -1

    def reshape(self, tensor: str, *shape: int) -> str:
        """To a shape with one open size, at times computed as exporters do."""
        at = shape.index(-1) if -1 in shape else None
        if at is None or self.baked or self.chance(0.7):
            return self.node("Reshape", [tensor, self.ints(*shape)])
        parts = [self.ints(*shape[:at])] if at else []
        parts += [self.node("Reshape", [self.ints(-1), self.ints(1)]), self.ints(*shape[at + 1 :])]
        return self.node("Reshape", [tensor, self.node("Concat", parts, axis=0)])

    def turn(self, tensor: str, *perm: int) -> str:
        return self.node("Transpose", [tensor], perm=list(perm))

    # --- tokens -----------------------------------------------------------------------------

    def lie(self, x: Tokens, layout: str) -> Tokens:
        """The tokens in another layout."""
        tensor, now = x.tensor, x.layout
        if now == layout:
            return x
        if now == "nt-f":
            tensor, now = self.reshape(tensor, self.open, x.count, x.width), "ntf"
        elif now == "tn-f":
            tensor, now = self.reshape(tensor, x.count, self.open, x.width), "tnf"
        if now[:2] != layout[:2]:
            tensor, now = self.turn(tensor, 1, 0, 2), now[1] + now[0] + "f"
        if "-" in layout:
            tensor = self.reshape(tensor, x.count if self.baked else -1, x.width)
        return Tokens(tensor, layout, x.count, x.width)

    def linear(self, tensor: str, width: int, out: int, *, flat: bool) -> str:
        """A layer with weights over the last axis."""
        kind = self.random.random()
        if flat and kind < 0.5:
            return self.node("Gemm", [tensor, self.weight(width, out), self.vector(out)])
        if not flat and kind < 0.15:
            return self.node("Einsum", [tensor, self.weight(width, out)], equation="abf,fg->abg")
        product = self.node("MatMul", [tensor, self.weight(width, out)])
        return product if kind > 0.85 else self.node("Add", [product, self.vector(out)])

    def activation(self, tensor: str) -> str:
        return self.node(self.pick(*_ACTIVATIONS), [tensor])

    def layer(self, x: Tokens, out: int) -> Tokens:
        tensor = self.linear(x.tensor, x.width, out, flat="-" in x.layout)
        return Tokens(tensor, x.layout, x.count, out)

    def mean(self, tensor: str, *axes: int, keepdims: int = 0) -> str:
        """Opset 18 made axes an input."""
        if self.net.opset < 18:
            return self.node("ReduceMean", [tensor], axes=list(axes), keepdims=keepdims)
        return self.node("ReduceMean", [tensor, self.ints(*axes)], keepdims=keepdims)

    def norm(self, x: Tokens) -> Tokens:
        """Of each token, as one node or written out."""
        gamma, beta = self.vector(x.width, 1), self.vector(x.width)
        if self.chance(0.6):
            tensor = self.node("LayerNormalization", [x.tensor, gamma, beta], axis=-1)
        else:
            off = self.node("Sub", [x.tensor, self.mean(x.tensor, -1, keepdims=1)])
            square = self.mean(self.node("Mul", [off, off]), -1, keepdims=1)
            root = self.node("Sqrt", [self.node("Add", [square, self.number(1e-5)])])
            tensor = self.node("Mul", [self.node("Div", [off, root]), gamma])
            tensor = self.node("Add", [tensor, beta])
        return Tokens(tensor, x.layout, x.count, x.width)

    def forward(self, x: Tokens) -> Tokens:
        """A feed-forward part, in any layout."""
        x = self.lie(x, self.pick("ntf", "tnf", "nt-f", "tn-f"))
        inner = self.layer(x, self.pick(4, 6, 10))
        inner.tensor = self.activation(inner.tensor)
        return self.layer(inner, x.width) if self.chance(0.7) else inner

    def heads(self, x: Tokens, kind: str, n_heads: int) -> str:
        """Query, key or value with its heads; those folded into samples are first or last."""
        depth = x.width // n_heads
        if kind == "axes":
            x = self.lie(x, "ntf")
            split = self.reshape(x.tensor, self.open, x.count, n_heads, depth)
            return self.turn(split, 0, 2, 1, 3)
        if kind == "inner":
            x = self.lie(x, "tnf")
            split = self.reshape(x.tensor, x.count, n_heads if self.baked else -1, depth)
            return self.turn(split, 1, 0, 2)
        x = self.lie(x, "ntf")
        split = self.turn(self.reshape(x.tensor, self.open, x.count, n_heads, depth), 2, 0, 1, 3)
        return self.reshape(split, n_heads if self.baked else -1, x.count, depth)

    def joined(self, tensor: str, kind: str, n_heads: int, count: int, width: int) -> Tokens:
        """The reverse of :meth:`heads`."""
        depth = width // n_heads
        if kind == "axes":
            tensor = self.reshape(self.turn(tensor, 0, 2, 1, 3), self.open, count, width)
            return Tokens(tensor, "ntf", count, width)
        if kind == "inner":
            tensor = self.turn(tensor, 1, 0, 2)
            if self.chance(0.6):
                folded = self.reshape(tensor, count if self.baked else -1, width)
                return Tokens(folded, "tn-f", count, width)
            return Tokens(self.reshape(tensor, count, self.open, width), "tnf", count, width)
        tensor = self.turn(self.reshape(tensor, n_heads, self.open, count, depth), 1, 2, 0, 3)
        return Tokens(self.reshape(tensor, self.open, count, width), "ntf", count, width)

    def attention(self, x: Tokens) -> Tokens:
        """Of several heads, as axes or folded into the samples; at times a layer a head."""
        kind = self.pick("axes", "inner", "outer")
        n_heads = 1 if x.width % 2 else self.pick(1, 2)
        x = self.lie(x, self.pick("ntf", "tnf", "tn-f", "nt-f"))
        query, key, content = (self.heads(self.layer(x, x.width), kind, n_heads) for _ in range(3))
        turned = self.turn(key, 0, 1, 3, 2) if kind == "axes" else self.turn(key, 0, 2, 1)
        scores = self.node("Mul", [self.node("MatMul", [query, turned]), self.number(0.5)])
        shares = self.node("Softmax", [scores], axis=-1)
        mixed = self.node("MatMul", [shares, content])
        if kind != "axes" and self.chance(0.3):
            depth = x.width // n_heads
            mixed = self.linear(mixed, depth, depth, flat=False)
        return self.layer(self.joined(mixed, kind, n_heads, x.count, x.width), x.width)

    def recurrence(self, tensor: str, width: int, size: int, both: bool) -> tuple[str, str]:
        """Y and Y_h of a recurrent layer over (time, samples, width)."""
        operator, gates = self.pick(("LSTM", 4), ("GRU", 3), ("RNN", 1))
        sides = 2 if both else 1
        inputs = [tensor, self.weight(sides, gates * size, width)]
        inputs.append(self.weight(sides, gates * size, size))
        if self.chance(0.5):
            inputs.append(self.weight(sides, 2 * gates * size))
        names = [self.name("all"), self.name("last")]
        made = self.net.node(
            operator, inputs, names[0], hidden_size=size,
            direction="bidirectional" if both else self.pick("forward", "reverse"),
        )  # fmt: skip
        self.net.nodes[-1].output.append(names[1])
        return made, names[1]

    def recurrent(self, x: Tokens) -> Tokens:
        """Over all tokens, or over windows of them that are folded into the samples."""
        size, both = self.pick(3, 4), self.chance(0.4)
        if x.count % 2 == 0 and x.count > 2 and self.chance(0.5):
            x = self.lie(x, "ntf")
            tensor = self.reshape(x.tensor, 2 if self.baked else -1, x.count // 2, x.width)
            _, last = self.recurrence(self.turn(tensor, 1, 0, 2), x.width, size, False)
            last = self.node("Squeeze", [last, self.ints(0)])
            if self.chance(0.5):
                last, size = self.linear(last, size, 4, flat=True), 4
            return Tokens(self.reshape(last, self.open, 2, size), "ntf", 2, size)
        x = self.lie(x, "tnf")
        made, _ = self.recurrence(x.tensor, x.width, size, both)
        if both:
            made = self.reshape(self.turn(made, 0, 2, 1, 3), x.count, self.open, 2 * size)
            return Tokens(made, "tnf", x.count, 2 * size)
        return Tokens(self.node("Squeeze", [made, self.ints(1)]), "tnf", x.count, size)

    def convolved(self, x: Tokens) -> Tokens:
        """Along time, with the features as channels; at times pooled."""
        x, out = self.lie(x, "ntf"), self.pick(4, 6)
        tensor = self.turn(x.tensor, 0, 2, 1)
        tensor = self.node("Conv", [tensor, self.weight(out, x.width, 3)], pads=[1, 1])
        count = x.count
        if count % 2 == 0 and count > 2 and self.chance(0.5):
            operator = self.pick("MaxPool", "AveragePool")
            tensor, count = self.node(operator, [tensor], kernel_shape=[2], strides=[2]), count // 2
        return Tokens(self.turn(tensor, 0, 2, 1), "ntf", count, out)

    def with_first(self, x: Tokens) -> Tokens:
        """One more token before the others, the same for all samples."""
        x = self.lie(x, "ntf")
        if self.chance(0.5):
            some = self.node("Slice", [x.tensor, self.ints(0), self.ints(1), self.ints(1)])
            nothing = self.node("Mul", [some, self.number(0)])
            first = self.node("Add", [nothing, self.weight(1, x.width)])
        else:
            samples = self.node("Gather", [self.node("Shape", [x.tensor]), self.ints(0)], axis=0)
            shape = self.node("Concat", [samples, self.ints(1, x.width)], axis=0)
            first = self.node("Expand", [self.weight(1, 1, x.width), shape])
        joined = self.node("Concat", [first, x.tensor], axis=1)
        return Tokens(joined, "ntf", x.count + 1, x.width)

    def tokens(self, x: Tokens) -> Tokens:
        """A few blocks."""
        blocks: list[Callable[[Tokens], Tokens]] = [
            self.forward, self.forward, self.attention, self.attention, self.recurrent,
            self.convolved, self.norm, self.with_first,
        ]  # fmt: skip
        for _ in range(self.random.integers(1, 4)):
            before, x = x, self.pick(*blocks)(self.norm(x) if self.chance(0.3) else x)
            if (before.count, before.width) == (x.count, x.width) and self.chance(0.6):
                before = self.lie(before, x.layout)
                x.tensor = self.node("Add", [x.tensor, before.tensor], "residual")
            if self.chance(0.3):
                x.tensor = self.activation(x.tensor)
        return x

    def of_tokens(self, x: Tokens) -> tuple[str, int]:
        """From tokens to a row."""
        kind = self.pick("mean", "first", "flat", "last", "recurrent")
        if kind == "recurrent":
            x = self.lie(x, "tnf")
            _, last = self.recurrence(x.tensor, x.width, 5, False)
            return self.node("Squeeze", [last, self.ints(0)]), 5
        x = self.lie(x, self.pick("ntf", "tnf") if kind != "flat" else "ntf")
        axis = x.layout.index("t")
        if kind == "mean":
            return self.mean(x.tensor, axis), x.width
        if kind == "flat":
            return self.reshape(x.tensor, self.open, x.count * x.width), x.count * x.width
        place = self.net.constant(self.name("i"), np.int64(0 if kind == "first" else -1))
        return self.node("Gather", [x.tensor, place], axis=axis), x.width
