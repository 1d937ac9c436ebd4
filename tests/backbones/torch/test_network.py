"""Any PyTorch module as a backbone: its taps against the tensors themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.torch_networks import REASON, of_mlp
from skip2lora.backbones.taps import rows_of
from skip2lora.errors import ModelError

torch = pytest.importorskip("torch", reason=REASON)
from torch import nn  # noqa: E402

from torch_modules import (  # noqa: E402
    IMAGES,
    PADDED,
    TOKENS,
    Convolutions,
    Encoder,
    Shared,
    bytes_of,
    hooks_of,
    names,
    vectors,
)

Refused = Callable[..., str]
pytestmark = pytest.mark.usefixtures("torch_generator")


def inputs_of(module: nn.Module, *args: Any, layers: list[str], **kwargs: Any) -> list[np.ndarray]:
    """What the layers read when the module runs as it is, by hooks of the test's own."""
    found, handles = {}, []
    for name in layers:

        def keep(part: Any, given: Any, name: str = name) -> None:
            found[name] = given[0].detach().clone().float().numpy()

        handles.append(module.get_submodule(name).register_forward_pre_hook(keep))
    with torch.no_grad():
        module(*args, **kwargs)
    for handle in handles:
        handle.remove()
    return [found[name] for name in layers]


def test_rows_are_those_of_the_same_mlp(make_model: Any, make_samples: Any) -> None:
    model = make_model([9, 16, 5, 3])
    x, _ = make_samples(70, 9)
    backbone = s2.TorchBackbone(of_mlp(model), example=x[:1])
    assert names(backbone) == ["0", "3", "6"]
    assert backbone.tap_widths == model.tap_widths
    one, other = backbone.forward(x), model.forward(x)
    for mine, its in zip(
        (*one.taps, one.base_logits), (*other.taps, other.base_logits), strict=True
    ):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(backbone.logits(x), other.base_logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_convolutional_network(training: bool) -> None:
    module = Convolutions().train(training)
    module.act.eval()
    module.depthwise.train()
    before, modes = bytes_of(module), [part.training for part in module.modules()]
    backbone = s2.TorchBackbone(module, batch_size=4)
    x = backbone.check(IMAGES.astype(np.float64))
    made = backbone.forward(x)
    assert bytes_of(module) == before  # batch norm's statistics too
    assert [part.training for part in module.modules()] == modes
    assert hooks_of(module) == 0
    assert [(t.layer, t.kind, t.shape, t.grid) for t in backbone.taps] == [
        ("first", "map", (3, 10, 7), (4, 4)),
        ("depthwise", "map", (6, 10, 7), (4, 4)),
        ("last", "vector", (6,), ()),
    ]
    own = inputs_of(module.eval(), torch.from_numpy(IMAGES), layers=names(backbone))
    for tap, mine, its in zip(backbone.taps, made.taps, own, strict=True):
        np.testing.assert_allclose(mine, rows_of(tap, its), rtol=1e-4, atol=1e-5)
    logits = module(torch.from_numpy(IMAGES)).detach().numpy()
    np.testing.assert_allclose(made.base_logits, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [1, 3, 20])
def test_grid(grid: int) -> None:
    backbone = s2.TorchBackbone(Convolutions(), grid=grid, example=IMAGES[:1])
    assert backbone.taps[0].grid == {1: (1, 1), 3: (3, 3), 20: (10, 7)}[grid]
    own = inputs_of(backbone.module.eval(), torch.from_numpy(IMAGES), layers=["first"])[0]
    first = backbone.forward(IMAGES).taps[0]
    np.testing.assert_allclose(first, rows_of(backbone.taps[0], own), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(3, 2, 3), (3, 11)),
        (nn.Conv3d(2, 2, 2), (2, 5, 6, 7)),
        (nn.ConvTranspose2d(3, 2, 2), (3, 5, 6)),
        (nn.Linear(4, 2), (6, 5, 4)),
        (nn.Linear(4, 2), (3, 6, 5, 4)),
    ],
    ids=["1-d", "3-d", "transposed", "channels last", "channels last, 3-d"],
)
def test_maps_of_other_layers(layer: nn.Module, shape: tuple[int, ...]) -> None:
    module = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(3))
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    module(torch.from_numpy(x))  # makes the lazy layer
    backbone = s2.TorchBackbone(module, example=x[:1])
    tap = backbone.taps[0]
    assert tap.kind == "map"
    assert tap.channels_last == isinstance(layer, nn.Linear)
    np.testing.assert_allclose(backbone.forward(x).taps[0], rows_of(tap, x), rtol=1e-4, atol=1e-5)


