"""Layers of a device's network, as the block of bytes has them (docs/c-blob.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.taps import Tap

Array = NDArray[np.float32]
DENSE, CONVOLUTION, MAX_POOL, AVERAGE_POOL, TRANSPOSITION, ACTIVATION, GRU, LSTM = range(1, 9)
SAVE, EXCHANGE, ADD = range(9, 12)
#: Activations beside ReLU, by the operator of ONNX, and as the core numbers them.
FUNCTIONS = {
    "Clip": 1, "LeakyRelu": 2, "Sigmoid": 3, "Tanh": 4, "HardSigmoid": 5, "HardSwish": 6,
}  # fmt: skip
#: Sources of the core that run the kinds beside fully connected layers, and what leaves them out.
KINDS = {
    "MAPS": ("model_maps.c", (CONVOLUTION, MAX_POOL, AVERAGE_POOL, TRANSPOSITION)),
    "ACTIVATIONS": ("model_activation.c", (ACTIVATION,)),
    "RECURRENT": ("model_recurrent.c", (GRU, LSTM)),
    "SLOTS": ("model_slots.c", (SAVE, EXCHANGE, ADD)),
}
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Dense:
    """A fully connected layer with the batch norm and the ReLU that follow it, if any.

    ``norm`` are gamma, beta, mean and var, (n_out,) each; ``var`` has eps in it. ``tapped`` says
    whether its input is a tap.
    """

    layer: str
    weight: Array
    bias: Array
    norm: tuple[Array, ...] = field(default=())
    relu: bool = False
    tapped: bool = True
    kind = DENSE
    words: tuple[int | float, ...] = ()

    @property
    def n_in(self) -> int:
        """Width of its input."""
        return int(self.weight.shape[0])

    @property
    def n_out(self) -> int:
        """Width of its output."""
        return int(self.weight.shape[1])

    @property
    def matrices(self) -> tuple[Array, ...]:
        """The weights, (n_in, n_out)."""
        return (self.weight,)

    @property
    def vectors(self) -> tuple[Array, ...]:
        """What stands behind the weights."""
        return (self.bias, *self.norm)

    @property
    def tap_width(self) -> int:
        """Floats of its tap, 0 without."""
        return self.n_in if self.tapped else 0


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of another kind, on vectors of ``n_in`` and ``n_out`` numbers.

    ``words`` stand before its arrays, whole numbers and floats; ``matrices`` may become int8;
    ``tap_width`` are the floats of its tap, 0 without.
    """

    layer: str
    kind: int
    n_in: int
    n_out: int
    words: tuple[int | float, ...] = ()
    matrices: tuple[Array, ...] = ()
    vectors: tuple[Array, ...] = ()
    relu: bool = False
    tap_width: int = 0
    norm: tuple[Array, ...] = field(default=(), init=False)


@dataclass(frozen=True)
class Window:
    """How a window moves over a map of ``channels`` and ``size``, (height, width).

    ``out_size`` are its places; every pair is (height, width), ``pads`` those at the top and left.
    """

    channels: int
    size: tuple[int, int]
    out_channels: int
    out_size: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    dilations: tuple[int, int] = (1, 1)

    def layer(self, title: str, kind: int, option: int) -> Layer:
        """A layer without arrays; ``option`` are groups, or 1 where padding counts."""
        words = (
            0, 0, self.channels, *self.size, self.out_channels, *self.out_size, *self.kernel,
            *self.strides, *self.pads, *self.dilations, option,
        )  # fmt: skip
        n_in, n_out = self.channels * math.prod(self.size), self.out_channels
        return Layer(title, kind, n_in, n_out * math.prod(self.out_size), words)


def convolution(title: str, window: Window, weight: Array, bias: Array, groups: int) -> Layer:
    """A convolution with ``weight`` as ONNX has it, (out, channels / groups, height, width)."""
    matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)))
    plain = window.layer(title, CONVOLUTION, groups)
    return replace(plain, matrices=(matrix,), vectors=(bias,))


def normed(of: Layer, norm: Sequence[Array]) -> Layer:
    """A convolution with the batch norm that follows it in its weights; var has eps in it."""
    gamma, beta, mean, var = (array.astype(np.float64) for array in norm)
    scale = gamma / np.sqrt(var)
    weight = (of.matrices[0] * scale).astype(np.float32)
    bias = ((of.vectors[0] - mean) * scale + beta).astype(np.float32)
    return replace(of, matrices=(weight,), vectors=(bias,))


def each_channel(title: str, channels: int, places: int) -> Layer:
    """A convolution that changes nothing yet: each channel by itself, place by place."""
    window = Window(channels, (1, places), channels, (1, places), (1, 1))
    one = np.ones((channels, 1, 1, 1), np.float32)
    return convolution(title, window, one, np.zeros(channels, np.float32), channels)


def transposition(title: str, rows: int, columns: int) -> Layer:
    """(rows, columns) becomes (columns, rows)."""
    return Layer(title, TRANSPOSITION, rows * columns, rows * columns, (rows, columns))


def slot(title: str, kind: int, number: int, widths: tuple[int, int]) -> Layer:
    """Into slot ``number``, out of it, or both; ``widths`` are those before and after."""
    return Layer(title, kind, *widths, (number,))


def activation(title: str, width: int, operator: str, a: float = 0.0, b: float = 0.0) -> Layer:
    """A function of each number, by its operator in ONNX, with its constants."""
    return Layer(title, ACTIVATION, width, width, (FUNCTIONS[operator], float(a), float(b)))


def rectifier(title: str, width: int) -> Layer:
    """ReLU by itself."""
    return activation(title, width, "Clip", 0.0, _LARGEST)


@dataclass(frozen=True)
class Steps:
    """What a recurrent layer runs over: ``steps`` of ``width``, with a state of ``hidden``."""

    steps: int
    width: int
    hidden: int


def recurrent(
    title: str, kind: int, of: Steps, arrays: Sequence[Array], *, reset_before: bool = False
) -> Layer:
    """GRU or LSTM that gives every step's state.

    ``arrays`` are weights of the input, (gates, width), and of the state, (gates, hidden), and
    biases of both, as ONNX orders them.
    """
    given, inner, *biases = arrays
    words = (of.steps, of.width, of.hidden, 1, int(reset_before))
    return Layer(
        title, kind, of.steps * of.width, of.steps * of.hidden, words,
        (np.ascontiguousarray(given.T), np.ascontiguousarray(inner.T)), tuple(biases),
    )  # fmt: skip


def last_step(of: Layer) -> Layer:
    """A recurrent layer that gives the state of its last step alone."""
    steps, width, hidden, _, reset_before = of.words
    return replace(of, n_out=int(hidden), words=(steps, width, hidden, 0, reset_before))


def with_tap(of: Dense | Layer, tap: Tap | None) -> Dense | Layer | None:
    """The layer with its input as that tap, or without; None where the core has no such tap."""
    if isinstance(of, Dense):
        right = tap is None or (tap.kind == "vector" and tap.width == of.n_in)
        return replace(of, tapped=tap is not None) if right else None
    if tap is None:
        return of
    if of.kind == CONVOLUTION and tap.kind == "map" and not tap.channels_last:
        grid = (1,) * (2 - len(tap.grid)) + tap.grid
        words = (*grid, *of.words[2:])
        right = len(grid) == 2 and tap.width == int(of.words[2]) * math.prod(grid)
        return replace(of, words=words, tap_width=tap.width) if right else None
    if of.kind in (GRU, LSTM) and tap.kind == "sequence":
        return replace(of, tap_width=tap.width) if tap.width == 2 * of.words[1] else None
    return None
