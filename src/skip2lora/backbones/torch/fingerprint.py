"""What tells one PyTorch module from another."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import torch
from torch import Tensor, nn

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of the state dict (names, types, shapes, values) and the modules' structure."""
    state = hashlib.sha256(_ADDRESS.sub("", repr(module)).encode())
    for name, value in sorted(module.state_dict().items()):
        state.update(f"\0{name}\0".encode())
        _digest(state, value)
    return f"sha256:{state.hexdigest()}"


def _digest(state: Any, value: Any) -> None:
    """Add one value of a state dict: a tensor of any type, or what quantised layers keep."""
    if isinstance(value, Tensor):
        if value.is_quantized:
            value = value.dequantize()
        state.update(f"{value.dtype}{tuple(value.shape)}\0".encode())
        state.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, tuple | list):
        for part in value:
            _digest(state, part)
    else:
        state.update(_ADDRESS.sub("", repr(value)).encode())
