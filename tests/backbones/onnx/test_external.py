"""Values in other files: of initializers, beside the model, in regular files; nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

from onnx import TensorProto, helper, numpy_helper

import skip2lora as s2
from skip2lora.backbones.onnx import OnnxBackbone, prepare
from skip2lora.backbones.onnx.external import _check, check_sealed, names_files
from skip2lora.backbones.onnx.file import read_model
from skip2lora.errors import FileError, ModelError

Refused = Callable[..., str]
N_BYTES = 6 * 5 * 4


def weight(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def external(tensor: Any, location: str | None, **entries: str) -> Any:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    return tensor


def network(w1: Any, nodes: Any = (), **more: Any) -> Any:
    """Two layers; the weights of the first are w1, an initializer or what ``nodes`` make."""
    layers = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "one"),
        helper.make_node("MatMul", ["h", "w2"], ["z"], "two"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [*nodes, *layers], "g", [value("x", TensorProto.FLOAT, ["n", 6])],
        [value("z", TensorProto.FLOAT, ["n", 3])],
        [*([w1] if w1 is not None else []), weight("w2", 5, 3)],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "in"
    inside.mkdir()
    for path in (tmp_path / "secret.bin", inside / "w.bin"):
        path.write_bytes(np.ones(30, np.float32).tobytes())
    (inside / "link.bin").symlink_to("../secret.bin")
    (inside / "circle").symlink_to("circle")
    os.mkfifo(inside / "pipe")
    (inside / "*" / "_ORT_MEM_ADDR_").mkdir(parents=True)
    (inside / "*" / "_ORT_MEM_ADDR_" / "*").write_bytes(bytes(N_BYTES))
    return inside


def save(model: Any, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_beside_the_model(folder: Path) -> None:
    path = save(network(external(weight("w1", 6, 5), "w.bin", offset="0", length="120")), folder)
    assert s2.load(path).logits(np.ones((1, 6), np.float32)).tolist() == [[30, 30, 30]]


@pytest.mark.parametrize(
    ("location", "entries"),
    [
        ("../secret.bin", {}), ("/etc/passwd", {}), ("../../../../../../etc/passwd", {}),
        ("./../in/../secret.bin", {}), ("link.bin", {}), ("circle", {}), ("pipe", {}), (".", {}),
        ("", {}), (None, {}), ("a\0b", {}), ("a" * 5000, {}), ("%2e%2e/secret.bin", {}),
        ("file:///etc/passwd", {}), ("..\\secret.bin", {}), ("*/_ORT_MEM_ADDR_/*", {}),
        ("none.bin", {}), ("w.bin", {"offset": "abc"}), ("w.bin", {"offset": "-8"}),
        ("w.bin", {"offset": "0.5"}), ("w.bin", {"offset": "9" * 5000}),
        ("w.bin", {"offset": str(1 << 62)}), ("w.bin", {"offset": " 1"}),
        ("w.bin", {"offset": "0x10"}), ("w.bin", {"length": "-120"}), ("w.bin", {"length": "x"}),
        ("w.bin", {"length": "121"}), ("w.bin", {"length": ""}),
    ],
)  # fmt: skip
def test_no_other_place(location: str | None, entries: dict[str, str], folder: Path) -> None:
    """Refused here, before a runtime sees the file."""
    path = save(network(external(weight("w1", 6, 5), location, **entries)), folder)
    with pytest.raises((ModelError, FileError)) as caught:
        read_model(path)
    assert "\n" not in str(caught.value)


def test_no_place_twice(folder: Path, refused: Refused) -> None:
    tensor = external(weight("w1", 6, 5), "../secret.bin")
    tensor.external_data.add(key="location", value="w.bin")
    assert "location is said twice" in refused(
        ModelError, read_model, save(network(tensor), folder)
    )


def of_a_constant(tensor: Any) -> Any:
    return network(None, [helper.make_node("Constant", [], ["w1"], value=tensor)])


def of_a_function(tensor: Any) -> Any:
    body = [helper.make_node("Constant", [], ["w"], value=tensor)]
    function = helper.make_function("my", "F", [], ["w"], body, [helper.make_opsetid("", 17)])
    return network(None, [helper.make_node("F", [], ["w1"], domain="my")], functions=[function])


def of_a_sparse_one(tensor: Any) -> Any:
    model = network(None)
    sparse = model.graph.sparse_initializer.add(dims=[6, 5])
    sparse.values.CopyFrom(tensor)
    sparse.values.name = "w1"
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(30), "places"))
    return model


def of_a_branch(tensor: Any) -> Any:
    value = helper.make_tensor_value_info("o", TensorProto.FLOAT, [6, 5])
    same = helper.make_node("Identity", ["w"], ["o"])
    tensor.name = "w"
    branch = helper.make_graph([same], "b", [], [value], [tensor])
    node = helper.make_node("If", ["c"], ["w1"], then_branch=branch, else_branch=branch)
    true = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    return network(None, [true, node])


def of_training(tensor: Any) -> Any:
    model = network(weight("w1", 6, 5))
    model.training_info.add().algorithm.initializer.add().CopyFrom(tensor)
    return model


def of_the_same_name(tensor: Any) -> Any:
    model = of_a_constant(tensor)
    model.graph.initializer.add().CopyFrom(external(weight(tensor.name, 6, 5), "w.bin"))
    return model


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "w.bin"])
@pytest.mark.parametrize(
    "make",
    [of_a_constant, of_a_function, of_a_sparse_one, of_a_branch, of_training, of_the_same_name],
)
def test_no_other_tensor(make: Callable[[Any], Any], location: str, folder: Path, refused: Refused):
    path = save(make(external(weight("t", 6, 5), location)), folder)
    assert "keeps its values in another file" in refused(ModelError, read_model, path)


def test_a_prepared_file_names_no_other(folder: Path, refused: Refused) -> None:
    """It loads without the package that could look into it."""
    path = save(network(external(weight("w1", 6, 5), "w.bin")), folder)
    prepare(path, folder / "t.onnx")
    check_sealed(folder / "t.onnx")
    assert OnnxBackbone.load(folder / "t.onnx")
    assert "values in other files" in refused(ModelError, check_sealed, path)
    content = path.read_bytes()
    spelled = content.replace(b"\x0a\x08location", b"\x8a\x80\x00\x88\x80\x00location")
    assert spelled != content
    path.write_bytes(spelled)
    assert "values in other files" in refused(ModelError, check_sealed, path)


def functions(depth: int, *, last: str | None = None) -> list[Any]:
    """Each calls the one below it twice; the lowest is a Relu, or calls ``last``."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    of = {"domain": "my"}
    lowest = helper.make_node(last or "Relu", ["a"], ["b"], **(of if last else {}))
    bodies = [[lowest]] + [
        [
            helper.make_node(f"F{at}", ["a"], ["t"], **of),
            helper.make_node(f"F{at}", ["t"], ["b"], **of),
        ]
        for at in range(depth)
    ]  # fmt: skip
    return [
        helper.make_function("my", f"F{at}", ["a"], ["b"], body, opsets)
        for at, body in enumerate(bodies)
    ]


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (functions(40), "nodes and"),
        (functions(3, last="F2"), "in a circle"),
        (functions(0, last="F0"), "in a circle"),
    ],
)
def test_functions_without_end(of: list[Any], words: str, folder: Path, refused: Refused) -> None:
    call = helper.make_node(of[-1].name, ["v"], ["w1"], domain="my")
    model = network(weight("v", 6, 5), [call], functions=of)
    assert words in refused(ModelError, read_model, save(model, folder))


