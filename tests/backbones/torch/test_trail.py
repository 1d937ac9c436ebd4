"""Ends of a module that no module of its own makes: functions in ``forward``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra torch)")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

import skip2lora as s2  # noqa: E402
from skip2lora.backbones.torch.trail import _function  # noqa: E402
from skip2lora.errors import ModelError, ParameterError  # noqa: E402

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
    "of another type": (3, lambda z: z.softmax(1).double(), lambda p, _: p),
    "truths": (3, lambda z: (torch.sigmoid(z) > 0.5).float().bool(), lambda _, y: y),
    "log of sigmoid": (3, functional.logsigmoid, lambda p, _: np.log(p)),
}
CLOSED: dict[str, Any] = {
    "mean of two": lambda z: (torch.softmax(z, 1) + torch.sigmoid(z)) / 2,
    "clamped from 0.1": lambda z: z.softmax(1).clamp(0.1, 0.9),
    "threshold elsewhere": lambda z: torch.sigmoid(z) > 0.7,
    "in place": lambda z: z.sigmoid_(),
    "over another axis": lambda z: torch.softmax(z[:, :, None], 2)[:, :, 0],
    "turned softmax": lambda z: 1 - z.softmax(1),
    "product": lambda z: z.softmax(1) * z.sigmoid(),
    "label of a mean": lambda z: (z.softmax(1) + z.sigmoid()).argmax(1),
    "cut off": lambda z: (z.softmax(1) * 100).long(),
    "whole logits": lambda z: z.long(),
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
def test_what_cannot_be_undone_is_refused_but_for_new_outputs(name: str, refused: Refused) -> None:
    module, y = Ended(3, CLOSED[name]), (X[:, 0] > 0).astype(int)
    model = s2.TorchBackbone(module, example=X)
    [spec] = model.outputs
    assert (model.n_outputs, model.output) == (0, None)
    assert spec.closed
    for call in (lambda: model.predict_proba(X), lambda: s2.adapt(model, X, y)):
        said = refused(ModelError, call)
        assert f"({spec.name} is {spec.reason})" in said
        assert "keep_outputs=False" in said
    said = refused(ParameterError, s2.TorchBackbone, module, example=X, output="output")
    assert f"which is {spec.reason}, expected one with logits" in said
    for fresh in (model, s2.TorchBackbone(module)):  # its taps known already, or not yet
        adapted = s2.adapt(fresh, X, y, keep_outputs=False, epochs=60, learning_rate=0.05)
        assert adapted.score(X, y) > 0.8


@pytest.mark.parametrize("mixes", [True, False])
def test_samples_are_told_apart_without_logits_too(mixes: bool, refused: Refused) -> None:
    """A module whose probabilities depend on the batch is refused, with logits or without."""
    module = Ended(3, lambda z: (z - z.mean(0) * mixes).softmax(1).clamp(0.1, 0.9))
    if not mixes:
        assert s2.TorchBackbone(module, example=X).taps
        return
    said = refused(ModelError, s2.TorchBackbone, module, example=X)
    assert "forward (Ended) mixes the samples of a batch" in said


def test_a_field_called_logits_that_has_none(tmp_path: Path) -> None:
    """It is not taken for its name; an adapter with outputs of its own comes back."""
    module = Ended(3, lambda z: {"logits": z.softmax(1).clamp(0.1, 0.9), "size": len(z)})
    model = s2.TorchBackbone(module, example=X)
    assert (model.output, model.n_outputs) == (None, 0)
    y = np.where(X[:, 0] > 0, "ok", "bad")
    adapted = s2.adapt(model, X, y, keep_outputs=False, epochs=60, learning_rate=0.05)
    adapted.save(tmp_path / "a")
    again = s2.AdaptedModel.load(s2.TorchBackbone(module, example=X), tmp_path / "a")
    assert again.predict(X).tolist() == adapted.predict(X).tolist()
    assert again.class_names == ("bad", "ok")


def test_one_number_and_two_classes() -> None:
    model = s2.TorchBackbone(Ended(1, torch.sigmoid), example=X)
    assert (model.n_outputs, model.task) == (1, "multi-label")
    adapted = s2.adapt(model, X, (X[:, 0] > 0).astype(int), epochs=60, learning_rate=0.05)
    assert adapted.predict_proba(X).shape == (12, 2)
    assert adapted.score(X, (X[:, 0] > 0).astype(int)) > 0.8
    number = s2.TorchBackbone(Ended(1, lambda z: z.squeeze(1)), example=X)
    assert (number.n_outputs, number.task) == (1, "regression")


def test_functions_with_a_factor_are_not_those_without() -> None:
    """``torch.add(x, 3, alpha=2)`` adds 6."""
    assert _function("add", (None, 3), {"alpha": 2}, (1,), "t") is None
    assert _function("add", (None, 3), {"alpha": 1}, (1, 2), "t") is None
    plain = _function("add", (None, 3), {"alpha": 1}, (1,), "t")
    assert plain is not None
    assert plain.apply is not None
    assert plain.apply(np.array([1.0, 2.0])).tolist() == [4, 5]


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "want"),
    [
        ("clamp", (None, -1, 2), {}, [-1, 0, 2]), ("clamp", (None,), {"max": 0}, [-5, 0, 0]),
        ("clamp_min", (None, -1), {}, [-1, 0, 5]), ("clamp_max", (None, 2), {}, [-5, 0, 2]),
        ("clamp", (None, None, 2), {}, [-5, 0, 2]),
    ],
)  # fmt: skip
def test_clamps(name: str, args: Any, kwargs: Any, want: list[float]) -> None:
    op = _function(name, args, kwargs, (1,), "t")
    assert op is not None
    assert op.apply is not None
    assert op.apply(np.array([-5.0, 0.0, 5.0])).tolist() == want
