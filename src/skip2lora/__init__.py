"""Adapt a deployed neural network on the device with Skip2-LoRA (Matsutani et al., ASP-DAC 2025).

Pre-train or load a model, then fit low-rank adapters to field data in milliseconds::

    import skip2lora as s2

    model = s2.load("model.safetensors")
    adapted = s2.adapt(model, X, y)
    adapted.predict(X)
"""

import importlib
import typing

from skip2lora.adapt import AdaptedModel, adapt
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.rows import SkipCache
from skip2lora.backbones.base import Backbone, Taps, load
from skip2lora.backbones.mlp import MLP
from skip2lora.errors import (
    DataError,
    DivergedError,
    FileError,
    MissingExtraError,
    ModelError,
    ParameterError,
    SensorError,
    Skip2LoraError,
)
from skip2lora.training.loop import EpochReport, History, Timing
from skip2lora.training.pretraining import pretrain

if typing.TYPE_CHECKING:
    from skip2lora.backbones.torch.backbone import TorchBackbone as TorchBackbone

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "AdaptedModel",
    "Backbone",
    "DataError",
    "DivergedError",
    "EpochReport",
    "FileError",
    "History",
    "MissingExtraError",
    "ModelError",
    "ParameterError",
    "SensorError",
    "Skip2LoraError",
    "SkipAdapters",
    "SkipCache",
    "Taps",
    "Timing",
    "adapt",
    "load",
    "pretrain",
]

#: Names whose modules need an extra: imported on first use, so that importing the package is light.
_ON_REQUEST = {"TorchBackbone": "skip2lora.backbones.torch"}


if not typing.TYPE_CHECKING:  # a checker would take any name to be there

    def __getattr__(name: str) -> typing.Any:
        if name in _ON_REQUEST:
            return getattr(importlib.import_module(_ON_REQUEST[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_REQUEST})
