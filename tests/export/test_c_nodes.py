"""Random chains of layers in C against ONNX Runtime: every tap and every logit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models as nets
import skip2lora as s2
from chain_models import Chain, maps
from device_rows import off_by
from skip2lora.errors import ModelError
from skip2lora.export.c_layers import AVERAGE_POOL, CONVOLUTION, MAX_POOL, TRANSPOSITION
from skip2lora.export.c_network import network_of


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_random_maps(seed: int, axes: int, tmp_path: Path) -> None:
    """Strides, padding, dilation, groups, batch norm, activations, pooling."""
    proto, shape = maps(seed=seed, axes=axes, batch="n" if seed % 3 else 1)
    model = s2.load(nets.save(proto, tmp_path / "m.onnx"))
    assert off_by(model, shape) < 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_weights_of_8_bits(seed: int, tmp_path: Path) -> None:
    proto, shape = maps(seed=seed)
    model = s2.load(nets.save(proto, tmp_path / "m.onnx"))
    assert 1e-7 < off_by(model, shape, weights="int8") < 0.03


def saved(chain: Chain, shape: tuple[int, ...], path: Path) -> s2.Backbone:
    return s2.load(nets.save(chain.model(shape, 4), path))


def kinds(model: s2.Backbone) -> list[int]:
    return [layer.kind for layer in network_of(model).layers]


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_padding_by_its_name(auto_pad: str, tmp_path: Path) -> None:
    """Keras exports so; of an even kernel one side has more."""
    chain = Chain(seed=1)
    chain.conv((5, 2, 4, 3), auto_pad=auto_pad, strides=[2, 1])
    chain.then("MaxPool", kernel_shape=[2, 2], auto_pad=auto_pad)
    chain.then("GlobalAveragePool")
    chain.then("Flatten")
    chain.dense(5, 4)
    assert off_by(saved(chain, (2, 9, 8), tmp_path / "m.onnx"), (2, 9, 8)) < 1e-5


def test_maps_that_become_a_vector(tmp_path: Path) -> None:
    """ONNX flattens with channels first: maps are turned round once at either end."""
    chain = Chain(seed=2)
    chain.conv((3, 2, 3, 3))
    chain.then("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    chain.then("Reshape", chain.net.constant("shape", np.array([-1, 3 * 2 * 3])))
    chain.dense(18, 4)
    model = saved(chain, (2, 6, 8), tmp_path / "m.onnx")
    assert kinds(model) == [TRANSPOSITION, CONVOLUTION, AVERAGE_POOL, TRANSPOSITION, 1]
    assert off_by(model, (2, 6, 8)) < 1e-5


def test_a_table_that_becomes_a_map(tmp_path: Path) -> None:
    """Nothing moves where axes of size 1 come and go; batch norm at the input is kept."""
    chain = Chain(seed=3)
    chain.then("Reshape", chain.net.constant("shape", np.array([-1, 1, 12, 5])))
    chain.norm(1)
    chain.conv((4, 1, 3, 5))
    chain.then("Relu")
    chain.then("Squeeze", chain.net.constant("three", np.array([3])))
    chain.conv((6, 4, 3))
    chain.then("MaxPool", kernel_shape=[2])
    chain.then("Relu")
    chain.then("Unsqueeze", chain.net.constant("two", np.array([2])))
    chain.then("GlobalMaxPool")
    chain.then("Flatten")
    chain.dense(6, 4)
    model = saved(chain, (60,), tmp_path / "m.onnx")
    assert kinds(model) == [CONVOLUTION, CONVOLUTION, CONVOLUTION, MAX_POOL, 6, MAX_POOL, 1]
    assert network_of(model).tap_widths[0] == 4 * 4  # (1, 12, 5) over 4 x 4 places
    assert off_by(model, (60,)) < 1e-5


def test_channels_that_come_last(tmp_path: Path) -> None:
    """TensorFlow's models begin with a transposition, which C undoes: none is left."""
    chain = Chain(seed=4)
    chain.then("Transpose", perm=[0, 3, 1, 2])
    chain.conv((4, 3, 3, 3))
    chain.then("Transpose", perm=[0, 2, 3, 1])
    chain.then("ReduceMean", axes=[1, 2], keepdims=0)
    chain.dense(4, 4)
    model = saved(chain, (7, 8, 3), tmp_path / "m.onnx")
    assert kinds(model) == [CONVOLUTION, AVERAGE_POOL, 1]
    assert off_by(model, (7, 8, 3)) < 1e-5


