"""Small PyTorch modules and samples for the tests of ``TorchBackbone``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import skip2lora as s2

IMAGES = np.random.default_rng(0).normal(size=(9, 3, 10, 7)).astype(np.float32)
TOKENS = np.random.default_rng(1).integers(0, 20, (6, 5))
PADDED = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], *[[1, 1, 1, 1, 0]] * 4])


class Convolutions(nn.Module):
    """Conv, batch norm, depthwise conv, a ReLU in place, pooling and a classifier."""

    def __init__(self, n_outputs: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.act = nn.ReLU(inplace=True)
        self.last = nn.Linear(6, n_outputs)
        nn.init.normal_(self.norm.running_mean)
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Any) -> Any:
        h = self.act(self.norm(self.first(x)))
        h = self.act(self.depthwise(h))
        return self.last(h.mean((2, 3)))


class Encoder(nn.Module):
    """Token ids through ``nn.TransformerEncoder``, with PyTorch's kind of mask or the usual one."""

    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.table = nn.Embedding(20, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first)
        self.head = nn.Linear(8, 3)

    def forward(
        self, ids: Any, attention_mask: Any = None, src_key_padding_mask: Any = None
    ) -> Any:
        if attention_mask is not None:
            src_key_padding_mask = attention_mask == 0
        h = self.table(ids)
        h = h if self.batch_first else h.transpose(0, 1)
        h = self.encoder(h, src_key_padding_mask=src_key_padding_mask)
        return self.head(h[:, 0] if self.batch_first else h[0])


class Returns(nn.Module):
    """A linear layer whose output goes through any function."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(self.layer(x))


def mlp_like(*ends: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3), *ends)


def vectors(n_samples: int = 4, width: int = 5) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(n_samples, width)).astype(np.float32)


def names(backbone: s2.TorchBackbone) -> list[str]:
    return [tap.layer for tap in backbone.taps]


def bytes_of(module: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def hooks_of(module: nn.Module) -> int:
    return sum(len(p._forward_pre_hooks) + len(p._forward_hooks) for p in module.modules())


class Shared(nn.Module):
    """One block three times, as ALBERT has; ``calls`` may change."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head, self.calls = nn.Linear(5, 5), nn.Linear(5, 3), 3

    def forward(self, x: Any) -> Any:
        for _ in range(self.calls):
            x = torch.tanh(self.block(x))
        return self.head(x)


def inputs_of(module: nn.Module, *args: Any, layers: list[str], **kwargs: Any) -> list[np.ndarray]:
    """What the layers read when the module runs as it is, by hooks of the test's own."""
    found, handles = {}, []
    for name in layers:

        def keep(part: Any, given: Any, name: str = name) -> None:
            found[name] = given[0].detach().clone().float().numpy()

        handles.append(module.get_submodule(name).register_forward_pre_hook(keep))
    with torch.no_grad():
        module(*args, **kwargs)
    for handle in handles:
        handle.remove()
    return [found[name] for name in layers]
