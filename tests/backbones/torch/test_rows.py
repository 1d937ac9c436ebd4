"""Rows of taps against NumPy on the tensors themselves: maps, sequences, frames, types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.torch_networks import REASON
from skip2lora.backbones.alone import Layout
from skip2lora.backbones.taps import Tap, rows_of

torch = pytest.importorskip("torch", reason=REASON)
from torch import nn  # noqa: E402

from skip2lora.backbones.torch.network import Key, Place  # noqa: E402
from skip2lora.backbones.torch.rows import write_rows  # noqa: E402
from torch_modules import IMAGES, Convolutions, inputs_of, names, vectors  # noqa: E402

pytestmark = pytest.mark.usefixtures("torch_generator")


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


TAPS = {
    "vector": (Tap("l", "", "vector", (6,)), (3, 6)),
    "map": (Tap("l", "", "map", (4, 6, 5), False, (2, 2)), (3, 4, 6, 5)),
    "map, three axes": (Tap("l", "", "map", (2, 6, 5, 4), False, (2, 2, 2)), (3, 2, 6, 5, 4)),
    "map, one axis": (Tap("l", "", "map", (4, 9), False, (4,)), (3, 4, 9)),
    "channels last": (Tap("l", "", "map", (6, 5, 4), True, (2, 3)), (3, 6, 5, 4)),
    "sequence": (Tap("l", "", "sequence", (5, 4)), (3, 5, 4)),
}


@pytest.mark.parametrize("kind", TAPS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_rows_are_those_of_numpy(kind: str, dtype: str) -> None:
    tap, shape = TAPS[kind]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    tensor = torch.from_numpy(x).to(getattr(torch, dtype)).requires_grad_()
    rows = np.full((3, tap.width), np.nan, np.float32)
    write_rows(Place(Key("l", 0, 0), Layout(0), tap), tensor, None, rows)
    want = rows_of(tap, tensor.detach().float().numpy())
    np.testing.assert_allclose(rows, want, rtol=1e-5, atol=1e-6)


def test_rows_of_tokens_that_come_first() -> None:
    tap = Tap("l", "", "sequence", (5, 4))
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    mask = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], np.float32)
    rows = np.full((3, 8), np.nan, np.float32)
    place = Place(Key("l", 0, 0), Layout(1), tap)
    write_rows(place, torch.from_numpy(x.swapaxes(0, 1)), torch.from_numpy(mask), rows)
    np.testing.assert_allclose(rows, rows_of(tap, x, mask), rtol=1e-5, atol=1e-6)
    assert np.isfinite(rows).all()  # a sample of which no token counts


@pytest.mark.parametrize(
    ("layout", "outer", "inner"),
    [(Layout(0, 5), 5, 1), (Layout(0, 5), 7, 1), (Layout(0, 2, 3), 2, 3), (Layout(0, 1, 5), 1, 5)],
)
def test_rows_of_folded_tokens(layout: Layout, outer: int, inner: int) -> None:
    """Outside the samples, of any number; inside; and both."""
    parts = outer * inner
    x = np.random.default_rng(0).normal(size=(3, parts, 4)).astype(np.float32)
    folded = x.reshape(3, outer, inner, 4).swapaxes(0, 1).reshape(-1, 4)
    tap, rows = Tap("l", "", "sequence", (None, 4)), np.full((3, 8), np.nan, np.float32)
    write_rows(Place(Key("l", 0, 0), layout, tap), torch.from_numpy(folded), None, rows)
    np.testing.assert_allclose(rows, rows_of(tap, x), rtol=1e-5, atol=1e-6)
