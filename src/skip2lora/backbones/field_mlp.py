"""An ``MLP`` whose batch norm has the statistics of field samples (AdaBN of Li et al., 2016)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.mlp import MLP, Layer
from skip2lora.backbones.standins import runs
from skip2lora.errors import ParameterError
from skip2lora.files import Tensors, take

_NAMES = ("mean", "var")
_LEAST = 2  # samples that have a variance


@dataclass(frozen=True, eq=False, repr=False)
class FieldMLP(MLP):
    """``original`` with other running statistics, which an adapter that was trained on it keeps.

    Its fingerprint is that of ``original``: the adapter belongs to that model.
    """

    original: MLP | None = None

    @classmethod
    def of(cls, model: MLP, samples: NDArray[np.float32]) -> FieldMLP:
        """``model`` with the mean and variance that its layers give for checked ``samples``.

        ``samples`` are (samples, features), two at least; labels are not needed. Statistics are
        taken layer after layer, each from what the layers before give with theirs.

        Raises:
            ParameterError: no batch norm, or fewer samples.
        """
        if not model.batch_norm:
            raise ParameterError(
                f"statistics of the field for {model!r} without batch norm, expected a network "
                "with: take it as it is"
            )
        if len(samples) < _LEAST:
            raise ParameterError(
                f"statistics of the field from {len(samples)} samples, expected {_LEAST} at least: "
                "pass more"
            )
        statistics: list[NDArray[np.float32] | None] = []
        output = samples
        for layer in model.layers:
            if layer.gamma is None or layer.beta is None:  # the last one
                statistics += [None, None]
                continue
            before = np.empty((len(samples), len(layer.bias)), np.float32)
            _core.fc_forward(np.ascontiguousarray(output), layer.weight, layer.bias, before)
            mean = before.mean(axis=0, dtype=np.float64)
            var = before.var(axis=0, dtype=np.float64, ddof=1)  # as the core's running one
            statistics += [mean.astype(np.float32), var.astype(np.float32)]
            output = layer.gamma * (before - mean) / np.sqrt(var + model.bn_eps) + layer.beta
            output = np.maximum(output, 0).astype(np.float32)
        return cls._with(model, statistics)

    @classmethod
    def _with(cls, model: MLP, statistics: list[NDArray[np.float32] | None]) -> FieldMLP:
        """``model`` with mean and variance of each layer, None where there are none."""
        pairs = zip(statistics[::2], statistics[1::2], strict=True)
        layers = tuple(
            replace(layer, mean=mean, var=var)
            for layer, (mean, var) in zip(model.layers, pairs, strict=True)
        )
        return cls(**{**_fields(model), "layers": layers}, original=model)

    @classmethod
    def from_tensors(cls, file: str | os.PathLike[str], tensors: Tensors, model: MLP) -> FieldMLP:
        """``model`` with the statistics in ``tensors``, out of which they are taken.

        Raises:
            ModelError: some are missing, or of another shape.
        """
        statistics: list[NDArray[np.float32] | None] = []
        for number, layer in enumerate(model.layers):
            for name, array in zip(_NAMES, (layer.mean, layer.var), strict=True):
                of_layer = None
                if array is not None:
                    of_layer = take(file, tensors, f"layers.{number}.{name}", array.shape)
                statistics.append(of_layer)
        return cls._with(model, statistics)

    def with_layers(self, arrays: Sequence[Sequence[Any]]) -> MLP:
        """A network of its own with other tensors, in the order of ``Layer.arrays``."""
        layers = tuple(Layer(*of_layer) for of_layer in arrays)
        return MLP(**{**_fields(self), "layers": layers, "path": None})

    def statistics(self) -> Tensors:
        """Mean and variance of each layer by name, such as ``layers.0.mean``."""
        tensors = self.tensors().items()
        return {name: array for name, array in tensors if name.rpartition(".")[2] in _NAMES}

    @property
    def base(self) -> Backbone:
        """The model with its own statistics."""
        return self if self.original is None else self.original

    @cached_property
    def fingerprint(self) -> str:
        """That of ``original``."""
        return super().fingerprint if self.original is None else self.original.fingerprint

    def __reduce__(self) -> tuple[Any, ...]:
        """For other processes: without the network in the C core."""
        return FieldMLP._with, (self.original, [a for of in self.layers for a in of.arrays()[4:6]])


def _fields(model: MLP) -> dict[str, Any]:
    """What an ``MLP`` is made of."""
    return {of.name: vars(model)[of.name] for of in fields(MLP)}


def field_statistics(backbone: Backbone) -> Tensors:
    """Those of the network behind ``backbone``, by name; none of a model with its own."""
    backbone = runs(backbone)
    return backbone.statistics() if isinstance(backbone, FieldMLP) else {}
