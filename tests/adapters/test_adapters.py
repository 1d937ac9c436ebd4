"""Adapters: Eq. 17 on a backbone's taps, parameter counts, names of the tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.adapters import LayerAdapters, SkipAdapters
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.mlp import MLP, Layer
from skip2lora.errors import ModelError

WIDTHS = [17, 16, 5, 3]
MakeModel = Callable[..., MLP]
Refused = Callable[..., str]


def random_skip(backbone: Any, rank: int, first_tap: int = 0, seed: int = 0) -> SkipAdapters:
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    widths = backbone.tap_widths[first_tap:]
    lora_a = tuple(normal(width, rank) for width in widths)
    lora_b = tuple(normal(rank, backbone.n_outputs) for _ in widths)
    return SkipAdapters(lora_a, lora_b, first_tap)


def random_layers(model: MLP, rank: int, seed: int = 0) -> LayerAdapters:
    random = np.random.default_rng(seed)
    arrays = []
    for layer in model.layers:
        n_in, n_out = layer.weight.shape
        lora_a = random.normal(size=(n_in, rank)).astype(np.float32)
        lora_b = random.normal(size=(rank, n_out)).astype(np.float32)
        mean = None if layer.mean is None else layer.mean + 1
        arrays.append((*layer.copy()[:4], mean, layer.var, lora_a, lora_b))
    return LayerAdapters(model.with_layers(arrays))


def equation_17(backbone: Any, adapters: SkipAdapters, x: np.ndarray) -> np.ndarray:
    made = backbone.forward(x)
    logits = made.base_logits.astype(np.float64)
    pairs = zip(adapters.lora_a, adapters.lora_b, strict=True)
    for tap, (a, b) in zip(made.taps[adapters.first_tap :], pairs, strict=True):
        logits = logits + tap.astype(np.float64) @ a.astype(np.float64) @ b.astype(np.float64)
    return logits


@pytest.fixture(params=["mlp", "input is a tap", "input is none"])
def backbone(request: pytest.FixtureRequest, make_model: MakeModel) -> Any:
    if request.param == "mlp":
        return make_model(WIDTHS)
    return NumpyBackbone(WIDTHS, first_tap_is_input=request.param == "input is a tap")


@pytest.mark.parametrize("first_tap", [0, 1, 2])
@pytest.mark.parametrize("rank", [1, 4, 5])
def test_logits_are_equation_17(
    backbone: Any, rank: int, first_tap: int, make_samples: Any
) -> None:
    x, _ = make_samples(300, 17)  # more than one chunk
    adapters = random_skip(backbone, rank, first_tap)
    logits = adapters.logits(backbone, x)
    assert logits.dtype == np.float32
    expected = equation_17(backbone, adapters, x)
    assert np.abs(expected - backbone.forward(x).base_logits).max() > 1
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("first_tap", [0, 2])
def test_pack_and_unpack(backbone: Any, first_tap: int) -> None:
    adapters = random_skip(backbone, 3, first_tap)
    row_format = RowFormat.of(backbone, first_tap)
    back = SkipAdapters.unpack(adapters.pack(row_format), row_format, 3)
    assert back.first_tap == first_tap
    assert back.rank == adapters.rank == 3
    for one, other in zip(
        (*adapters.lora_a, *adapters.lora_b), (*back.lora_a, *back.lora_b), strict=True
    ):
        assert one.tobytes() == other.tobytes()


def test_tensors_are_named_by_their_tap(backbone: Any) -> None:
    adapters = random_skip(backbone, 3, first_tap=1)
    assert list(adapters.tensors()) == [
        "taps.1.lora_a", "taps.1.lora_b", "taps.2.lora_a", "taps.2.lora_b",
    ]  # fmt: skip
    assert adapters.tensors()["taps.1.lora_a"] is adapters.lora_a[0]
    assert adapters.tensors()["taps.2.lora_b"] is adapters.lora_b[1]


def test_from_tensors(backbone: Any) -> None:
    adapters = random_skip(backbone, 3)
    tensors = adapters.tensors()
    back = SkipAdapters.from_tensors("file", tensors, backbone, 3)
    assert not tensors
    assert back.first_tap == 0
    assert {k: v.tobytes() for k, v in back.tensors().items()} == {
        k: v.tobytes() for k, v in adapters.tensors().items()
    }


def test_from_tensors_that_do_not_fit(backbone: Any, refused: Refused) -> None:
    def load(change: dict[str, Any], rank: int = 3) -> str:
        tensors = {
            name: array
            for name, array in (random_skip(backbone, 3).tensors() | change).items()
            if array is not None
        }
        return refused(ModelError, SkipAdapters.from_tensors, "file", tensors, backbone, rank)

    width = backbone.tap_widths[0]
    for name in ("taps.0.lora_b", "taps.1.lora_a", "taps.2.lora_b"):
        assert f"file: tensor {name} is missing" in load({name: None})
    message = load({}, rank=4)
    assert f"taps.0.lora_a has shape ({width}, 3), expected ({width}, 4)" in message
    wrong = np.zeros((16, 4), np.float32)
    assert "has shape (16, 4), expected (16, 3)" in load({"taps.1.lora_a": wrong})


def test_parameters_of_the_paper(make_model: MakeModel, make_samples: Any) -> None:
    model, (x, y) = make_model([256, 96, 96, 3]), make_samples(20, 256)
    expected = {
        "skip2-lora": 4 * (256 + 96 + 96) + 3 * 4 * 3,
        "skip-lora": 1828,
        "lora-last": 4 * (96 + 3),
        "lora-all": 4 * (256 + 96 + 96 + 96 + 96 + 3),
    }
    assert (expected["skip2-lora"], expected["lora-all"]) == (1828, 2572)
    for method, n_parameters in expected.items():
        adapted = s2.adapt(model, x, y, method=method, epochs=1)
        assert adapted.trainable_parameters == adapted.adapters.n_parameters == n_parameters
        assert adapted.adapters.rank == 4


@pytest.mark.parametrize("batch_norm", [True, False])
def test_layer_adapters_are_merged_weights(
    make_model: MakeModel, make_samples: Any, batch_norm: bool
) -> None:
    model, (x, _) = make_model(WIDTHS, batch_norm=batch_norm), make_samples(70, 17)
    adapters = random_layers(model, 2)
    assert adapters.rank == 2
    assert adapters.n_parameters == 2 * (17 + 16 + 16 + 5 + 5 + 3)
    merged = []
    for layer in adapters.model.layers:
        weight, *rest, lora_a, lora_b = layer.copy()
        merged.append(Layer(weight + lora_a @ lora_b, *rest))
    expected = MLP(tuple(merged)).logits(x)
    found = adapters.logits(model, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(found - model.logits(x)).max() > 0.1


@pytest.mark.parametrize("batch_norm", [True, False])
def test_layer_adapters_carry_their_statistics(make_model: MakeModel, batch_norm: bool) -> None:
    model = make_model(WIDTHS, batch_norm=batch_norm)
    adapters = random_layers(model, 2)
    tensors = adapters.tensors()
    kept = ("lora_a", "lora_b", *(("mean", "var") if batch_norm else ()))
    names = {f"layers.{at}.{name}" for at in (0, 1) for name in kept}
    assert set(tensors) == names | {"layers.2.lora_a", "layers.2.lora_b"}
    back = LayerAdapters.from_tensors("file", dict(tensors), model, 2)
    assert back.model.fingerprint == adapters.model.fingerprint
    assert back.model.fingerprint != model.fingerprint


def test_layer_adapters_that_do_not_fit(make_model: MakeModel, refused: Refused) -> None:
    model = make_model(WIDTHS)
    tensors = random_layers(model, 2).tensors()

    def load(without: str, backbone: Any = model, rank: int = 2) -> str:
        kept = {name: array for name, array in tensors.items() if name != without}
        return refused(ModelError, LayerAdapters.from_tensors, "file", kept, backbone, rank)

    for name in ("layers.0.lora_a", "layers.1.var", "layers.2.lora_b"):
        assert f"file: tensor {name} is missing" in load(name)
    assert "has shape (17, 2), expected (17, 3)" in load("", rank=3)
    other = NumpyBackbone(WIDTHS, first_tap_is_input=True)
    assert "file: lora-all adapters need an MLP, got NumpyBackbone" in load("", other)
