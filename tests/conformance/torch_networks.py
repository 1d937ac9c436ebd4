"""PyTorch networks whose weights do not come from PyTorch's global generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import skip2lora as s2

REASON = "PyTorch is not installed: make test TEST_GROUPS='test torch'"


def of_mlp(model: s2.MLP) -> Any:
    """The same network as an ``nn.Sequential``: Linear, BatchNorm1d, ReLU, ..., Linear."""
    torch = pytest.importorskip("torch", reason=REASON)
    parts: list[Any] = []
    for layer in model.layers:
        linear = torch.nn.Linear(*layer.weight.shape)
        _set(linear, weight=layer.weight.T, bias=layer.bias)
        parts.append(linear)
        if layer.gamma is not None:
            norm = torch.nn.BatchNorm1d(len(layer.gamma), eps=model.bn_eps)
            _set(
                norm, weight=layer.gamma, bias=layer.beta,
                running_mean=layer.mean, running_var=layer.var,
            )  # fmt: skip
            parts.append(norm)
        if layer is not model.layers[-1]:
            parts.append(torch.nn.ReLU())
    return torch.nn.Sequential(*parts)


def backbone_of_mlp(model: s2.MLP) -> Any:
    """:func:`of_mlp` behind a batch norm, so that no tap is the sample, and known already."""
    network = of_mlp(model)
    from torch import nn

    norm = nn.BatchNorm1d(model.n_features)
    _set(norm, running_mean=np.full(model.n_features, 0.1), weight=np.full(model.n_features, 0.9))
    return s2.TorchBackbone(
        nn.Sequential(norm, *network), example=np.zeros((1, model.n_features)), batch_size=16
    )


def _set(module: Any, **tensors: Any) -> None:
    import torch

    with torch.no_grad():
        for name, array in tensors.items():
            getattr(module, name).copy_(torch.tensor(np.ascontiguousarray(array)))
