"""Why a PyTorch module cannot be tapped, each reason in a line of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from skip2lora.errors import ModelError, ParameterError


def check_module(module: object) -> nn.Module:
    """``module`` itself, with all its weights.

    Raises:
        ParameterError: it is no ``nn.Module``.
        ModelError: some of its weights are not there yet.
    """
    if not isinstance(module, nn.Module):
        raise ParameterError(f"module is {_what(module)}: pass the network itself, as an object")
    for name, part in module.named_modules():
        title = f"{name or 'it'} ({type(part).__name__})"
        # Not all of a lazy class is lazy: what ran once has its weights.
        if isinstance(part, LazyModuleMixin) and part.has_uninitialized_params():
            raise ModelError(
                f"{type(module).__name__} has no weights yet in {title}, which makes them in its "
                "first call, expected all: call the module once on a sample and load its weights"
            )
        if any(each.is_meta for each in part.parameters(recurse=False)):
            raise ModelError(
                f"{type(module).__name__} has no weights in {title}, which is on the device meta, "
                "expected all: load its weights"
            )
    return module


def _what(module: Any) -> str:
    """What was given in place of a module, and what was expected."""
    if isinstance(module, type):
        return f"the class {module.__name__}, expected a torch.nn.Module made of it"
    if isinstance(module, Mapping):
        return (
            "a dict, as of a state dict, which holds weights alone, expected a torch.nn.Module "
            "that they were loaded into"
        )
    if isinstance(module, torch.export.ExportedProgram):
        return "an ExportedProgram, expected the torch.nn.Module that it was exported from"
    return f"{type(module).__name__}, expected a torch.nn.Module"


def no_layers(module: nn.Module) -> ModelError:
    """The error for a module in which no layer with weights was found."""
    name = type(module).__name__
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return ModelError(
            f"{name} is TorchScript, whose layers cannot be watched, expected the nn.Module that "
            "it was made from: pass that"
        )
    if any(type(part).forward is nn.Module.forward for part in module.modules()):
        return ModelError(
            f"{name} is an exported graph, which calls none of its modules, expected the nn.Module "
            "that it was exported from: pass that"
        )
    for owner, part in module.named_modules():
        if type(part).__module__.startswith("torch.nn."):
            continue  # norms and tables multiply nothing
        for own, weight in part.named_parameters(recurse=False):
            if weight.ndim > 1:
                return ModelError(
                    f"{name} has its weights in {f'{owner}.{own}' if owner else own} "
                    f"({type(part).__name__}), expected a layer such as nn.Linear or nn.Conv2d, "
                    "whose input can be read: use one in its place"
                )
    return ModelError(
        f"{name} has no module that holds weights, expected layers such as nn.Linear or nn.Conv2d: "
        "is this the whole network?"
    )
