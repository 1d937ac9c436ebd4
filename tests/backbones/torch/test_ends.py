"""Outputs of what a PyTorch module returned, and how each is described."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.torch_networks import REASON
from skip2lora.backbones.outputs import OutputSpec

torch = pytest.importorskip("torch", reason=REASON)

from skip2lora.backbones.torch.ends import End, outputs_in  # noqa: E402

Pair = namedtuple("Pair", "scores hidden")


class WithProperty:
    """As objects whose logits are computed when they are asked for."""

    def __init__(self) -> None:
        self.hidden, self.loss = 1, None

    @property
    def logits(self) -> int:
        return 2


@pytest.mark.parametrize(
    ("output", "names"),
    [
        ({"a": 1, 2: 3}, {"a": 1, "2": 3}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        ((1, None), {"0": 1, "1": None}),
        ([5], {"0": 5}),
        (Pair(1, 2), {"scores": 1, "hidden": 2}),
        (SimpleNamespace(loss=None, logits=1, hidden=2), {"logits": 1, "hidden": 2}),
        (WithProperty(), {"hidden": 1, "logits": 2}),
        ("logits", {}),
        (None, {}),
        ((), {}),
    ],
    ids=["mapping", "ordered", "tuple", "list", "named tuple", "object", "property", "text",
         "nothing", "empty"],
)  # fmt: skip
def test_outputs_by_name(output: Any, names: dict[str, Any]) -> None:
    assert outputs_in(output) == names


def test_a_tensor_is_one_output() -> None:
    tensor = torch.zeros(2, 3)
    outputs = outputs_in(tensor)
    assert list(outputs) == ["output"]
    assert outputs["output"] is tensor


def test_rows_are_logits_a_sample() -> None:
    assert End(torch.zeros(4, 3)).rows(4).shape == (4, 3)
    assert End(torch.arange(4.0)).rows(4).tolist() == [[0], [1], [2], [3]]
    others = [torch.zeros(4, 3), torch.zeros(5, 3, 1), torch.zeros(5, 3).int(), torch.tensor(1.0)]
    for values in [*others, [1.0] * 5, None]:
        assert End(values).rows(5) is None


@pytest.mark.parametrize(
    ("end", "layer", "spec"),
    [
        (End(torch.zeros(2, 3)), True, OutputSpec("y", (3,), "logits")),
        (End(torch.zeros(2, 3)), False, OutputSpec("y", (3,), "unknown")),
        (End(torch.zeros(2, 3), "softmax"), True, OutputSpec("y", (3,), "softmax")),
        (End(torch.zeros(2)), True, OutputSpec("y", (1,), "logits")),
        (End(torch.zeros(2, 5, 3)), True, OutputSpec("y", (None, None), "unknown")),
        (End(torch.zeros(2, 5, 3), "sigmoid"), True, OutputSpec("y", (None, None), "sigmoid")),
        (End("text"), True, OutputSpec("y", (), "unknown")),
    ],
    ids=["layer", "no layer", "softmax", "one number", "map", "map of sigmoids", "no tensor"],
)
def test_how_an_output_is_described(end: End, layer: bool, spec: OutputSpec) -> None:
    assert end.spec("y", 2, layer=layer) == spec


def test_an_end_for_messages() -> None:
    assert str(End(torch.zeros(2, 3).half())) == "torch.float16 of shape (2, 3)"
    assert str(End([1])) == "list"
