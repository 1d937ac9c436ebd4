"""Columns of a file are those that model and adapter learned, in every command and format."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from desk import Answer, refused
from skip2lora.adapters.folder import describe

Type = Callable[..., Answer]
NAMES = ("x", "y", "z")  # an accelerometer
CLASSES = ("idle", "wave", "fall")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type_in: Type) -> dict[str, Any]:
    """Samples, a model of x, y, z and an adapter."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    x = np.eye(3)[labels] + random.normal(0, 0.2, (90, 3))
    samples = dict(zip(NAMES, x.T, strict=True)) | {"label": np.array(CLASSES)[labels]}
    write("lab.csv", samples)
    quick = ("--epochs", 20)
    assert type_in("pretrain", "lab.csv", "-o", "m.safetensors", *quick).code == 0
    assert type_in("adapt", "m.safetensors", "lab.csv", "-o", "a", *quick).code == 0
    return samples


def write(name: str, columns: dict[str, Any]) -> None:
    """One file of these columns, in this order."""
    if name.endswith(".csv"):
        lines = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
        Path(name).write_text("\n".join([",".join(columns), *lines]))
    elif name.endswith(".parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({n: list(v) for n, v in columns.items()}), name)
    else:
        features = [column for column in columns if column != "label"]
        arrays = {"X": np.stack([columns[column] for column in features], axis=1)}
        arrays["feature_names"] = np.array(features)
        np.savez(name, **arrays, **({"y": columns["label"]} if "label" in columns else {}))


def accuracy(type_in: Type, name: str, *words: Any) -> float:
    share: float = type_in("evaluate", "m.safetensors", name, *words, "--json").json["accuracy"]
    return share


@pytest.mark.parametrize("adapter", [(), ("--adapter", "a")], ids=["model", "adapter"])
@pytest.mark.parametrize("kind", ["csv", "npz", "parquet"])
def test_any_order(desk: dict[str, Any], kind: str, adapter: Any, type_in: Type) -> None:
    expected = accuracy(type_in, "lab.csv", *adapter)
    assert expected > 0.9
    for order in itertools.permutations(("label", *NAMES) if kind == "csv" else NAMES):
        columns = {name: desk[name] for name in order}
        write(f"t.{kind}", columns | {"label": desk["label"]})
        assert accuracy(type_in, f"t.{kind}", *adapter) == expected


@pytest.mark.parametrize("adapter", [(), ("--adapter", "a")], ids=["model", "adapter"])
@pytest.mark.parametrize("kind", ["csv", "npz", "parquet"])
def test_predict_needs_no_answers(
    desk: dict[str, Any], kind: str, adapter: Any, type_in: Type
) -> None:
    words = ("-o", "p.csv", "--force", *adapter)
    write(f"t.{kind}", desk)
    assert type_in("predict", "m.safetensors", f"t.{kind}", *words).code == 0
    expected = Path("p.csv").read_text()
    for labels in ({}, {"label": np.array(["strange"] * 90)}, {"label": np.arange(90) + 0.5}):
        write(f"t.{kind}", {name: desk[name] for name in ("z", "x", "y")} | labels)
        answer = type_in("predict", "m.safetensors", f"t.{kind}", *words)
        assert answer.code == 0, answer.err
        rows = [line.split(",")[-3:] for line in Path("p.csv").read_text().splitlines()]
        assert rows == [line.split(",")[-3:] for line in expected.splitlines()]


@pytest.mark.parametrize("kind", ["csv", "npz", "parquet"])
@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "m.safetensors"),
        ("evaluate", "m.safetensors", "--adapter", "a"),
        ("predict", "m.safetensors", "--force", "-o", "p.csv"),
        ("adapt", "m.safetensors", "--force", "-o", "b"),
        ("plan", "m.safetensors"),
    ],
    ids=lambda words: "-".join(words[::3]),
)
def test_what_is_missing_or_more_is_named(
    desk: dict[str, Any], command: Any, kind: str, type_in: Type
) -> None:
    name, model, *words = command
    missing = {column: desk[column] for column in ("label", "x", "z")}
    for columns, parts in (
        (missing, ['no column "y"', "x, y, z"]),
        (missing | {"w": desk["y"]}, ['"y"', '"w"']),
        (desk | {"w": desk["y"], "v": desk["y"]}, ['"w", "v"', "--ignore w,v"]),
    ):
        write(f"t.{kind}", columns)
        refused(type_in(name, model, f"t.{kind}", *words), f"t.{kind}", *parts)
    assert not Path("b").exists()
    more = ("--ignore", "w,v")
    assert type_in(name, model, f"t.{kind}", *words, *more).code == 0
    refused(type_in(name, model, f"t.{kind}", *words, "--ignore", "w,u"), '"u"', "--ignore")
    refused(type_in(name, model, f"t.{kind}", *words, "--ignore", "w,v,x"), '"x"', "feature")


