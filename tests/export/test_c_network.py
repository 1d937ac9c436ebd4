"""What of a model and its adapters goes onto a device."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.backbones.derived import Derived
from skip2lora.errors import ModelError
from skip2lora.export.c import export_c
from skip2lora.export.c_network import network_of


@pytest.fixture
def samples(make_samples) -> tuple[np.ndarray, np.ndarray]:
    return make_samples(40, 6, 3)


def test_layers_of_an_mlp(make_model) -> None:
    model = make_model((6, 5, 3))
    network = network_of(model)
    assert network.tap_widths == network.tap_widths_kept == (6, 5)
    assert [layer.relu for layer in network.layers] == [True, False]
    assert network.eps == model.bn_eps


def test_adapters_of_the_last_layer_alone(make_model, samples, tmp_path) -> None:
    adapted = s2.adapt(make_model((6, 5, 4, 3)), *samples, method="lora-last", epochs=2)
    network = network_of(adapted)
    assert (network.tap_widths, len(network.layers)) == ((4,), 3)
    assert export_c(adapted, tmp_path / "o", samples=samples[0]).agreement == 1.0


def test_a_model_of_one_output_alone(make_model, refused) -> None:
    said = refused(ModelError, network_of, make_model((6, 5, 1)))
    assert "has 1 outputs, expected two classes at least" in said


def test_taps_alone(make_model, samples, refused) -> None:
    model = make_model((6, 5, 3))
    assert network_of(model, taps_only=True).layers == ()
    adapted = s2.adapt(model, *samples)  # reads logits: docs/mlp-rule.md
    said = refused(ModelError, network_of, adapted, taps_only=True)
    assert "read its logits" in said


def test_taps_alone_have_no_logarithm(make_model, samples, refused) -> None:
    derived = Derived.of(make_model((6, 5, 3)), ["log"], np.abs(samples[0]))
    adapted = s2.adapt(derived, np.abs(samples[0]), samples[1], solver="exact", penalty=0.1)
    assert network_of(adapted).derived == derived.derived
    said = refused(ModelError, network_of, adapted, taps_only=True)
    assert "read a log of the sample" in said


def test_a_model_without_layers_that_are_known(samples, refused) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    model = s2.TorchBackbone(torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 3)))
    adapted = s2.adapt(model, *samples, solver="exact", penalty=0.1)
    said = refused(ModelError, network_of, adapted)
    assert "is a TorchBackbone, expected an MLP or an ONNX model" in said
    assert network_of(adapted, taps_only=True).tap_widths == (6, 4)


def test_a_network_goes_to_c_where_onnx_runtime_is_not_installed(make_model, tmp_path) -> None:
    make_model((6, 5, 3)).save(tmp_path / "m.safetensors")
    code = f"""
import sys
sys.modules["onnxruntime"] = None  # as on a board
import skip2lora as s2
from skip2lora.export.c import export_c
print(export_c(s2.load({str(tmp_path / "m.safetensors")!r}), {str(tmp_path / "c")!r}).agreement)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1.0\n", "")
    assert (tmp_path / "c" / "Makefile").is_file()
