"""Frozen networks. Whatever runs inference can be adapted, since no gradient flows through it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.taps import Selection
from skip2lora.errors import FileError, ModelError, ParameterError
from skip2lora.samples import check_samples


@dataclass(frozen=True, eq=False)
class Taps:
    """What a frozen forward pass gives: the input of every layer and the last layer's output.

    ``taps[k]`` is (samples, tap_widths[k]), x^(k+1) of the paper, after batch norm and ReLU;
    ``base_logits`` is (samples, n_outputs), c^n of the paper. All float32.
    """

    taps: tuple[NDArray[np.float32], ...]
    base_logits: NDArray[np.float32]


@runtime_checkable
class Backbone(Protocol):
    """A frozen network. Data of any runtime becomes taps in ``forward`` and nowhere else.

    What takes something else than (samples, features) has a method ``check`` as well, which turns
    what a user passes into what ``forward`` takes, or raises DataError.
    """

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """Width of each tap."""

    @property
    def n_outputs(self) -> int:
        """Width of the last layer's output."""

    @property
    def first_tap_is_input(self) -> bool:
        """Whether the first tap is the sample itself, which then needs no copy in the cache."""

    @property
    def fingerprint(self) -> str:
        """Changes when the weights or the preprocessing change."""

    def forward(self, x: Any) -> Taps:
        """Taps and base logits of checked samples ``x``."""


def check_inputs(backbone: Backbone, X: Any) -> Any:
    """``X`` as ``backbone.forward`` takes it: by its own ``check``, or as a table of features.

    Raises:
        DataError: samples the backbone cannot take.
    """
    check = getattr(backbone, "check", None)
    if check is not None:
        return check(X)
    n_features = backbone.tap_widths[0] if backbone.first_tap_is_input else None
    return check_samples(X, n_features=n_features)[0]


def load(path: str | os.PathLike[str], *, taps: Selection = None) -> Any:
    """Load a model by its file, or by the folder that holds ``model.safetensors``.

    ``.safetensors`` is a network of this package, ``.onnx`` and ``.tflite`` run in their runtimes.
    ``taps`` chooses which layers of those are tapped; see :func:`skip2lora.backbones.taps.chosen`.

    Raises:
        FileError: there is no such file.
        ModelError: the file is of an unknown kind, truncated, or not a model.
        ParameterError: ``taps`` fits no layer, or the model has no choice of them.
        MissingExtraError: the runtime is not installed.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "model.safetensors"
    if not file.exists():
        raise FileError(f"{file} does not exist, expected a model: check the path")
    if file.suffix == ".onnx":
        from skip2lora.backbones.onnx import OnnxBackbone

        return OnnxBackbone.load(file, taps=taps)
    if file.suffix == ".tflite":
        from skip2lora.backbones.litert import LiteRTBackbone

        return LiteRTBackbone.load(file, taps=taps)
    if file.suffix != ".safetensors":
        raise ModelError(
            f"{file} ends in {file.suffix or 'nothing'}, expected a model as .safetensors, .onnx "
            "or .tflite: make one with `skip2lora pretrain`"
        )
    if taps is not None:
        raise ParameterError(
            f"taps is {taps!r} for {file}, whose adapters start at every layer: leave taps out"
        )
    from skip2lora.backbones.mlp import MLP

    return MLP.load(file)
