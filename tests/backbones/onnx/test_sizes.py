"""Open sizes of images in a ``.onnx``, fixed when it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx_models as nets
import skip2lora as s2
from skip2lora.backbones.onnx.graph import Graph
from skip2lora.backbones.onnx.sizes import batch_of, fix_batch, fix_size
from skip2lora.data.image_layout import check_size
from skip2lora.errors import ParameterError


def test_size_of_axes_without_a_name(tmp_path: Path) -> None:
    model = nets.cnn(size="s")
    for axis in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.ClearField("dim_param")
    path = nets.save(model, tmp_path / "m.onnx")
    tall = s2.load(path, size=(16, 12))
    assert tall.inputs[0].shape == (3, 16, 12)
    assert tall.tap_widths == s2.load(path, size=(16, 16)).tap_widths
    assert s2.load(path).tap_widths == (3, 8, 8, 12)


@pytest.mark.parametrize(
    ("made", "size", "said"),
    [
        ("cnn", (20, 20), "takes 14x14"),
        ("open", (20, 16), "squares alone"),
        ("open", (0, 16), r"size is \(0, 16\), expected height and width"),
        ("open", 16, "size is 16, expected height and width"),
        ("mlp", (4, 5), "size is 4x5, but 0 inputs of .* are images"),
        ("cnn", (14, 20), "size is 14x20, but .* takes 14x14"),
    ],
)
def test_sizes_that_do_not_fit(tmp_path: Path, made: str, size: Any, said: str) -> None:
    make = {"cnn": nets.cnn, "open": lambda: nets.cnn(size="s"), "mlp": nets.mlp}
    path = nets.save(make[made](), tmp_path / "m.onnx")
    with pytest.raises(ParameterError, match=said):
        s2.load(path, size=size)


@pytest.mark.parametrize("size", [None, 3, (4,), (4, 5, 6), (0, 4), (4.0, 4), (4, 1 << 15), "ab"])
def test_what_is_no_size(size: Any) -> None:
    with pytest.raises(ParameterError, match="expected height and width of 1 to 16384 pixels"):
        check_size(size)
    assert check_size([5, 7]) == (5, 7)


def test_names_of_sizes_are_fixed_wherever_they_stand() -> None:
    """Height and width by their names in outputs as well; those of samples stay open."""
    net = nets.Net()
    net.node("Relu", ["x"], "y")
    shape = ["n", 3, "h", "w"]
    model = net.model([nets.value("x", shape)], [nets.value("y", shape)])
    fix_size(model, Path("m.onnx"), (5, 7))
    for value in (model.graph.input[0], model.graph.output[0]):
        axes = value.type.tensor_type.shape.dim
        assert axes[0].dim_param == "n"
        assert [axis.dim_value for axis in axes[1:]] == [3, 5, 7]


def test_channels_last() -> None:
    net = nets.Net()
    net.node("Relu", ["x"], "y")
    model = net.model([nets.value("x", ["n", "h", 7, 1])], [nets.value("y", ["n", "h", 7, 1])])
    with pytest.raises(ParameterError, match=r"takes anyx7"):
        fix_size(model, Path("m.onnx"), (5, 8))
    fix_size(model, Path("m.onnx"), (5, 7))
    assert model.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 5


def test_a_number_of_samples_can_be_fixed() -> None:
    net = nets.Net()
    net.node("Relu", ["x"], "y")
    shape = [5, "n", 4]
    of = Graph(net.model([nets.value("x", shape)], [nets.value("y", shape)]))
    assert (batch_of(of, {"x": 0}), batch_of(of, {"x": 1})) == (5, None)
    fix_batch(of, {"x": 1}, 3)
    assert batch_of(of, {"x": 1}) == 3