def test_what_is_told_is_kept(desk: dict[str, Any], type_in: Type) -> None:
    columns = {"t": np.arange(90), "device": ["d"] * 90, **desk}
    columns["activity"] = columns.pop("label")
    write("t.csv", columns)
    words = ("-o", "n.safetensors", "--epochs", 20)
    refused(type_in("pretrain", "t.csv", *words), "x, y, z, activity", "--target")
    target = ("--target", "activity")
    refused(type_in("pretrain", "t.csv", *words, *target), '"device"', "--ignore device")
    ignore = ("--ignore", "t,device")
    assert type_in("pretrain", "t.csv", *words, *target, *ignore).code == 0
    learned = s2.load("n.safetensors").columns
    assert learned.to_json() == {
        "features": list(NAMES), "ignored": ["t", "device"], "target": ["activity"],
    }  # fmt: skip
    shown = type_in("inspect", "n.safetensors").out
    assert "x, y, z" in shown
    assert "t, device" in shown
    for each in (columns, {n: v for n, v in columns.items() if n != "t"}):
        write("t.csv", each)
        for command in (("evaluate",), ("predict", "-o", "p.csv", "--force"), ("plan",)):
            name, *others = command
            answer = type_in(name, "n.safetensors", "t.csv", *others)
            assert answer.code == 0, answer.err
    adapted = type_in("adapt", "n.safetensors", "t.csv", "-o", "b", "--epochs", 2)
    assert adapted.code == 0, adapted.err
    assert describe("b")["columns"] == learned.to_json()


def test_a_model_without_names_goes_by_place(desk: dict[str, Any], type_in: Type) -> None:
    model = s2.MLP.create([3, 8, 3], class_names=CLASSES)
    x = np.stack([desk[name] for name in NAMES], axis=1)
    s2.pretrain(model, x, desk["label"], epochs=20).save("m.safetensors")
    assert accuracy(type_in, "lab.csv") > 0.9
    no_answers = {name: desk[name] for name in NAMES}
    write("t.csv", no_answers)  # y is a feature, as the model takes three
    assert type_in("predict", "m.safetensors", "t.csv", "-o", "p.csv").code == 0
    write("t.csv", {name: desk[name] for name in ("z", "y", "x", "label")})
    assert accuracy(type_in, "t.csv") < 0.9
    # its adapter learns names
    assert type_in("adapt", "m.safetensors", "lab.csv", "-o", "b", "--epochs", 2).code == 0
    by_name = ("--adapter", "b")
    assert accuracy(type_in, "t.csv", *by_name) == accuracy(type_in, "lab.csv", *by_name)


