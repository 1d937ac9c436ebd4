"""Random ONNX graphs of the kinds that exporters write, each from its seed.

Tables, tokens, maps and sequences of maps; residual sums, branches, several outputs; layers that
mix the samples of a batch, for which a graph is to be refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.random_tokens import Sketch, Tokens
from onnx_models import INT64, Net, value

N_SAMPLES = 5
KINDS = ("table", "tokens", "tokens", "words", "map", "map", "sequence of maps")


@dataclass
class Drawn:
    """A model, samples for its inputs, and what is known of it.

    ``outputs`` says what stands at each: "logits", "end" (their activation, ``end``), "label", or
    "other" than the classes. ``mixing`` are the nodes, if any, by which the logits of a sample
    depend on those beside it. ``batch`` is the number of samples the model was fixed to, ``axis``
    that of the samples; ``baked`` says that constants inside hold a batch of one.
    """

    model: Any
    feed: dict[str, np.ndarray]
    outputs: dict[str, str]
    end: str | None
    mixing: tuple[str, ...]
    batch: int | None
    axis: int
    baked: bool


@dataclass
class Map:
    tensor: str
    channels: int
    height: int
    width: int


class Pictures(Sketch):
    """Blocks over maps, channels first."""

    def conv(self, x: Map) -> Map:
        out, size, stride = self.pick(3, 4, 6, 8), self.pick(1, 3), 1
        group = 2 if x.channels % 2 == out % 2 == 0 and self.chance(0.3) else 1
        if out == x.channels and self.chance(0.3):
            group = out
        if min(x.height, x.width) > 3 and self.chance(0.3):
            stride = 2
        inputs = [x.tensor, self.weight(out, x.channels // group, size, size)]
        if self.chance(0.6):
            inputs.append(self.vector(out))
        made = self.node("Conv", inputs, group=group, pads=[size // 2] * 4, strides=[stride] * 2)
        return Map(made, out, -(-x.height // stride), -(-x.width // stride))

    def normal(self, x: Map) -> Map:
        kind, channels = self.pick("batch", "instance", "plain", "group", "last"), x.channels
        gamma, beta = self.vector(channels, 1), self.vector(channels)
        if kind == "batch":
            inputs = [x.tensor, gamma, beta, self.vector(channels), self.vector(channels, 1)]
            made = self.node("BatchNormalization", inputs)
        elif kind == "instance":
            made = self.node("InstanceNormalization", [x.tensor, gamma, beta])
        elif kind == "plain":  # as nn.InstanceNorm2d is by default: an average is rounding alone
            parts = [np.ones(channels, np.float32), np.zeros(channels, np.float32)]
            names = [self.net.constant(self.name("c"), part) for part in parts]
            made = self.node("InstanceNormalization", [x.tensor, *names])
        elif kind == "last":
            made = self.turn(x.tensor, 0, 2, 3, 1)
            made = self.node("LayerNormalization", [made, gamma, beta], axis=-1)
            made = self.turn(made, 0, 3, 1, 2)
        else:
            groups = 2 if channels % 2 == 0 else 1
            size = channels // groups * x.height * x.width
            made = self.reshape(x.tensor, self.open, groups, size)
            ones, none = np.ones(groups, np.float32), np.zeros(groups, np.float32)
            scales = [self.net.constant(self.name("c"), each) for each in (ones, none)]
            made = self.node("InstanceNormalization", [made, *scales])
            made = self.reshape(made, self.open, channels, x.height, x.width)
        return Map(made, channels, x.height, x.width)

    def pooled(self, x: Map) -> Map:
        if min(x.height, x.width) < 4:
            return self.squeezed(x)
        operator = self.pick("MaxPool", "AveragePool", "LpPool")
        made = self.node(operator, [x.tensor], kernel_shape=[2, 2], strides=[2, 2])
        return Map(made, x.channels, x.height // 2, x.width // 2)

    def squeezed(self, x: Map) -> Map:
        """Squeeze and excitation."""
        made = self.node("GlobalAveragePool", [x.tensor])
        for out in (4, x.channels):
            width = x.channels if out == 4 else 4
            made = self.node("Conv", [made, self.weight(out, width, 1, 1), self.vector(out)])
            made = self.node("Relu" if out == 4 else "Sigmoid", [made])
        return Map(self.node("Mul", [x.tensor, made]), x.channels, x.height, x.width)

    def shuffled(self, x: Map) -> Map:
        """Channels in another order, or depth to space and back."""
        if x.channels % 2:
            return self.conv(x)
        half = x.channels // 2
        made = self.reshape(x.tensor, self.open, 2, half, x.height * x.width)
        made = self.reshape(self.turn(made, 0, 2, 1, 3), self.open, *self.sizes(x))
        return Map(made, *self.sizes(x))

    @staticmethod
    def sizes(x: Map) -> tuple[int, int, int]:
        return x.channels, x.height, x.width

    def enlarged(self, x: Map) -> Map:
        """Twice as large: transposed, resized, or depth to space."""
        if x.height * x.width > 30:
            return self.conv(x)
        kind, channels = self.pick("ConvTranspose", "Resize", "DepthToSpace"), x.channels
        if kind == "ConvTranspose":
            weight = self.weight(channels, 4, 2, 2)
            made, channels = self.node(kind, [x.tensor, weight], strides=[2, 2]), 4
        elif kind == "Resize":
            scales = self.net.constant(self.name("c"), np.float32([1, 1, 2, 2]))
            made = self.node(kind, [x.tensor, "", scales], mode="nearest")
        else:
            made = self.node("Conv", [x.tensor, self.weight(8, channels, 1, 1)])
            made, channels = self.node(kind, [made], blocksize=2), 2
        return Map(made, channels, 2 * x.height, 2 * x.width)

    def branches(self, x: Map) -> Map:
        one, other = (self.node("Conv", [x.tensor, self.weight(3, x.channels, 1, 1)]) for _ in "ab")
        return Map(self.node("Concat", [one, other], axis=1), 6, x.height, x.width)

    def rows(self, x: Map) -> Map:
        """A recurrent layer along each row, the rows folded into the samples."""
        made = self.reshape(
            self.turn(x.tensor, 3, 0, 2, 1), x.width, self.rest(x.height), x.channels
        )
        made, _ = self.recurrence(made, x.channels, 4, False)
        made = self.reshape(made, x.width, self.open, x.height, 4)
        return Map(self.turn(made, 1, 3, 2, 0), 4, x.height, x.width)

    def rest(self, size: int) -> int:
        return size if self.baked else -1

    def windows(self, x: Map) -> Map:
        """A layer over windows of 2 x 2 places, folded into the samples."""
        if x.height % 2 or x.width % 2:
            return self.conv(x)
        high, wide, channels = x.height // 2, x.width // 2, x.channels
        made = self.reshape(self.turn(x.tensor, 0, 2, 3, 1), self.open, high, 2, wide, 2 * channels)
        made = self.turn(made, 0, 1, 3, 2, 4)
        made = self.reshape(made, self.rest(high * wide), 4, channels)
        made = self.linear(made, channels, channels, flat=False)
        made = self.reshape(made, self.open, high, wide, 2, 2 * channels)
        made = self.reshape(self.turn(made, 0, 1, 3, 2, 4), self.open, x.height, x.width, channels)
        return Map(self.turn(made, 0, 3, 1, 2), *self.sizes(x))

    def maps(self, x: Map) -> Map:
        """A few blocks."""
        blocks: list[Callable[[Map], Map]] = [
            self.conv, self.conv, self.conv, self.normal, self.pooled, self.squeezed,
            self.shuffled, self.enlarged, self.branches, self.rows, self.windows,
        ]  # fmt: skip
        x = self.conv(x)
        for _ in range(self.random.integers(1, 4)):
            before, x = x, self.pick(*blocks)(x)
            if self.chance(0.4):
                x.tensor = self.activation(x.tensor)
            if self.sizes(before) == self.sizes(x) and self.chance(0.5):
                x.tensor = self.node("Add", [x.tensor, before.tensor], "residual")
        return x

    def tokens_of(self, x: Map) -> Tokens:
        """Places as tokens, as a vision transformer has them."""
        count = x.height * x.width
        made = self.reshape(x.tensor, self.open, x.channels, count)
        return Tokens(self.turn(made, 0, 2, 1), "ntf", count, x.channels)

    def of_map(self, x: Map) -> tuple[str, int]:
        """From a map to a row."""
        kind = self.pick("global", "mean", "flat", "tokens")
        if kind == "tokens" and x.height * x.width <= 16:
            return self.of_tokens(self.tokens(self.tokens_of(x)))
        if kind == "flat" and x.height * x.width <= 16:
            width = x.channels * x.height * x.width
            return self.reshape(x.tensor, self.open, width), width
        if kind == "mean":
            return self.mean(x.tensor, 2, 3), x.channels
        pooled = self.node("GlobalAveragePool", [x.tensor])
        return self.node("Flatten", [pooled]), x.channels


class Artist(Pictures):
    """Draws whole graphs."""

    def mix(self, tensor: str, width: int) -> str:
        """A row that depends on the other rows of a batch."""
        kind = self.pick("mean", "norm", "softmax", "sum", "turn", "attention", "recurrent")
        if kind == "mean":
            return self.node("Sub", [tensor, self.mean(tensor, 0, keepdims=1)], "mix")
        if kind == "norm":
            vectors = [self.vector(width, around) for around in (1, 0, 0, 1)]
            made = self.node("BatchNormalization", [tensor, *vectors], "mix", training_mode=1)
            self.net.nodes[-1].output.extend([self.name("mean"), self.name("var")])
            return made
        if kind == "softmax":
            return self.node("Softmax", [tensor], "mix", axis=0)
        if kind == "sum":
            return self.node(
                "CumSum", [tensor, self.net.constant(self.name("i"), np.int64(0))], "mix"
            )
        if kind == "turn":
            ends = self.ints(0), self.ints(1), self.ints(0)
            first = self.node("Slice", [tensor, *ends])
            return self.node("Add", [tensor, first], "mix")
        if kind == "attention":
            near = self.node("Mul", [tensor, self.number(0.1)])  # else each attends to itself
            scores = self.node("MatMul", [near, self.turn(tensor, 1, 0)])
            return self.node("MatMul", [self.node("Softmax", [scores], axis=-1), tensor], "mix")
        steps = self.node("Unsqueeze", [tensor, self.ints(1)])
        made, _ = self.recurrence(steps, width, width, False)
        return self.node("Squeeze", [made, self.ints(1, 2)], "mix")

    def dense(self, tensor: str, width: int) -> tuple[str, int]:
        """Layers over rows."""
        for _ in range(self.random.integers(0, 3)):
            out = self.pick(width, 4, 7)
            made = self.activation(self.linear(tensor, width, out, flat=True))
            if out == width and self.chance(0.4):
                made = self.node("Add", [made, tensor], "residual")
            tensor, width = made, out
            if self.chance(0.2):
                vectors = [self.vector(width, around) for around in (1, 0, 0, 1)]
                tensor = self.node("BatchNormalization", [tensor, *vectors])
        return tensor, width


def draw(seed: int) -> Drawn:
    """The graph of a seed, with samples."""
    random = np.random.default_rng(seed)
    artist = Artist(random, Net(seed=seed, opset=int(random.choice([17, 17, 18, 21]))))
    kind = artist.pick(*KINDS)
    batch = artist.pick("n", "n", "n", "n", 1, 3)
    baked = artist.chance({1: 0.5, "n": 0.06}.get(batch, 0))
    artist.baked = baked and kind != "sequence of maps"
    axis = int(kind == "tokens" and batch == "n" and not artist.baked and artist.chance(0.12))
    inputs, feed, (tensor, width) = _body(artist, kind, batch, axis)
    before = len(artist.net.nodes)
    if batch == "n" and not artist.baked and artist.chance(0.06):
        tensor = artist.mix(tensor, width)
    mixing = tuple(node.name for node in artist.net.nodes[before:])
    tensor, width = artist.dense(tensor, width)
    outputs, end = _ends(artist, tensor, width)
    values = [
        value(name, [batch], INT64) if what == "label" else value(name, [batch, None])
        for name, what in outputs.items()
    ]
    model = artist.net.model(inputs, values)
    fixed = batch if isinstance(batch, int) else None
    return Drawn(model, feed, outputs, end, mixing, fixed, axis, artist.baked)


def _body(artist: Artist, kind: str, batch: Any, axis: int) -> Any:
    """Inputs, samples, and a row with its width."""
    random = artist.random
    if kind == "table":
        x = random.normal(size=(N_SAMPLES, 6)).astype(np.float32)
        hidden = artist.linear("x", 6, 8, flat=True)
        return [value("x", [batch, 6])], {"x": x}, (hidden, 8)
    if kind in ("tokens", "words"):
        count, width = artist.pick(2, 4, 5, 6), artist.pick(4, 6)
        layout = "tnf" if axis else "ntf"
        if kind == "words":
            x = random.integers(0, 9, (N_SAMPLES, count))
            made = artist.node("Gather", [artist.weight(9, width), "x"])
            given = value("x", [batch, count], INT64)
        else:
            x = random.normal(size=(N_SAMPLES, count, width)).astype(np.float32)
            made, given = "x", value("x", [count, batch, width] if axis else [batch, count, width])
        tokens = artist.tokens(Tokens(made, layout, count, width))
        return [given], {"x": x}, artist.of_tokens(tokens)
    channels, height, width = artist.pick(1, 3), artist.pick(4, 6, 7), artist.pick(4, 8)
    if kind == "map":
        x = random.normal(size=(N_SAMPLES, channels, height, width)).astype(np.float32)
        made = artist.maps(Map("x", channels, height, width))
        return [value("x", [batch, *x.shape[1:]])], {"x": x}, artist.of_map(made)
    frames = artist.pick(2, 3)
    x = random.normal(size=(N_SAMPLES, frames, channels, height, width)).astype(np.float32)
    folded = artist.reshape("x", artist.rest(frames), channels, height, width)
    row, size = artist.of_map(artist.maps(Map(folded, channels, height, width)))
    tokens = Tokens(artist.reshape(row, artist.open, frames, size), "ntf", frames, size)
    given = [value("x", [batch, *x.shape[1:]])]
    return given, {"x": x}, artist.of_tokens(artist.tokens(tokens))


def _ends(artist: Artist, tensor: str, width: int) -> tuple[dict[str, str], str | None]:
    """The outputs, what stands at each, and the activation."""
    n_outputs = artist.pick(2, 3, 4)
    logits = artist.net.node(
        "Gemm", [tensor, artist.weight(width, n_outputs), artist.vector(n_outputs)], "logits"
    )
    end = artist.pick(None, "Softmax", "Sigmoid")
    outputs = {}
    if end is not None:
        options = {} if end == "Sigmoid" else {"axis": 1}
        outputs[artist.net.node(end, [logits], "end", **options)] = "end"
    if end is None or artist.chance(0.2):
        outputs[logits] = "logits"
    if end != "Sigmoid" and artist.chance(0.2):
        source = artist.pick(*outputs)
        outputs[artist.net.node("ArgMax", [source], "label", axis=1, keepdims=0)] = "label"
    if artist.chance(0.15):
        outputs[tensor] = "other"
    return outputs, end