def test_functions_that_end(folder: Path) -> None:
    of = functions(5)
    call = helper.make_node("F5", ["v"], ["w1"], domain="my")
    model = read_model(save(network(weight("v", 6, 5), [call], functions=of), folder))
    assert sum(node.op_type == "Relu" for node in model.graph.node) == 32


def test_too_many_tensors(folder: Path, refused: Refused) -> None:
    model = network(weight("w1", 6, 5))
    model.graph.initializer.extend([TensorProto(data_type=1)] * 100_001)
    assert "nodes, tensors or functions" in refused(ModelError, read_model, save(model, folder))


@pytest.mark.parametrize("tag", [b"\n", b"\x8a\x00", b"\x8a\x80\x80\x00"])
@pytest.mark.parametrize("size", [b"\x08", b"\x88\x80\x80\x80\x80\x80\x80\x80\x80\x00"])
def test_the_key_in_any_spelling_of_its_numbers(tag: bytes, size: bytes) -> None:
    """Behind others of the word, which say nothing."""
    others = b"location of x, \x09location" * 3
    assert names_files(others + tag + size + b"location" + others)
    assert names_files(tag + size + b"location")
    assert not names_files(others + tag + size + b"locatiom")
    assert not names_files(others + size + b"location")


@pytest.mark.parametrize(
    ("entries", "fits"),
    [
        ({"offset": "0", "length": "120"}, True), ({"offset": "1", "length": "120"}, False),
        ({"length": "120"}, True), ({"length": "121"}, False), ({"offset": "0"}, True),
        ({}, True), ({"offset": "121"}, False),
    ],
)  # fmt: skip
def test_a_file_that_just_has_the_bytes(entries: dict[str, str], fits: bool, folder: Path) -> None:
    path, tensor = folder / "m.onnx", external(weight("w1", 6, 5), "w.bin", **entries)
    if fits:
        assert _check(path, tensor) == 120
    else:
        with pytest.raises(ModelError, match=r"w\.bin is truncated, m\.onnx expects more of it"):
            _check(path, tensor)


def test_what_is_left_of_a_file_behind_an_offset(folder: Path) -> None:
    assert _check(folder / "m.onnx", external(weight("w1", 5), "w.bin", offset="100")) == 20
    both = external(weight("w1", 5), "w.bin", offset="100", length="16")
    assert _check(folder / "m.onnx", both) == 16
