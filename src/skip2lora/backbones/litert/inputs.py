"""Samples as a .tflite model reads them: by either of an input's names, quantised where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs
from skip2lora.backbones.inputs import InputSpec, check_inputs
from skip2lora.errors import DataError, ModelError

if TYPE_CHECKING:
    from skip2lora.backbones.litert.file import Graph, Tensor


@dataclass(frozen=True)
class LiteRTInput(InputSpec):
    """One input; with a ``scale`` above 0, q means ``scale * (q - zero_point)``.

    ``alias`` is its name in the file's signature, which is accepted as well.
    """

    scale: float = 0.0
    zero_point: int = 0
    alias: str = ""

    @property
    def title(self) -> str:
        """Its name in the graph and in the signature."""
        return f"{self.name} {self.alias}".strip()

    @property
    def reals(self) -> bool:
        """Also where it is quantised."""
        return self.scale != 0 or super().reals

    def read(self, values: NDArray[Any]) -> NDArray[Any]:
        """``values`` in the type of the input; those of that type are taken as they are."""
        if values.dtype == self.dtype:
            return values
        if self.scale == 0:
            return values.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        scaled = np.rint(values / np.float32(self.scale)) + self.zero_point
        whole: NDArray[Any] = np.clip(scaled, limits.min, limits.max).astype(self.dtype)
        return whole


def check_samples_of(inputs: Sequence[LiteRTInput], X: Any) -> NDArray[Any] | Inputs:
    """What :func:`~skip2lora.backbones.inputs.check_inputs` gives, in the types of the model.

    A quantised input takes its own type as it is, and anything else as real numbers.

    Raises:
        DataError: as there, or an input given under both of its names.
    """
    if isinstance(X, Inputs):
        X = X.arrays
    if isinstance(X, Mapping):
        known = {each.alias: each.name for each in inputs if each.alias}
        named = {known.get(name, name): array for name, array in X.items()}
        if len(named) < len(X):
            raise DataError(
                f"X has the inputs {', '.join(map(str, X))}, some of them twice, expected "
                f"{', '.join(each.name for each in inputs)}: pass each once"
            )
        X, given = named, [named.get(each.name) for each in inputs]
    else:
        several = isinstance(X, list | tuple) and len(X) == len(inputs) > 1
        given = list(X) if several else [X]
    if len(given) < len(inputs):  # refused by the check
        given = [None] * len(inputs)
    specs = [_wanted(each, array) for each, array in zip(inputs, given, strict=True)]
    checked = check_inputs(X, specs)
    if isinstance(checked, Inputs):
        return Inputs({each.name: each.read(checked.arrays[each.name]) for each in inputs})
    return inputs[0].read(checked)


def _wanted(each: LiteRTInput, given: Any) -> InputSpec:
    own = isinstance(given, np.ndarray) and given.dtype == each.dtype
    dtype = "float32" if each.scale > 0 and not own else each.dtype
    return InputSpec(each.name, each.shape, dtype)


def check_arrays_of(graph: Graph, path: Any) -> None:
    """Raise ModelError for an input of an open size, or that is no numbers."""
    for tensor in graph.inputs:
        if tensor.shape is None:
            raise ModelError(
                f'{path}: input "{tensor.name}" has sizes that may change, '
                "expected a batch of 1 and fixed sizes: convert the model with a fixed input shape"
            )
        try:
            known = np.dtype(tensor.dtype).kind in "fiub"
        except TypeError:
            known = False
        if not known:
            raise ModelError(
                f'{path}: input "{tensor.name}" has type {tensor.dtype}, expected numbers: '
                "convert the model without its text processing"
            )


def input_of(graph: Graph, tensor: Tensor) -> LiteRTInput:
    """What an input is."""
    return LiteRTInput(
        tensor.name,
        tensor.sample_shape,
        tensor.dtype,
        tensor.scale if np.dtype(tensor.dtype).kind in "iu" else 0.0,
        tensor.zero_point,
        graph.signature.get(tensor.index, ""),
    )
