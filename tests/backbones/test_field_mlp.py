"""An MLP with the batch-norm statistics of the field: values, and the folder that keeps them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.backbones.derived import Derived
from skip2lora.backbones.field_mlp import FieldMLP, field_statistics
from skip2lora.backbones.standins import Headless
from skip2lora.errors import ModelError, ParameterError
from skip2lora.files import read_tensors, to_bytes

Refused = Callable[..., str]
FILE = "adapter_model.safetensors"


@pytest.fixture
def model(make_model: Any) -> s2.MLP:
    return make_model([9, 16, 5, 3])


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_samples(60, 9)
    return x * 3 + 5, y


def test_statistics_are_those_of_the_samples(model: s2.MLP, samples: Any) -> None:
    """In float64, layer after layer; and what batch norm gives has mean beta, deviation gamma."""
    x, _ = samples
    field = FieldMLP.of(model, x)
    output = x.astype(np.float64)
    for number, (layer, own) in enumerate(zip(field.layers, model.layers, strict=True)):
        if number == 2:
            assert layer.mean is None
            break
        before = output @ own.weight + own.bias
        np.testing.assert_allclose(layer.mean, before.mean(axis=0), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(layer.var, before.var(axis=0, ddof=1), rtol=1e-4)
        z = (before - layer.mean) / np.sqrt(layer.var + model.bn_eps)
        output = np.maximum(z * own.gamma + own.beta, 0)
        np.testing.assert_allclose(field.forward(x).taps[number + 1], output, rtol=1e-3, atol=1e-4)
        for name in ("weight", "bias", "gamma", "beta"):
            assert getattr(layer, name) is getattr(own, name)


def test_it_belongs_to_the_model(model: s2.MLP, samples: Any) -> None:
    x, y = samples
    field = FieldMLP.of(model, x)
    assert field.base is model
    assert field.fingerprint == model.fingerprint
    assert np.abs(field.logits(x) - model.logits(x)).max() > 0.1
    again = pickle.loads(pickle.dumps(field))  # noqa: S301, our own
    assert again.logits(x).tobytes() == field.logits(x).tobytes()
    assert again.fingerprint == field.fingerprint
    tuned = s2.adapt(field, x, y, method="ft-last", epochs=1)
    assert type(tuned.adapters.model) is s2.MLP
    assert tuned.adapters.model.fingerprint != model.fingerprint


@pytest.mark.parametrize("wrap", ["plain", "derived", "headless"])
def test_the_folder_brings_them_back(
    wrap: str, model: s2.MLP, samples: Any, tmp_path: Path
) -> None:
    x, y = samples
    given: s2.Backbone = FieldMLP.of(model, x)
    if wrap == "derived":
        given = Derived.of(given, ["logits"])
    adapted = s2.adapt(given, x, y, epochs=2, standardize=True, keep_outputs=wrap != "headless")
    assert adapted.base is model
    adapted.save(tmp_path / "a")
    tensors = load_tensors((tmp_path / "a" / FILE).read_bytes())
    assert {"layers.0.mean", "layers.0.var", "layers.1.mean", "layers.1.var"} < set(tensors)
    assert "layers.0.mean" not in adapted.adapters.tensors()
    for start in (model, given):
        back = s2.AdaptedModel.load(start, tmp_path / "a")
        assert back.logits(x).tobytes() == adapted.logits(x).tobytes()
        back.save(tmp_path / "b")
        assert (tmp_path / "a" / FILE).read_bytes() == (tmp_path / "b" / FILE).read_bytes()
    s2.adapt(model, x, y, epochs=1).save(tmp_path / "c")
    assert not field_statistics(s2.AdaptedModel.load(given, tmp_path / "c").backbone)


def test_refusals(make_model: Any, model: s2.MLP, samples: Any, refused: Refused) -> None:
    x, _ = samples
    plain = make_model([9, 16, 5, 3], batch_norm=False)
    assert "without batch norm" in refused(ParameterError, FieldMLP.of, plain, x)
    assert "from 1 samples" in refused(ParameterError, FieldMLP.of, model, x[:1])
    assert np.isfinite(FieldMLP.of(model, x[:2]).logits(x)).all()


def test_damaged_folders(model: s2.MLP, samples: Any, tmp_path: Path, refused: Refused) -> None:
    x, y = samples
    s2.adapt(FieldMLP.of(model, x), x, y, epochs=1).save(tmp_path / "a")
    tensors, said = read_tensors(tmp_path / "a" / FILE, kind="adapter")
    said = {name: value for name, value in said.items() if name != "sha256"}
    lacking = {name: array for name, array in tensors.items() if name != "layers.1.var"}
    (tmp_path / "a" / FILE).write_bytes(to_bytes(lacking, said))
    assert "layers.1.var" in refused(ModelError, s2.AdaptedModel.load, model, tmp_path / "a")
    other = NumpyBackbone([9, 16, 5, 3], first_tap_is_input=True)
    assert field_statistics(Headless(other, 2)) == {}