class Folded(nn.Module):
    """Windows or frames of a sample folded into the axis of the samples."""

    def __init__(self, layer: nn.Module, fold: tuple[int, ...]) -> None:
        super().__init__()
        self.layer, self.fold, self.head = layer, fold, nn.Linear(2, 3)

    def forward(self, x: Any) -> Any:
        h = self.layer(x.reshape(-1, *self.fold)).reshape(len(x), -1)
        return self.head(h[:, :2])


def test_frames_are_places_of_a_map() -> None:
    x = np.random.default_rng(0).normal(size=(4, 6, 3, 5, 5)).astype(np.float32)
    backbone = s2.TorchBackbone(Folded(nn.Conv2d(3, 2, 3), (3, 5, 5)), example=x[:1], grid=2)
    tap = backbone.taps[0]
    assert (tap.shape, tap.grid) == ((3, 6, 5, 5), (2, 2, 2))
    expected = rows_of(tap, np.ascontiguousarray(x.swapaxes(1, 2)))
    np.testing.assert_allclose(backbone.forward(x).taps[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fold", [(4,), (2, 4)], ids=["tokens", "windows"])
def test_folded_tokens_are_a_sequence(fold: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(3, 6, 4)).astype(np.float32)
    backbone = s2.TorchBackbone(Folded(nn.Linear(4, 2), fold), example=x[:1])
    assert (backbone.taps[0].kind, backbone.taps[0].shape) == ("sequence", (6, 4))
    expected = np.hstack([x.mean(axis=1), x[:, 0]])
    np.testing.assert_allclose(backbone.forward(x).taps[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("mask", [None, "attention_mask", "src_key_padding_mask"])
def test_a_transformer(batch_first: bool, mask: str | None) -> None:
    module = Encoder(batch_first=batch_first)
    given: dict[str, Any] = {"ids": TOKENS}
    if mask is not None:
        given[mask] = PADDED if mask == "attention_mask" else 1 - PADDED
    backbone = s2.TorchBackbone(module, batch_size=4)
    x = backbone.check(given)
    made = backbone.forward(x)
    layers = [
        f"encoder.layers.{n}.{m}" for n in (0, 1) for m in ("self_attn", "linear1", "linear2")
    ]
    assert names(backbone) == [*layers, "head"]
    assert [tap.kind for tap in backbone.taps] == ["sequence"] * 6 + ["vector"]
    assert backbone.tap_widths == (16, 16, 24, 16, 16, 24, 8)
    assert torch.backends.mha.get_fastpath_enabled()
    padding = None if mask is None else torch.from_numpy(PADDED == 0)
    torch.backends.mha.set_fastpath_enabled(False)
    own = inputs_of(
        module.eval(), torch.from_numpy(TOKENS), src_key_padding_mask=padding, layers=layers
    )
    torch.backends.mha.set_fastpath_enabled(True)
    weights = None if mask is None else PADDED.astype(np.float32)
    for tap, mine, its in zip(backbone.taps, made.taps, own, strict=False):
        values = its if batch_first else its.swapaxes(0, 1)
        np.testing.assert_allclose(mine, rows_of(tap, values, weights), rtol=1e-4, atol=1e-5)


def test_another_length_of_sequence() -> None:
    backbone = s2.TorchBackbone(Encoder(), example=TOKENS)
    short = backbone.forward(backbone.check(TOKENS[:, :3]))
    assert [tap.shape[1] for tap in short.taps] == list(backbone.tap_widths)


def test_layers_that_read_one_tensor_share_a_tap() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))
            self.out, self.head, self.second = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            h = (self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1) @ self.v(x)
            pooled = self.out(h).mean(1)
            return self.head(pooled) + self.second(pooled)

    x = np.random.default_rng(0).normal(size=(3, 5, 4))
    backbone = s2.TorchBackbone(Attention(), example=x)
    assert names(backbone) == ["q", "out", "head"]
    assert names(backbone.with_taps(["v", "second"])) == ["q", "head"]
    assert names(backbone.with_taps("[kv]")) == ["q"]


def test_each_call_of_a_shared_layer_is_a_layer(refused: Refused) -> None:
    module = Shared()
    backbone = s2.TorchBackbone(module, example=vectors())
    assert names(backbone) == ["block", "block@2", "block@3", "head"]
    x, made = torch.from_numpy(vectors()), backbone.forward(vectors())
    for tap in made.taps:
        np.testing.assert_allclose(tap, x.detach().numpy(), rtol=1e-4, atol=1e-5)
        x = torch.tanh(module.block(x))
    third = backbone.with_taps("block@3").forward(vectors()).taps
    assert [tap.tobytes() for tap in third] == [made.taps[2].tobytes()]
    module.calls = 2
    message = refused(ModelError, backbone.forward, vectors())
    assert "Shared did not call layer block@3 for samples 0 to 3, expected the same" in message
    assert hooks_of(module) == 0


def test_what_does_not_read_the_samples_is_no_layer() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions, self.head = nn.Linear(2, 5), nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            return self.head(x + self.positions(torch.ones(2, 2)).mean(0))

    assert names(s2.TorchBackbone(Positions(), example=vectors())) == ["head"]


def test_tensors_changed_in_place_are_read_before() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            h = self.a(x)
            x += 100
            return self.b(x) + self.b(h)

    given = vectors()
    backbone = s2.TorchBackbone(InPlace(), example=given)
    assert names(backbone) == ["a", "b", "b@2"]  # one address, but other numbers
    made = backbone.forward(given)
    assert made.taps[0].tobytes() == vectors().tobytes() == given.tobytes()
    assert made.taps[1].tobytes() == (vectors() + np.float32(100)).tobytes()


def test_channels_last_in_memory() -> None:
    module = Convolutions().eval()
    made = s2.TorchBackbone(module, example=IMAGES[:1]).forward(IMAGES)
    other = s2.TorchBackbone(
        nn.Sequential(Reordered(), module.to(memory_format=torch.channels_last)),
        example=IMAGES[:1],
    ).forward(IMAGES)
    for mine, its in zip(made.taps, other.taps, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-5)


class Reordered(nn.Module):
    """The same map, with its channels together in memory; turns gradients on."""

    def forward(self, x: Any) -> Any:
        torch.set_grad_enabled(True)
        return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def test_averages_of_half_precision_are_made_in_full() -> None:
    module = Convolutions().to(torch.bfloat16).eval()
    backbone = s2.TorchBackbone(module, example=IMAGES[:1])
    given = torch.from_numpy(IMAGES).to(torch.bfloat16)
    own = inputs_of(module, given, layers=["first"])[0]
    made = backbone.forward(IMAGES).taps[0]
    np.testing.assert_allclose(made, rows_of(backbone.taps[0], own), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("taps", "kept"),
    [(None, 16), (3, 3), ("*", 40), (["0", -1], 2), ("3?", 10)],
)  # fmt: skip
def test_choosing_taps(taps: Any, kept: int) -> None:
    module = nn.Sequential(*(nn.Linear(5, 5) for _ in range(40)))
    backbone = s2.TorchBackbone(module, taps=taps, example=vectors())
    assert len(backbone.taps) == len(backbone.forward(vectors()).taps) == kept
    assert len(backbone.layers) == 40
    if taps != "3?":
        assert (names(backbone)[0], names(backbone)[-1]) == ("0", "39")


def test_the_last_layer_is_the_last_tap() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Linear(5, 3), nn.Linear(3, 3), nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            return self.b(self.a(x)) + self.last(x)

    backbone = s2.TorchBackbone(Skips(), example=vectors())
    assert names(backbone) == ["b", "a"]  # a reads what the last one reads
    assert names(backbone.with_taps("last")) == ["a"]
