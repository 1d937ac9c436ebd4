"""ONNX graphs of fully connected layers as a device has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx

import onnx_models as nets
import skip2lora as s2
from skip2lora.errors import ModelError
from skip2lora.export.c import export_c
from skip2lora.export.c_network import network_of
from skip2lora.export.onnx_mlp import onnx_of
from stream_models import lstm, words


def test_a_network_as_onnx_gives_the_same_layers(make_model, tmp_path: Path) -> None:
    """Batch norm and ReLU included, and an adapter of its taps."""
    model = make_model((6, 5, 4, 3))
    nets.save(onnx_of(model), tmp_path / "m.onnx")
    loaded = s2.load(tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    assert export_c(loaded, tmp_path / "out", samples=x).agreement == 1.0
    for one, other in zip(network_of(loaded).layers, network_of(model).layers, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
        assert (one.relu, len(one.norm)) == (other.relu, len(other.norm))
    adapted = s2.adapt(loaded, x, np.arange(30) % 3, solver="exact", penalty=0.1)
    assert export_c(adapted, tmp_path / "adapted", samples=x).agreement == 1.0


@pytest.mark.parametrize("external", [False, True])
def test_products_with_their_sums(external: bool, tmp_path: Path) -> None:
    """Also where a file beside it has the weights, as of PyTorch."""
    nets.save(nets.mlp([5, 8, 4, 3]), tmp_path / "m.onnx", external=external)
    model = s2.load(tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    assert export_c(model, tmp_path / "out", samples=x).agreement == 1.0


def test_a_sum_apart_from_its_product(tmp_path: Path) -> None:
    """As scikit-learn's networks are exported."""
    random, floats = np.random.default_rng(0), onnx.TensorProto.FLOAT
    weights = {"w": random.normal(size=(4, 6)), "b": random.normal(size=6)}
    weights |= {"v": random.normal(size=(6, 3)), "c": random.normal(size=(1, 3))}
    ends = zip(
        [["x", "w"], ["xw", "b"], ["a"], ["r", "v"], ["c", "rv"], ["y"]],
        ["xw", "a", "r", "rv", "y", "p"],
        ["MatMul", "Add", "Relu", "MatMul", "Add", "Softmax"],
        strict=True,
    )
    nodes = [onnx.helper.make_node(kind, given, [name], name=name) for given, name, kind in ends]
    graph = onnx.helper.make_graph(
        nodes, "net",
        [onnx.helper.make_tensor_value_info("x", floats, ["n", 4])],
        [onnx.helper.make_tensor_value_info("p", floats, ["n", 3])],
        [onnx.numpy_helper.from_array(of.astype(np.float32), name) for name, of in weights.items()],
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", 17)]
    nets.save(
        onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx"
    )
    model = s2.load(tmp_path / "m.onnx")
    x = random.normal(size=(20, 4)).astype(np.float32)
    assert export_c(model, tmp_path / "out", samples=x).agreement == 1.0


def test_one_logit_that_speaks_for_two_classes(tmp_path: Path) -> None:
    nets.save(nets.mlp([6, 5, 1], end="Sigmoid"), tmp_path / "m.onnx")
    model = s2.load(tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    adapted = s2.adapt(model, x, (x[:, 0] > 0).astype(int), solver="exact", penalty=0.1)
    assert export_c(adapted, tmp_path / "o", samples=x).agreement == 1.0
    assert network_of(adapted).n_outputs == 2


def test_what_c_lacks_is_named(tmp_path: Path, refused) -> None:
    for network, part in (
        (nets.mlp(shift=1.0), "shifted (Add) has no counterpart in C"),
        (nets.transformer(), "has 3 inputs, expected one"),
    ):
        nets.save(network, tmp_path / "m.onnx")
        model = s2.load(tmp_path / "m.onnx")
        said = refused(ModelError, network_of, model)
        assert part in said
        assert "taps_only=True" in said
        assert len(network_of(model, taps_only=True).layers) == 0


def test_other_taps(tmp_path: Path) -> None:
    """Not of the last layers alone, which the second version of the block can say."""
    nets.save(nets.mlp([5, 8, 4, 3]), tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    for taps, widths, version in ([0], (5,), 2), ([0, 2], (5, 4), 2), ([1, 2], (8, 4), 1):
        model = s2.load(tmp_path / "m.onnx", taps=taps)
        network = network_of(model)
        assert (network.tap_widths, network.version) == (widths, version)
        assert network.to_bytes()[4] == version
        adapted = s2.adapt(model, x, np.arange(20) % 3, solver="exact", penalty=0.1)
        done = export_c(adapted, tmp_path / f"{taps}", samples=x)
        assert done.agreement == 1.0


def test_a_network_of_images(tmp_path: Path) -> None:
    """With batch norm in the weights, and taps of maps over a grid; from an adapter of these."""
    nets.save(nets.cnn(), tmp_path / "m.onnx")
    model = s2.load(tmp_path / "m.onnx")
    x = nets.images(30)
    assert network_of(model).tap_widths == tuple(model.tap_widths)
    adapted = s2.adapt(model, x, np.arange(30) % 4, solver="exact", penalty=0.1)
    done = export_c(adapted, tmp_path / "o", samples=x, capacity=10)
    assert done.agreement == 1.0
    assert {"src/model_maps.c"} == {name for name in done.files if "model_m" in name}


def test_sizes_that_are_open(tmp_path: Path, refused) -> None:
    nets.save(nets.cnn(size="side"), tmp_path / "m.onnx")
    message = refused(ModelError, network_of, s2.load(tmp_path / "m.onnx"))
    assert "takes samples of (3, None, None), expected sizes that are known" in message


def test_a_file_that_changed_since_it_was_loaded(tmp_path: Path, refused) -> None:
    nets.save(nets.mlp([5, 8, 4, 3]), tmp_path / "m.onnx")
    model = s2.load(tmp_path / "m.onnx")
    nets.save(nets.mlp([5, 8, 4, 3], seed=9), tmp_path / "m.onnx")
    assert "changed since it was loaded, or has no logits" in refused(ModelError, network_of, model)


def test_a_state_between_calls_is_an_input(tmp_path: Path, refused) -> None:
    model = s2.load(lstm(tmp_path / "m.onnx"))
    adapted = s2.adapt(model, **words())
    message = refused(ModelError, network_of, adapted)
    assert "has 3 inputs, expected one: export the taps alone with taps_only=True" in message
