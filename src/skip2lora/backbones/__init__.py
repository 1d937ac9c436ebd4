"""Frozen networks. Whatever runs inference can be adapted, since no gradient flows through it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.taps import Selection
from skip2lora.errors import FileError, ModelError, ParameterError
from skip2lora.labels import check_names
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


def load(
    path: str | os.PathLike[str],
    *,
    taps: Selection = None,
    grid: int | None = None,
    size: tuple[int, int] | None = None,
    class_names: Sequence[str] | None = None,
) -> Any:
    """Load a model by its file, or by the folder that holds ``model.safetensors``.

    ``.safetensors`` is a network of this package, ``.onnx`` and ``.tflite`` run in their runtimes.
    ``taps`` chooses which layers of those are tapped (:func:`skip2lora.backbones.taps.chosen`),
    ``grid`` how many places an axis of their maps keeps, by default 4. ``size`` fixes the height
    and width of images where a ``.onnx`` leaves them open: its maps then keep a grid instead of one
    place. ``class_names`` name the outputs, in their order.

    Raises:
        FileError: there is no such file.
        ModelError: the file is of an unknown kind, truncated, or not a model.
        ParameterError: ``taps`` fits no layer, or the model has no choice of taps, grid or size.
        MissingExtraError: the runtime is not installed.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "model.safetensors"
    if not file.exists():
        raise FileError(f"{file} does not exist, expected a model: check the path")
    asked = {"taps": taps, "grid": grid, "size": size}
    model = _read(file, {name: value for name, value in asked.items() if value is not None})
    names = check_names(class_names, model.n_outputs)
    return model if names is None else replace(model, class_names=names)


def _read(file: Path, asked: dict[str, Any]) -> Any:
    if file.suffix == ".onnx":
        from skip2lora.backbones.onnx import OnnxBackbone

        return OnnxBackbone.load(file, **asked)
    if file.suffix == ".tflite":
        from skip2lora.backbones.litert import LiteRTBackbone

        if "size" in asked:
            raise ParameterError(
                f"size is {asked['size']} for {file}, whose sizes are fixed: leave size out"
            )
        return LiteRTBackbone.load(file, **asked)
    if file.suffix != ".safetensors":
        raise ModelError(
            f"{file} ends in {file.suffix or 'nothing'}, expected a model as .safetensors, .onnx "
            "or .tflite: make one with `skip2lora pretrain`"
        )
    for name, value in asked.items():
        raise ParameterError(
            f"{name} is {value!r} for {file}, whose adapters start at every layer: leave {name} out"
        )
    from skip2lora.backbones.mlp import MLP

    return MLP.load(file)
