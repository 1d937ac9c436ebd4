"""What ``TorchBackbone`` refuses: one line with what was got, expected, and to be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.torch_networks import REASON
from skip2lora.errors import DataError, ModelError, ParameterError

torch = pytest.importorskip("torch", reason=REASON)
from torch import nn  # noqa: E402

from torch_modules import (  # noqa: E402
    IMAGES,
    PADDED,
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
        (lambda: nn.Linear, "module is type, expected a torch.nn.Module"),
    ],
)
def test_what_is_no_module(make: Any, said: str, refused: Refused) -> None:
    assert said in refused(ParameterError, s2.TorchBackbone, make())


@pytest.mark.parametrize("option", [{"grid": 0}, {"grid": True}, {"batch_size": 2.0}])
def test_bad_options(option: dict[str, Any], refused: Refused) -> None:
    (name, value) = next(iter(option.items()))
    to = " to 64" if name == "grid" else ""
    message = refused(ParameterError, s2.TorchBackbone, mlp_like(), **option)
    assert message == f"{name} is {value!r}, expected a whole number from 1{to}"


@pytest.mark.parametrize(
    "module",
    [nn.ReLU(), nn.Sequential(nn.LayerNorm((2, 5)), nn.Dropout()), nn.Embedding(4, 3)],
    ids=["ReLU", "norms", "table"],
)
def test_no_weights(module: nn.Module, refused: Refused) -> None:
    message = refused(ModelError, s2.TorchBackbone, module)
    assert f"{type(module).__name__} has no module that holds weights, expected layers" in message


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("how", ["exported", "traced"])
def test_graphs(how: str, refused: Refused) -> None:
    example = torch.zeros(2, 5)
    if how == "exported":
        graph = torch.export.export(mlp_like(), (example,)).module()
    else:
        graph = torch.jit.trace(mlp_like(), example)
    message = refused(ModelError, s2.TorchBackbone, graph, example=vectors())
    assert "pass the nn.Module itself, not a traced or exported one" in message


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


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda y: y[:, :, None, None], "gave torch.float32 of shape (2, 3, 1, 1) for 2 samples"),
        (lambda y: y.argmax(1), "gave torch.int64 of shape (2, 1) for 2 samples, expected logits"),
        (lambda y: y.sum(0), "gave torch.float32 of shape (3, 1) for 2 samples"),
        (lambda y: y[:1], "gave torch.float32 of shape (1, 3) for 2 samples"),
        (lambda y: {"hidden": y}, "gave dict without logits, expected a tensor (samples, outputs)"),
        (lambda y: (), "gave tuple without logits"),
        (lambda y: None, "gave NoneType without logits"),
        (lambda y: y @ y.new_ones(3, len(y)), "gave 2 outputs for 2 samples and 3 for 3, expected"),
    ],
    ids=["4-d", "labels", "not a sample", "one of two", "dict", "tuple", "nothing", "square"],
)
def test_what_is_no_logits(function: Any, said: str, refused: Refused) -> None:
    module = Returns(function)
    for call in (s2.TorchBackbone(module).check, s2.TorchBackbone(module).logits):
        message = refused(ModelError, call, vectors())
        assert f"Returns {said}" in message
        assert ": " in message
    assert hooks_of(module) == 0


def nan(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[3, ..., 1] = np.nan
    return x


BAD_IMAGES = {
    "nan": (nan(IMAGES), "X has 30 NaN, infinite or too large values, the first in sample 3"),
    "too big": (IMAGES.astype(np.float64) * 1e39, "too large values, the first in sample 0"),
    "none": (IMAGES[:0], "X has shape (0, 3, 10, 7), expected at least one sample, (samples, ...)"),
    "number": (3.0, "X has shape (), expected at least one sample"),
    "text": (["a", "b"], "X has dtype <U1, expected real numbers: convert it"),
    "ragged": ([[1.0], [1.0, 2.0]], "X cannot become an array"),
    "channels": (IMAGES[:, :2], "X has samples as float32 of shape (2, 10, 7), which Convolutions"),
    "one sample": (IMAGES[0], "X has samples as float32 of shape (10, 7), which Convolu"),
    "too small": (IMAGES[..., :2], "which make 24 numbers at layer first, not 48, expected"),
    "table": ({"x": IMAGES, "y": IMAGES}, "X has input 'y', which Convolutions does not take, exp"),
    "two inputs": ((IMAGES, IMAGES), "X has 2 inputs, Convolutions takes x: pass a mapping by"),
    "nothing": ({}, "X has inputs of different length (nothing), expected as many samples"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_IMAGES)
def test_bad_samples(bad: str, refused: Refused) -> None:
    x, said = BAD_IMAGES[bad]
    backbone = s2.TorchBackbone(Convolutions(), example=IMAGES[:1])
    for call in (backbone.check, backbone.logits, backbone.predict):
        message = refused(DataError, call, x)
        assert said in message
        assert ": " in message
    assert hooks_of(backbone.module) == 0
    assert backbone.check(IMAGES).tobytes() == IMAGES.tobytes()


def test_the_shape_that_was_taken_is_told(refused: Refused) -> None:
    fresh, known = (s2.TorchBackbone(Convolutions()) for _ in range(2))
    known.check(IMAGES)
    wrong = np.zeros((2, 5))
    told = "(3, 10, 7) as before: pass samples of that shape and type"
    assert told in refused(DataError, known.check, wrong)
    told = "expected samples the module was trained on: check their shape and type"
    assert told in refused(DataError, fresh.check, wrong)


def test_inputs_of_different_length(refused: Refused) -> None:
    backbone = s2.TorchBackbone(Encoder())
    message = refused(DataError, backbone.check, {"ids": TOKENS, "attention_mask": PADDED[:2]})
    assert "X has inputs of different length (ids 6, attention_mask 2), expected as" in message
    message = refused(DataError, backbone.check, {"ids": TOKENS / 2})
    assert "X has samples as ids float32 of shape (5,), which Encoder cannot take (Expec" in message


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


class Counting(nn.Module):
    """A layer that adds how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(5, 3), 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return self.layer(x) + self.calls


@pytest.mark.parametrize(
    "make", [Counting, lambda: Returns(lambda y: y + torch.randn_like(y))], ids=["state", "chance"]
)
def test_state_and_chance(make: Callable[[], Any], refused: Refused) -> None:
    message = refused(ModelError, s2.TorchBackbone(make()).check, vectors())
    assert (
        "apart for the same sample, expected the same each time, as samples are cached" in message
    )
    assert "take out what is random or kept between calls" in message
