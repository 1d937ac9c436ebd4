"""The operations of a network, one after the other, as the C core has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from skip2lora.errors import ModelError
from skip2lora.export.c_layers import (
    ADD,
    CONVOLUTION,
    GRU,
    LSTM,
    Array,
    Dense,
    Layer,
    each_channel,
    last_step,
    normed,
    rectifier,
)


@dataclass(frozen=True, eq=False)
class Operation:
    """One step: ``title`` is what people call it, ``layer`` what its tap is called.

    ``kind`` is dense (weight, (n_in, n_out), and bias), norm (gamma, beta, mean, var, of width
    n_out, and ``eps``), relu, last (the last step of a sequence), or layer, which ``whole`` is.
    ``map_shape`` are places and channels of what a norm reads, () of a vector.
    """

    title: str
    kind: str
    layer: str = ""
    arrays: tuple[Array, ...] = ()
    eps: float = 0.0
    whole: Layer | None = None
    map_shape: tuple[int, ...] = ()


def joined(operations: Sequence[Operation], path: object) -> tuple[Dense | Layer, ...]:
    """The layers that the operations are.

    Raises:
        ModelError: one does not follow where C has it.
    """
    layers: list[Dense | Layer] = []
    for of in operations:
        last = layers[-1] if layers else None
        takes_relu = last is not None and not last.relu and (
            isinstance(last, Dense) or last.kind in (CONVOLUTION, ADD)
        )  # fmt: skip
        if of.whole is not None:
            layers.append(of.whole)
        elif of.kind == "dense":
            weight, bias = of.arrays
            layers.append(Dense(of.layer, weight, bias))
        elif of.kind == "relu" and last is not None and takes_relu:
            layers[-1] = replace(last, relu=True)
        elif of.kind == "norm" and isinstance(last, Dense) and takes_relu and not last.norm:
            layers[-1] = replace(last, norm=_norm(of))
        elif of.kind == "norm":
            places, channels = of.map_shape or (1, of.arrays[0].size)
            if not (isinstance(last, Layer) and takes_relu and last.kind == CONVOLUTION):
                last = each_channel(of.title, channels, places)
                layers.append(last)
            layers[-1] = normed(last, _norm(of))
        elif of.kind == "last" and isinstance(last, Layer) and _gives_steps(last, of.map_shape):
            layers[-1] = last_step(last)
        elif of.kind == "relu" and isinstance(last, Layer):
            layers.append(rectifier(of.title, last.n_out))
        else:
            raise no_counterpart(path, of.title, "where it stands")
    return tuple(layers)


def _gives_steps(of: Layer, shape: tuple[int, ...]) -> bool:
    """Whether a recurrent layer gives the states of all steps, and of so many numbers."""
    return of.kind in (GRU, LSTM) and bool(of.words[3]) and (of.words[0], of.words[2]) == shape


def _norm(of: Operation) -> tuple[Array, ...]:
    *others, var = of.arrays
    return (*others, var + np.float32(of.eps))


def no_counterpart(path: object, title: str, why: str = "") -> ModelError:
    """The error for an operation that C does not have."""
    return ModelError(
        f"{path}: {title} has no counterpart in C{why and ' '}{why}, expected fully connected, "
        "convolutional, pooling, GRU and LSTM layers, one after the other or in branches that are "
        "added: export the taps alone with taps_only=True, and let the firmware's own runtime "
        "compute them"
    )
