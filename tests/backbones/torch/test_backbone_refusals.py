"""What ``TorchBackbone`` refuses: one line with what was got, expected, and to be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import skip2lora as s2
from conformance.torch_networks import REASON
from skip2lora.errors import DataError, ModelError, ParameterError

torch = pytest.importorskip("torch", reason=REASON)

from torch import nn  # noqa: E402

from torch_modules import (  # noqa: E402
    IMAGES,
    TOKENS,
    Convolutions,
    Encoder,
    Returns,
    hooks_of,
    mlp_like,
    vectors,
)

Refused = Callable[..., str]

pytestmark = pytest.mark.usefixtures("torch_generator")


def test_taps_are_known_after_data(refused: Refused) -> None:
    backbone = s2.TorchBackbone(mlp_like())
    for name in ("tap_widths", "n_outputs", "layers", "taps", "task"):
        message = refused(ParameterError, getattr, backbone, name)
        assert "the taps of Sequential are not known yet" in message
        assert "pass example=, one sample or more, or call check(X) first" in message
    backbone.check(vectors())
    assert backbone.tap_widths == (5, 8)
    assert backbone.with_taps("2").tap_widths == (8,)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: "net.pt", "module is str, expected a torch.nn.Module"),
        (lambda: nn.Linear, "module is the class Linear, expected a torch.nn.Module"),
    ],
)
def test_what_is_no_module(make: Any, said: str, refused: Refused) -> None:
    assert said in refused(ParameterError, s2.TorchBackbone, make())


@pytest.mark.parametrize("option", [{"grid": 0}, {"grid": True}, {"batch_size": 2.0}])
def test_bad_options(option: dict[str, Any], refused: Refused) -> None:
    (name, value) = next(iter(option.items()))
    to = " to 64" if name == "grid" else ""
    message = refused(ParameterError, s2.TorchBackbone, mlp_like(), **option)
    assert message == f"{name} is {value!r}, expected a whole number from 1{to}: choose another"


@pytest.mark.parametrize(
    ("taps", "said"),
    [
        ("nolayer", 'taps has "nolayer", which fits no layer, expected names or patterns'),
        (["lastt"], "such as last"),
        (9, "taps is 9, expected a number of layers from 1 to 3"),
        ([5], "taps has layer 5, expected a number from 0 to 2"),
        ([], "taps is empty"),
        ("norm", 'taps has "norm", which fits no layer'),
    ],
)
def test_unknown_taps(taps: Any, said: str, refused: Refused) -> None:
    known = s2.TorchBackbone(Convolutions(), example=IMAGES[:1])
    assert said in refused(ParameterError, known.with_taps, taps)
    assert said in refused(
        ParameterError, s2.TorchBackbone, Convolutions(), taps=taps, example=IMAGES
    )


@pytest.mark.parametrize("error", [ZeroDivisionError("oh"), RuntimeError("first\nsecond")])
def test_an_error_in_forward(error: Exception, refused: Refused) -> None:
    module = Returns(lambda y: y).train()
    backbone = s2.TorchBackbone(module, example=vectors(), batch_size=3)

    def fail(y: Any) -> Any:
        if len(y) == 1:  # the second batch
            raise error
        return y

    module.function = fail
    for call in (backbone.forward, backbone.logits):
        message = refused(ModelError, call, vectors())
        said = str(error).splitlines()[0]
        assert f"Returns failed on samples 3 to 3 ({said}), expected logits" in message
        assert hooks_of(module) == 0
        assert module.training
        assert torch.backends.mha.get_fastpath_enabled()
        assert torch.is_grad_enabled()


def test_a_module_that_was_changed(refused: Refused) -> None:
    module = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    backbone = s2.TorchBackbone(module, example=vectors())
    module[2] = nn.Linear(6, 4)
    said = "Sequential gave 4 outputs, expected 3 as at first: make a new TorchBackbone"
    assert said in refused(ModelError, backbone.forward, vectors())
    module[2] = nn.Linear(6, 3)
    module[0] = nn.Identity()
    module[2] = nn.Linear(5, 3)
    del module[1]
    assert "Sequential did not call layer 2" in refused(ModelError, backbone.forward, vectors())


def test_interrupts_pass_through() -> None:
    def stop(y: Any) -> Any:
        raise KeyboardInterrupt

    module = Returns(stop).train()
    with pytest.raises(KeyboardInterrupt):
        s2.TorchBackbone(module, example=vectors())
    assert hooks_of(module) == 0
    assert module.training


def test_ids_out_of_the_table(refused: Refused) -> None:
    backbone = s2.TorchBackbone(Encoder(), example=TOKENS)
    message = refused(ModelError, backbone.logits, TOKENS + 20)
    assert "Encoder failed on samples 0 to 5 (index out of range in self)" in message
    message = refused(DataError, s2.TorchBackbone(Encoder()).check, TOKENS + 20)
    assert "which Encoder cannot take (index out of range in self)" in message