def test_index_columns_of_pandas_are_no_features(desk: dict[str, Any], type_in: Type) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({n: list(v) for n, v in desk.items()} | {"__index_level_0__": range(90)})
    meta = {b"pandas": b'{"index_columns": ["__index_level_0__"], "columns": []}'}
    parquet.write_table(table.replace_schema_metadata(meta), "t.parquet")
    assert accuracy(type_in, "t.parquet") == accuracy(type_in, "lab.csv")
    assert type_in("pretrain", "t.parquet", "-o", "n.safetensors", "--epochs", 2).code == 0
    assert s2.load("n.safetensors").columns.features == NAMES


def test_numbers_are_no_names_of_a_model(desk: dict[str, Any], type_in: Type) -> None:
    for labels in (np.arange(90) % 3, np.arange(90) % 3 + 1, (np.arange(90) % 3).astype(float)):
        write("t.csv", desk | {"label": labels})
        for command in (("evaluate",), ("adapt", "-o", "b"), ("adapt", "--new-classes", "-o", "b")):
            name, *words = command
            answer = type_in(name, "m.safetensors", "t.csv", *words)
            refused(answer, "t.csv", "fall, idle, wave", "--class-names")
    write("t.csv", desk | {"label": np.arange(90) % 3})
    told = ("--class-names", "idle,wave,fall")
    refused(type_in("evaluate", "m.safetensors", "t.csv"), "expected a name")
    assert type_in("evaluate", "m.safetensors", "t.csv", *told).code == 0


def test_a_regression_is_no_problem_of_many_classes(desk: dict[str, Any], type_in: Type) -> None:
    counts = {name: desk[name] for name in ("x", "z")}
    counts["label"] = np.round(1000 * desk["y"]).astype(int) + 2000
    write("t.csv", counts)
    words = ("t.csv", "-o", "n.safetensors", "--epochs", 200)
    refused(type_in("pretrain", *words), "different whole numbers", "--task regression")
    assert not Path("n.safetensors").exists()
    learned = type_in("pretrain", *words, "--task", "regression", "--json").json
    assert learned["task"] == "regression"
    assert learned["r2"] > 0.5
    again = type_in("evaluate", "n.safetensors", "t.csv", "--json").json
    assert again["r2"] == pytest.approx(learned["r2"])
    adapted = type_in("adapt", "n.safetensors", "t.csv", "-o", "b", "--json").json
    assert adapted["task"] == "regression"
    assert type_in("predict", "n.safetensors", "t.csv", "-o", "p.csv").code == 0


@pytest.mark.parametrize("kind", ["onnx", "onnx-adapter"])
def test_an_exported_model_keeps_the_names(desk: dict[str, Any], kind: str, type_in: Type) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = [random.normal(size=shape).astype(np.float32) for shape in ((3, 8), (8, 3))]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["logits"]),
    ]
    ends = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3])] for n in ("x", "logits")
    ]
    constants = [numpy_helper.from_array(w, f"w{at}") for at, w in enumerate(weights)]
    graph = helper.make_graph(nodes, "g", *ends, constants)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), "m.onnx")
    words = ("--class-names", ",".join(CLASSES), "--epochs", 20)
    assert type_in("adapt", "m.onnx", "lab.csv", "-o", "o", *words).code == 0
    write("t.csv", {name: desk[name] for name in ("z", "label", "x", "y")})
    by_name = [
        type_in("evaluate", "m.onnx", name, "--adapter", "o", "--json").json["accuracy"]
        for name in ("lab.csv", "t.csv")
    ]
    assert by_name[0] == by_name[1]
    made = type_in("export", "m.onnx", "--adapter", "o", "--to", kind, "-o", "e.onnx")
    assert made.code == 0, made.err
    assert s2.load("e.onnx").columns.features == NAMES
    named = ("--class-names", ",".join(CLASSES))
    if kind == "onnx":
        again = type_in("evaluate", "e.onnx", "t.csv", *named, "--json")
        assert again.json["accuracy"] == by_name[0]
    write("t.csv", {name: desk[name] for name in ("z", "label", "x")})
    refused(type_in("evaluate", "e.onnx", "t.csv", *named), 'no column "y"')
