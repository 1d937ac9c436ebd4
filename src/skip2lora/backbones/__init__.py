"""Frozen networks. Whatever runs inference can be adapted, since no gradient flows through it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from skip2lora.errors import FileError, ModelError

if TYPE_CHECKING:
    from skip2lora.backbones.mlp import MLP


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
    """A frozen network. Data of any runtime becomes taps in ``forward`` and nowhere else."""

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

    def forward(self, x: NDArray[np.float32]) -> Taps:
        """Taps and base logits of ``x``, (samples, features)."""


def load(path: str | os.PathLike[str]) -> MLP:
    """Load a model by its file, or by the folder that holds ``model.safetensors``.

    Raises:
        FileError: there is no such file.
        ModelError: the file is of an unknown kind, truncated, or not a model.
    """
    from skip2lora.backbones.mlp import MLP

    file = Path(path)
    if file.is_dir():
        file = file / "model.safetensors"
    if not file.exists():
        raise FileError(f"{file} does not exist, expected a model: check the path")
    if file.suffix == ".onnx":
        from skip2lora.backbones.onnx import OnnxBackbone

        return OnnxBackbone.load(file)
    if file.suffix != ".safetensors":
        raise ModelError(
            f"{file} ends in {file.suffix or 'nothing'}, expected a model as .safetensors: "
            "make one with `skip2lora pretrain`"
        )
    return MLP.load(file)
