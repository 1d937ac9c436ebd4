"""Ends of a module that no module of its own makes: functions in ``forward``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra torch)")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

import skip2lora as s2  # noqa: E402
from skip2lora.errors import ModelError  # noqa: E402

X = np.random.default_rng(3).normal(size=(12, 6)).astype(np.float32)
Refused = Callable[..., str]


class Ended(nn.Module):
    def __init__(self, width: int, end: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.last, self.end = nn.Linear(6, 8), nn.Linear(8, width), end

    def forward(self, x: Any) -> Any:
        return self.end(self.last(torch.relu(self.hidden(x))))


def pair(z: Any) -> Any:
    p = torch.sigmoid(z)
    return torch.cat([1 - p, p], 1)


KEPT: dict[str, tuple[int, Any, Any]] = {
    "softmax": (3, lambda z: torch.softmax(z, 1), lambda p, _: p),
    "log": (3, lambda z: functional.log_softmax(z, 1), lambda p, _: np.log(p)),
    "percent": (3, lambda z: z.softmax(1) * 100, lambda p, _: 100 * p),
    "clamped": (3, lambda z: z.softmax(1).clamp(1e-7, 1 - 1e-7), lambda p, _: p),
    "temperature": (3, lambda z: torch.softmax(z / 3, 1), lambda p, _: p),
    "label": (3, lambda z: z.argmax(1), lambda _, y: y),
    "sigmoid": (3, torch.sigmoid, lambda p, _: p),
    "one sigmoid a sample": (1, lambda z: torch.sigmoid(z).squeeze(1), lambda p, _: p[:, 0]),
    "1 - p, p": (1, pair, lambda p, _: p),
    "turned": (2, lambda z: 1 - z.sigmoid(), lambda p, _: p),
    "threshold": (3, lambda z: (torch.sigmoid(z) > 0.5).long(), lambda _, y: y),
    "log of sigmoid": (3, functional.logsigmoid, lambda p, _: np.log(p)),
}
CLOSED: dict[str, Any] = {
    "mean of two": lambda z: (torch.softmax(z, 1) + torch.sigmoid(z)) / 2,
    "clamped from 0.1": lambda z: z.softmax(1).clamp(0.1, 0.9),
    "threshold elsewhere": lambda z: torch.sigmoid(z) > 0.7,
    "in place": lambda z: z.sigmoid_(),
    "over another axis": lambda z: torch.softmax(z[:, :, None], 2)[:, :, 0],
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept(name: str) -> None:
    width, end, expected = KEPT[name]
    module = Ended(width, end).eval()
    model = s2.TorchBackbone(module, example=X)
    with torch.no_grad():
        stock = module(torch.from_numpy(X)).numpy()
    want = expected(model.predict_proba(X), model.predict(X))
    assert want.shape == stock.shape
    np.testing.assert_allclose(stock, want, rtol=1e-4, atol=1e-6)
    logits = model.forward(model.check(X)).base_logits
    np.testing.assert_array_equal(logits, model.logits(X))


@pytest.mark.parametrize("name", CLOSED)
def test_what_is_refused(name: str, refused: Refused) -> None:
    said = refused(ModelError, s2.TorchBackbone, Ended(3, CLOSED[name]), example=X)
    assert "expected logits" in said


def test_one_number_and_two_classes() -> None:
    model = s2.TorchBackbone(Ended(1, torch.sigmoid), example=X)
    assert (model.n_outputs, model.task) == (1, "multi-label")
    adapted = s2.adapt(model, X, (X[:, 0] > 0).astype(int), epochs=60, learning_rate=0.05)
    assert adapted.predict_proba(X).shape == (12, 2)
    assert adapted.score(X, (X[:, 0] > 0).astype(int)) > 0.8
    number = s2.TorchBackbone(Ended(1, lambda z: z.squeeze(1)), example=X)
    assert (number.n_outputs, number.task) == (1, "regression")