def rounded_up(chain: Chain) -> None:
    chain.conv((4, 2, 3, 3))
    chain.then("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, output="up")


def exponential(chain: Chain) -> None:
    chain.conv((4, 2, 3, 3))
    chain.then("Elu", output="elu")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (rounded_up, "node /up (MaxPool) has no counterpart in C with this padding"),
        (exponential, "node /elu (Elu) has no counterpart in C,"),
    ],
)
def test_what_c_lacks_is_named(part: Any, said: str, tmp_path: Path, refused) -> None:
    chain = Chain(seed=5)
    part(chain)
    chain.then("GlobalAveragePool")
    chain.then("Flatten")
    chain.dense(4, 4)
    model = saved(chain, (2, 8, 8), tmp_path / "m.onnx")
    message = refused(ModelError, network_of, model)
    assert said in message
    assert "taps_only=True" in message
    assert len(network_of(model, taps_only=True).layers) == 0


def test_an_end_that_is_no_product(tmp_path: Path, refused) -> None:
    """New classes have no logits of their own there."""
    chain = Chain(seed=6)
    chain.conv((4, 2, 3, 3))
    chain.then("GlobalAveragePool")
    chain.then("Flatten")
    message = refused(ModelError, network_of, saved(chain, (2, 8, 8), tmp_path / "m.onnx"))
    assert "ends in layer node /globalaveragepool1 (GlobalAveragePool), expected" in message


@pytest.mark.parametrize("place", [1, 2, 3])
def test_an_axis_of_one_is_where_it_was_put(place: int, tmp_path: Path) -> None:
    """It comes before the channels' places or behind them, or is the only channel."""
    chain = Chain(seed=5)
    chain.conv((4, 2, 3))  # (4, 9)
    sizes = [4, 9]
    sizes.insert(place - 1, 1)
    chain.then("Reshape", chain.net.constant("shape", np.array([-1, *sizes])))
    chain.conv((3, sizes[0], *np.minimum(sizes[1:], 2)))
    chain.then("GlobalMaxPool")
    chain.then("Flatten")
    chain.dense(3, 4)
    model = saved(chain, (2, 11), tmp_path / "m.onnx")
    assert off_by(model, (2, 11)) < 1e-5


@pytest.mark.parametrize("axis", [2, -2])
def test_an_axis_of_one_is_taken_out(axis: int, tmp_path: Path) -> None:
    chain = Chain(seed=7)
    chain.conv((4, 2, 3))  # (4, 9)
    chain.then("Reshape", chain.net.constant("shape", np.array([-1, 4, 1, 9])))
    chain.then("Squeeze", chain.net.constant("axes", np.array([axis])))
    chain.conv((3, 4, 2))
    chain.then("GlobalMaxPool")
    chain.then("Flatten")
    chain.dense(3, 4)
    model = saved(chain, (2, 11), tmp_path / "m.onnx")
    assert off_by(model, (2, 11)) < 1e-5


@pytest.mark.parametrize("opset", [10, 17])
@pytest.mark.parametrize("bounds", [{}, {"min": -0.2}, {"max": 0.3}, {"min": -0.1, "max": 0.2}])
def test_clip_by_one_bound_or_both(bounds: dict[str, float], opset: int, tmp_path: Path) -> None:
    """As attributes in old files, as constants in new ones, where either may be left out."""
    chain = Chain(seed=6, opset=opset)
    chain.dense(5, 8)
    if opset < 11:
        chain.then("Clip", output="clipped", **bounds)
    else:
        ends = [
            chain.net.constant(name, np.float32(bounds[name])) if name in bounds else ""
            for name in ("min", "max")
        ]
        chain.then("Clip", *ends, output="clipped")
    chain.dense(8, 4)
    model = saved(chain, (5,), tmp_path / "m.onnx")
    assert off_by(model, (5,)) < 1e-5


def test_the_first_axis_is_that_of_gather_where_none_is_said(tmp_path: Path) -> None:
    chain = Chain(seed=7)
    chain.then("Transpose", perm=[1, 0, 2])
    net = chain.net
    weights = [net.weight("w", 1, 9, 3), net.weight("r", 1, 9, 3)]
    chain.then("GRU", *weights, output="all", hidden_size=3)
    chain.then("Squeeze", net.constant("one", np.array([1])))
    chain.then("Gather", net.constant("end", np.array(-1)))
    chain.dense(3, 4)
    model = saved(chain, (6, 3), tmp_path / "m.onnx")
    assert off_by(model, (6, 3)) < 1e-5
