"""Adapt a deployed neural network on the device with Skip2-LoRA (Matsutani et al., ASP-DAC 2025).

Pre-train or load a model, then fit low-rank adapters to field data in milliseconds::

    import skip2lora as s2

    model = s2.load("model.safetensors")
    adapted = s2.adapt(model, X, y)
    adapted.predict(X)
"""

import importlib
import sys
import types
import typing

from skip2lora.errors import (
    ClusterError,
    DataError,
    DivergedError,
    FileError,
    MissingExtraError,
    ModelError,
    ParameterError,
    SensorError,
    Skip2LoraError,
)

if typing.TYPE_CHECKING:
    from skip2lora.adapt import adapt as adapt
    from skip2lora.adapted import AdaptedModel as AdaptedModel
    from skip2lora.adapters.adapters import SkipAdapters as SkipAdapters
    from skip2lora.adapters.rows import SkipCache as SkipCache
    from skip2lora.adapters.store import CacheFolder as CacheFolder
    from skip2lora.backbones.base import Backbone as Backbone
    from skip2lora.backbones.base import Taps as Taps
    from skip2lora.backbones.loading import load as load
    from skip2lora.backbones.mlp import MLP as MLP
    from skip2lora.backbones.onnx.chain import chain as chain
    from skip2lora.backbones.torch.backbone import TorchBackbone as TorchBackbone
    from skip2lora.fleet.merging import Merged as Merged
    from skip2lora.fleet.merging import merge as merge
    from skip2lora.serve.limits import Limits as Limits
    from skip2lora.serve.service import Service as Service
    from skip2lora.training.filled import Filled as Filled
    from skip2lora.training.filled import fill as fill
    from skip2lora.training.loop import EpochReport as EpochReport
    from skip2lora.training.loop import History as History
    from skip2lora.training.loop import Timing as Timing
    from skip2lora.training.pretraining import pretrain as pretrain
    from skip2lora.training.watch import Checkpoint as Checkpoint

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "AdaptedModel",
    "Backbone",
    "CacheFolder",
    "Checkpoint",
    "ClusterError",
    "DataError",
    "DivergedError",
    "EpochReport",
    "FileError",
    "Filled",
    "History",
    "Limits",
    "MissingExtraError",
    "ModelError",
    "ParameterError",
    "SensorError",
    "Service",
    "Skip2LoraError",
    "SkipAdapters",
    "SkipCache",
    "Taps",
    "Timing",
    "adapt",
    "fill",
    "load",
    "merge",
    "pretrain",
]

#: Where names are that are imported on first use. NumPy and the rest take half a second, in which
#: the command must answer Ctrl-C already.
_ON_REQUEST = {
    "AdaptedModel": "skip2lora.adapted",
    "adapt": "skip2lora.adapt",
    "SkipAdapters": "skip2lora.adapters.adapters",
    "SkipCache": "skip2lora.adapters.rows",
    "CacheFolder": "skip2lora.adapters.store",
    "Backbone": "skip2lora.backbones.base",
    "Taps": "skip2lora.backbones.base",
    "load": "skip2lora.backbones.loading",
    "MLP": "skip2lora.backbones.mlp",
    "chain": "skip2lora.backbones.onnx.chain",
    "merge": "skip2lora.fleet.merging",
    "Limits": "skip2lora.serve.limits",
    "Service": "skip2lora.serve.service",
    "Checkpoint": "skip2lora.training.watch",
    "EpochReport": "skip2lora.training.loop",
    "Filled": "skip2lora.training.filled",
    "fill": "skip2lora.training.filled",
    "History": "skip2lora.training.loop",
    "Timing": "skip2lora.training.loop",
    "pretrain": "skip2lora.training.pretraining",
    "TorchBackbone": "skip2lora.backbones.torch",
}
#: Modules that are there without an import of their own.
_MODULES = ("adapters", "arrays", "backbones", "data", "files", "methods", "tasks", "training")


if not typing.TYPE_CHECKING:  # a checker would take any name to be there

    def __getattr__(name: str) -> typing.Any:
        if name in _ON_REQUEST:
            return getattr(importlib.import_module(_ON_REQUEST[name]), name)
        if name in _MODULES:
            return importlib.import_module(f"skip2lora.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    class _Package(types.ModuleType):
        """Keeps ``adapt`` the function, where an import puts the module of that name."""

        def __setattr__(self, name: str, value: typing.Any) -> None:
            if name == "adapt" and isinstance(value, types.ModuleType):
                value = value.adapt
            super().__setattr__(name, value)

    sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_REQUEST, *_MODULES})
