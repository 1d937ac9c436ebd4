"""The operations of a network, one after the other, as the C core has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import ModelError

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Operation:
    """One step: ``title`` is what people call it, ``layer`` what its tap is called.

    ``kind`` is dense (weight, (n_in, n_out), and bias), norm (gamma, beta, mean, var, of width
    n_out, and ``eps``) or relu.
    """

    title: str
    kind: str
    layer: str = ""
    arrays: tuple[Array, ...] = ()
    eps: float = 0.0


@dataclass(frozen=True, eq=False)
class Dense:
    """A fully connected layer with the batch norm and the ReLU that follow it, if any.

    ``norm`` are gamma, beta, mean and var, (n_out,) each; ``var`` has eps in it.
    """

    layer: str
    weight: Array
    bias: Array
    norm: tuple[Array, ...] = field(default=())
    relu: bool = False


def joined(operations: Sequence[Operation], path: object) -> tuple[Dense, ...]:
    """The layers that the operations are.

    Raises:
        ModelError: one does not follow where C has it.
    """
    layers: list[Dense] = []
    for of in operations:
        last = layers[-1] if layers else None
        if of.kind == "dense":
            weight, bias = of.arrays
            layers.append(Dense(of.layer, weight, bias))
        elif last is None or last.relu or (last.norm and of.kind == "norm"):
            raise no_counterpart(path, of.title, "where it stands")
        elif of.kind == "norm":
            *others, var = of.arrays
            layers[-1] = replace(last, norm=(*others, var + np.float32(of.eps)))
        else:
            layers[-1] = replace(last, relu=True)
    return tuple(layers)


def no_counterpart(path: object, title: str, why: str = "") -> ModelError:
    """The error for an operation that C does not have."""
    return ModelError(
        f"{path}: {title} has no counterpart in C{why and ' '}{why}, expected fully connected "
        "layers, each with its batch norm and ReLU: export the taps alone with taps_only=True, and "
        "let the firmware's own runtime compute them"
    )
