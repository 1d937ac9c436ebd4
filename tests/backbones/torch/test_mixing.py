"""The part of a PyTorch module that mixes samples is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.torch_networks import REASON
from skip2lora.errors import ModelError

torch = pytest.importorskip("torch", reason=REASON)
from torch import nn  # noqa: E402

from skip2lora.backbones.torch.mixing import numbers_of, rounds_batches  # noqa: E402

pytestmark = pytest.mark.usefixtures("torch_generator")

Refused = Callable[..., str]


class Inside(nn.Module):
    """A block that mixes in its own forward, between two layers or behind them."""

    def __init__(self, *, behind: bool) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)  # of one in sixty the part is not told
            self.one, self.two, self.behind = nn.Linear(5, 5), nn.Linear(5, 5), behind

    def forward(self, x: Any) -> Any:
        hidden = torch.relu(self.one(x))
        return self.two(hidden).softmax(0) if self.behind else self.two(hidden - hidden.mean(0))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (nn.BatchNorm1d(5, track_running_stats=False), "Sequential: 1 (BatchNorm1d) mixes"),
        (Inside(behind=False), "what is computed before 1.two (Linear) mixes"),
        (Inside(behind=True), "Sequential: 1 (Inside) mixes"),
    ],
    ids=["norm", "between", "behind"],
)
def test_the_part_is_named(part: nn.Module, said: str, refused: Refused) -> None:
    module = nn.Sequential(nn.Linear(5, 5), part, nn.Linear(5, 3))
    x = np.random.default_rng(0).normal(size=(4, 5))
    assert said in refused(ModelError, s2.TorchBackbone(module).check, x)


def test_what_is_left_of_a_large_tensor() -> None:
    small, large = torch.ones(3, 4), torch.zeros(2, 3, 1 << 20)
    assert numbers_of(small, 3).shape == (3, 4)
    assert numbers_of(large, 2).shape == (2, 3, -(-(1 << 20) // 3))
    values = numbers_of(small, 3)
    small += 1
    assert (values == 1).all()  # a copy


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
def test_dynamic_integers_are_known() -> None:
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    assert not rounds_batches(module)
    quantised = torch.ao.quantization.quantize_dynamic(module, {nn.Linear})
    assert rounds_batches(quantised)
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    s2.TorchBackbone(quantised).check(x)


class Scaled(nn.Module):
    """Halves all of a batch that has a number beyond 20."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        hidden = torch.relu(self.first(x))
        return self.last(hidden / 2 if (x.abs() > 20).any() else hidden)


@pytest.mark.parametrize("at", [0, 7, 39])
@pytest.mark.parametrize("sign", [-1, 1])
def test_what_is_done_to_a_batch_from_some_number_on(at: int, sign: int, refused: Refused) -> None:
    """Samples that have it are looked at beside some that do not."""
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    s2.TorchBackbone(Scaled()).check(x)
    x[at, 2] = sign * 30
    said = refused(ModelError, s2.TorchBackbone(Scaled()).check, x)
    assert "what is computed before last (Linear) mixes the samples" in said
