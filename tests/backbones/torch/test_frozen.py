"""A PyTorch module while it is frozen, and as it was afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.torch_networks import REASON
from skip2lora.arrays import Inputs
from skip2lora.errors import ModelError

torch = pytest.importorskip("torch", reason=REASON)
from torch import nn  # noqa: E402

from skip2lora.backbones.torch.frozen import frozen  # noqa: E402
from torch_modules import Returns, bytes_of, hooks_of, mlp_like, vectors  # noqa: E402

pytestmark = pytest.mark.usefixtures("torch_generator")


def test_all_is_as_it_was_after_an_error() -> None:
    module = nn.Sequential(nn.BatchNorm1d(5), nn.Sequential(nn.Dropout(), nn.Softmax(dim=1)))
    module[1].eval()
    modes = {name: part.training for name, part in module.named_modules()}
    before, threads = bytes_of(module), torch.get_num_threads()
    fused = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(ZeroDivisionError), frozen(module, threads + 1) as running:  # noqa: PT012
        assert not any(part.training for part in module.modules())
        assert not torch.backends.mha.get_fastpath_enabled()
        assert torch.get_num_threads() == threads + 1
        assert hooks_of(module) == 1
        assert not running.run(vectors()).requires_grad
        raise ZeroDivisionError
    assert {name: part.training for name, part in module.named_modules()} == modes
    assert modes[""] is modes["0"] is True
    assert modes["1.0"] is False
    assert torch.backends.mha.get_fastpath_enabled() == fused
    assert torch.get_num_threads() == threads
    assert hooks_of(module) == 0
    assert torch.is_grad_enabled()
    assert bytes_of(module) == before  # running statistics too


@pytest.mark.parametrize("fused", [True, False])
def test_the_fused_path_stays_as_the_caller_has_it(fused: bool) -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(fused)
        with frozen(mlp_like()):
            assert not torch.backends.mha.get_fastpath_enabled()
        assert torch.backends.mha.get_fastpath_enabled() == fused
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.parametrize("floats", [torch.float32, torch.float64])
def test_samples_are_copied_in_the_types_of_the_module(floats: Any) -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("ids", torch.zeros(1, dtype=torch.int64))
            self.layer = nn.Linear(5, 3).to(floats)
            self.types: list[torch.dtype] = []

        def forward(self, x: Any, mask: Any = None) -> Any:
            self.types += [each.dtype for each in (x, mask) if each is not None]
            return x.mul_(0)

    module, x = Writes(), vectors()
    with frozen(module) as running:
        running.run(x)
        running.run(Inputs({"mask": np.ones((4, 1), np.int64), "x": x}))
    assert module.types == [floats, floats, torch.int64]
    assert x.tobytes() == vectors().tobytes()


def test_submodules_by_name() -> None:
    module = nn.Sequential(nn.Linear(5, 3))
    with frozen(module) as running:
        assert running.part("0") is module[0]
        assert running.part("Sequential") is module
        assert running.part("1") is None


def test_activations_at_the_end_are_left_out() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.one, self.many = nn.Linear(5, 3), nn.Softmax(dim=1), nn.Sigmoid()

        def forward(self, x: Any) -> Any:
            y = self.layer(x)
            inside = self.one(y) * 2
            return {"raw": y, "one": self.one(y), "many": self.many(y), "inside": inside}

    module = Several()
    y = module.layer(torch.from_numpy(vectors())).detach().numpy()
    with frozen(module) as running:
        output = running.run(vectors())
        ends = running.ends(output)
        assert {name: end.ending for name, end in ends.items()} == {
            "raw": "", "one": "softmax", "many": "sigmoid", "inside": "softmax",
        }  # fmt: skip
        for name in ("raw", "one", "many", "inside"):
            np.testing.assert_allclose(ends[name].values.numpy(), y, rtol=1e-5)
        again = running.ends(output)
    # Of this run alone: the activation is not remembered, and shares tell of no logits.
    assert again["one"].ending == "probabilities"


def test_the_output_that_is_asked_for(refused: Any) -> None:
    module = Returns(lambda y: {"a": y, "b": y[:, :, None]})
    with frozen(module) as running:
        output = running.run(vectors())
        assert running.logits(output, 4, "a") is output["a"]
        message = refused(ModelError, running.logits, output, 4, "b")
        assert "Returns gave torch.float32 of shape (4, 3, 1) for 4 samples" in message
        assert "expected logits (4, outputs) as b" in message
        gone = refused(ModelError, running.logits, output, 4, "c")
        assert "Returns gave outputs a, b for 4 samples" in gone
        assert "Returns gave list without logits" in refused(ModelError, running.ends, [1, "x"])


def test_activations_of_modules_are_known_without_walking_back() -> None:
    """By what they were called with, but not those called by keyword, nor those of attention."""

    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.one, self.many = nn.Linear(5, 3), nn.Softmax(dim=-1), nn.Sigmoid()

        def forward(self, x: Any) -> Any:
            y = self.layer(x)
            rows = {"one": self.one(y), "many": self.many(y), "keyword": self.one(input=y)}
            return rows | {"single": self.many(y[:, 0]), "tokens": self.one(y[:, None, :])}

    module = Several()
    y = module.layer(torch.from_numpy(vectors())).detach()
    with frozen(module, walked=False) as running:
        output = running.run(vectors())
        ends = running.ends(output)
    for name, ending, given in (
        ("one", "softmax", y), ("many", "sigmoid", y), ("single", "sigmoid", y[:, 0]),
    ):  # fmt: skip
        assert ends[name].ending == ending
        np.testing.assert_array_equal(ends[name].values.numpy(), given.numpy())
    for name in ("keyword", "tokens"):
        assert ends[name].values is output[name]
