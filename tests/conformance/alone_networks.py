"""PyTorch networks that put samples elsewhere than first, or mix them, as modules and files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: make test TEST_GROUPS='test torch'")

import torch
from torch import nn


class Encoder(nn.Module):
    """``nn.TransformerEncoder`` with the samples first or second, and a head."""

    def __init__(self, *, batch_first: bool, turned: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=batch_first, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.tokens, self.turned = int(batch_first), turned
        self.head = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        if self.turned:
            x = x.transpose(0, 1)
        return self.head(self.encoder(x).mean(self.tokens))


class Attention(nn.Module):
    """``nn.MultiheadAttention`` over patches, as a vision transformer has it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.attention = nn.MultiheadAttention(8, 4)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        tokens = self.patches(x).flatten(2).permute(2, 0, 1)
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0][0])


class Heads(nn.Module):
    """Layers over (heads x samples, tokens, width) and over (tokens x samples x heads, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:  # (samples, 5, 8)
        samples = x.shape[0]
        heads = x.reshape(samples, 5, 2, 4).permute(2, 0, 1, 3).reshape(2 * samples, 5, 4)
        heads = torch.relu(self.one(heads)).reshape(2, samples, 5, 4)
        tokens = heads.permute(2, 1, 0, 3).reshape(-1, 4)
        tokens = torch.relu(self.other(tokens)).reshape(5, samples, 8)
        return self.head(tokens.mean(0))


class Windows(nn.Module):
    """A recurrent layer over windows of all samples, another over the windows of one."""

    def __init__(self, kind: Any = nn.LSTM) -> None:
        super().__init__()
        self.inner = kind(6, 8, batch_first=True)
        self.outer = kind(8, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:  # (samples, 5, 7, 6)
        inner = self.inner(x.reshape(-1, 7, 6))[0][:, -1]
        return self.head(self.outer(inner.reshape(x.shape[0], 5, 8))[0][:, -1])


class ImageRows(nn.Module):
    """A recurrent layer over the rows of all images, another over all columns."""

    def __init__(self) -> None:
        super().__init__()
        self.across, self.down = nn.GRU(3, 4, batch_first=True), nn.GRU(4, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:  # (samples, 3, 6, 5)
        samples = x.shape[0]
        rows = self.across(x.permute(0, 2, 3, 1).reshape(-1, 5, 3))[0]
        columns = rows.reshape(samples, 6, 5, 4).transpose(1, 2).reshape(-1, 6, 4)
        return self.head(self.down(columns)[0].reshape(samples, 5, 6, 4).mean((1, 2)))


class Words(nn.Module):
    """Letters of words of sentences: token ids that are folded twice."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.word = nn.Embedding(20, 4), nn.GRU(4, 6, batch_first=True)
        self.sentence, self.head = nn.GRU(6, 6), nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:  # (samples, 4 words, 5 letters)
        words = self.word(self.letters(x.reshape(-1, 5)))[0][:, -1].reshape(x.shape[0], 4, 6)
        return self.head(self.sentence(words.transpose(0, 1))[0][-1])


class TimeFirst(nn.Module):
    """The default of ``nn.LSTM``: (time, samples, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(6, 4, bidirectional=True), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(x)[0][-1])


class Folded(nn.Module):
    """Norms over samples and channels in one axis, and a width that holds samples last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4)
        self.group, self.after = nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3)
        self.weight, self.head = nn.Parameter(torch.randn(6, 4) / 2), nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        maps = torch.relu(self.after(self.group(self.norm(self.conv(x)))))
        return self.head((self.weight @ maps.mean((2, 3)).T).T)


class Mixing(nn.Module):
    """Two layers, and between them what makes a sample's numbers depend on the others."""

    def __init__(self, between: Callable[[Any], Any]) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Linear(6, 5), between, nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        return self.last(self.between(torch.relu(self.first(x))))


class Aside(nn.Module):
    """A layer that reads the samples in another order, which is undone behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.aside, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        first = torch.relu(self.first(x))
        return self.last(self.aside(first.flip(0)).flip(0) + first)


class Baked(nn.Module):
    """Made for so many samples at a time, which only its inside says."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.first, self.last = count, nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        return self.last(torch.relu(self.first(x)).reshape(self.count, 2, 4).flatten(1))


class Dead(nn.Module):
    """A layer over tokens of all samples that are zero, unless a sample is large."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.dead, self.last = nn.Linear(6, 4), nn.Linear(2, 2), nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        first = self.first(x)
        tokens = torch.relu(first - 20).reshape(-1, 2)
        return self.last(self.dead(tokens).reshape(first.shape) + first)


Shape = tuple[int, ...]
#: Each a module and the shape of one sample.
SEPARATE: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "encoder": (lambda: Encoder(batch_first=True), (5, 8)),
    "encoder, tokens first": (lambda: Encoder(batch_first=False, turned=True), (5, 8)),
    "attention over patches": (Attention, (3, 8, 12)),
    "heads": (Heads, (5, 8)),
    "windows": (Windows, (5, 7, 6)),
    "windows, GRU": (lambda: Windows(nn.GRU), (5, 7, 6)),
    "rows of images": (ImageRows, (3, 6, 5)),
    "words": (Words, (4, 5)),
    "norms": (Folded, (3, 9, 9)),
}
TIME_FIRST: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "LSTM": (TimeFirst, (7, 6)),
    "encoder": (lambda: Encoder(batch_first=False), (5, 8)),
}
MIXERS: dict[str, Callable[[], nn.Module]] = {
    "batch norm without statistics": lambda: Mixing(nn.BatchNorm1d(5, track_running_stats=False)),
    "mean": lambda: Mixing(lambda x: x - x.mean(0)),
    "softmax": lambda: Mixing(nn.Softmax(0)),
    "sum of those before": lambda: Mixing(lambda x: x.cumsum(0)),
    "largest": lambda: Mixing(lambda x: x / x.max()),
    "sorted": lambda: Mixing(lambda x: x.sort(0).values),
    "the one before": lambda: Mixing(lambda x: x + x.roll(1, 0)),
    "each with each": lambda: Mixing(lambda x: torch.softmax(x @ x.T, 1) @ x),
}


def made(make: Callable[[], nn.Module]) -> nn.Module:
    """A module with weights of its own, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make().eval()


def samples(shape: Shape, count: int, *, tokens: bool = False) -> np.ndarray:
    random = np.random.default_rng(1)
    if tokens:
        return random.integers(0, 20, (count, *shape))
    return random.normal(size=(count, *shape)).astype(np.float32)


def exported(
    module: nn.Module, x: np.ndarray, path: Path, *, axis: int = 0, dynamo: bool = False
) -> Path:
    """``module`` as .onnx, any number of samples along ``axis``."""
    example = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x[:3], 0, axis)))
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if dynamo:
                torch.onnx.export(
                    module, (example,), path, dynamo=True, external_data=False, verbose=False,
                    dynamic_shapes=({axis: torch.export.Dim.DYNAMIC},),
                )  # fmt: skip
            else:
                torch.onnx.export(
                    module, (example,), path, dynamo=False, input_names=["x"],
                    output_names=["y"], dynamic_axes={"x": {axis: "n"}, "y": {0: "n"}},
                    opset_version=17,
                )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    return path
