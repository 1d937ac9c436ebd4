"""The reason of a refusal is the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the package torch: pip group torch")

from torch import nn  # noqa: E402

import skip2lora as s2  # noqa: E402
from skip2lora.errors import DataError, ModelError, ParameterError  # noqa: E402

Refused = Callable[..., str]
X = np.ones((5, 4), np.float32)


class Own(nn.Module):
    """Multiplies with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(4, 3))

    def forward(self, x: Any) -> Any:
        return x @ self.w


class Sum(nn.Module):
    """Two inputs, and one that may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, a: Any, b: Any, c: Any = None) -> Any:
        return self.layer(a + 2 * b)


def linear(**options: Any) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3, **options))


WITHOUT = {
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), "no weights yet in 0 (LazyLinear)"),
    "lazy first": (lambda: nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 3)), "0 (LazyLinear)"),
    "lazy convolution": (lambda: nn.Sequential(nn.LazyConv1d(3, 2)), "0 (LazyConv1d)"),
    "meta": (lambda: linear(device="meta"), "no weights in 0 (Linear), which is on the device"),
    "own": (Own, "has its weights in w (Own), expected a layer"),
    "own inside": (lambda: nn.Sequential(nn.LayerNorm(4), Own()), "has its weights in 1.w (Own)"),
    "table": (lambda: nn.Sequential(nn.Embedding(4, 3)), "has no module that holds weights"),
    "none": (lambda: nn.Sequential(nn.ReLU()), "has no module that holds weights"),
    "exported": (
        lambda: torch.export.export(linear(), (torch.ones(2, 4),)).module(),
        "is an exported graph, which calls none of its modules",
    ),
    "script": (lambda: torch.jit.script(linear()), "is TorchScript, whose layers cannot"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:Lazy")
@pytest.mark.parametrize("kind", WITHOUT)
def test_modules_without_layers(kind: str, refused: Refused) -> None:
    make, said = WITHOUT[kind]
    assert said in refused(ModelError, s2.TorchBackbone, make(), example=X)


@pytest.mark.filterwarnings("ignore:Lazy")
def test_a_lazy_layer_that_ran_is_one_like_any(refused: Refused) -> None:
    module = nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(3))
    module(torch.ones(2, 4))
    assert s2.TorchBackbone(module, example=X).tap_widths == (4, 6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (nn.Linear, "module is the class Linear, expected a torch.nn.Module made of it"),
        (linear().state_dict(), "module is a dict, as of a state dict, which holds weights alone"),
        (torch.export.export(linear(), (torch.ones(2, 4),)), "module is an ExportedProgram"),
        (torch.ones(3), "module is Tensor, expected a torch.nn.Module"),
        ("model.pt", "module is str, expected a torch.nn.Module"),
    ],
)
def test_what_is_no_module(given: Any, said: str, refused: Refused) -> None:
    assert said in refused(ParameterError, s2.TorchBackbone, given)


def test_a_list_is_one_array_an_input_where_several_are_required() -> None:
    a, b = X, np.full((5, 4), 3, np.float32)
    model = s2.TorchBackbone(Sum(), example={"a": a, "b": b})
    assert np.array_equal(model.logits([a, b]), model.logits({"a": a, "b": b}))
    assert np.array_equal(model.logits([a, b]), model.logits((a, b)))
    single = s2.TorchBackbone(linear(), example=X)
    assert np.array_equal(single.logits([list(row) for row in X[:2]]), single.logits(X[:2]))


def test_a_missing_input_is_named(refused: Refused) -> None:
    said = refused(DataError, s2.TorchBackbone(Sum()).check, X)
    assert "missing 1 required positional argument: 'b'" in said
