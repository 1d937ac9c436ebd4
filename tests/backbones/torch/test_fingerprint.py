"""Fingerprints of modules: of weights and structure, and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest

import skip2lora as s2
from conformance.torch_networks import REASON

torch = pytest.importorskip("torch", reason=REASON)
from torch import nn  # noqa: E402

from torch_modules import IMAGES, Convolutions  # noqa: E402

pytestmark = pytest.mark.usefixtures("torch_generator")


def test_fingerprint_is_of_weights_and_structure() -> None:
    def fingerprint(module: nn.Module, **options: Any) -> str:
        return s2.TorchBackbone(module, **options).fingerprint

    module = Convolutions()
    own = fingerprint(module)
    assert own.startswith("sha256:")
    assert len(own) == 71
    assert fingerprint(module, taps=1, grid=2, example=IMAGES) == own
    assert fingerprint(module.eval()) == own
    for name, value in module.state_dict().items():
        kept = value.clone()
        value.view(-1)[-1:] += 1
        assert fingerprint(module) != own, name
        value.copy_(kept)
    assert fingerprint(module) == own
    module.act = nn.ReLU6(inplace=True)  # no weight changes
    assert fingerprint(module) != own


def test_fingerprint_has_no_addresses() -> None:
    class Told(nn.Linear):
        def __init__(self) -> None:
            super().__init__(5, 3)
            self.thing = object()

        def extra_repr(self) -> str:
            return repr(self.thing)

    one, other = Told(), Told()
    other.load_state_dict(one.state_dict())
    assert repr(one) != repr(other)
    assert s2.TorchBackbone(one).fingerprint == s2.TorchBackbone(other).fingerprint
