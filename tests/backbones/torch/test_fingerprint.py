"""Fingerprints of modules: of weights and structure, and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest

import skip2lora as s2
from conformance.torch_networks import REASON

torch = pytest.importorskip("torch", reason=REASON)
from torch import nn  # noqa: E402

from skip2lora.backbones.torch.fingerprint import fingerprint  # noqa: E402
from torch_modules import IMAGES, Convolutions  # noqa: E402

pytestmark = pytest.mark.usefixtures("torch_generator")


def test_fingerprint_is_of_weights_and_structure() -> None:
    def own_mark(module: nn.Module, **options: Any) -> str:
        return s2.TorchBackbone(module, **options).fingerprint

    module = Convolutions()
    own = own_mark(module)
    assert own.startswith("sha256:")
    assert len(own) == 71
    assert own_mark(module, taps=1, grid=2, example=IMAGES) == own
    assert own_mark(module.eval()) == own
    for name, value in module.state_dict().items():
        kept = value.clone()
        value.view(-1)[-1:] += 1
        assert own_mark(module) != own, name
        value.copy_(kept)
    assert own_mark(module) == own
    module.act = nn.ReLU6(inplace=True)  # no weight changes
    assert own_mark(module) != own


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


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_fingerprint_is_of_what_quantised_layers_keep() -> None:
    """Tensors of integers with their scale, pairs of them, and settings."""

    class Packed(nn.Linear):
        def __init__(self, *state: Any) -> None:
            super().__init__(2, 2)
            self.state = state

        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return {"packed": self.state}

    def quantised(scale: float) -> torch.Tensor:
        return torch.quantize_per_tensor(torch.ones(3), scale, 0, torch.qint8)

    ones, pair = torch.ones(3), (torch.ones(3), torch.zeros(2))
    states = [
        (quantised(0.3), None), (quantised(0.7), None), (ones, 2), (ones, None),
        (ones[:, None], None), (ones.double(), None), (pair, None), ((ones, ones[:2]), None),
    ]  # fmt: skip
    assert len({fingerprint(Packed(*state)) for state in states}) == len(states)
    assert fingerprint(Packed(*states[0])) == fingerprint(Packed(quantised(0.3), None))
