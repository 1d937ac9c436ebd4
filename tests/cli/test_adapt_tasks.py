"""Several labels and numbers, as a user types them: adapt, evaluate, predict, inspect."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from desk import Answer, digests, refused

metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn: pip group sklearn")
Type = Callable[..., Answer]
N_FEATURES = 9
NUMBERS = ("mass", "price", "age")
LABELS = ("wet", "hot", "loud")
TRAIN = ("--epochs", 80, "--optimizer", "adam", "--learning-rate", 0.01, "--standardize")


def write_csv(name: str, x: np.ndarray, columns: dict[str, Any]) -> None:
    with Path(name).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*(f"f{k}" for k in range(N_FEATURES)), *columns])
        writer.writerows([*row, *each] for row, *each in zip(x, *columns.values(), strict=True))


@pytest.fixture
def numbers() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.standard_normal((80, N_FEATURES)).astype(np.float32)
    noise = 0.1 * random.standard_normal((80, 3))
    return x, x @ random.standard_normal((N_FEATURES, 3)) * 3 + 10 + noise


def _mlp(n_outputs: int, path: str) -> str:
    s2.MLP.create([N_FEATURES, 16, n_outputs], seed=1).save(f"{path}.safetensors")
    return f"{path}.safetensors"


def _onnx(n_outputs: int, path: str) -> str:
    pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    import onnx_models as nets

    nets.save(nets.mlp([N_FEATURES, 16, 8, n_outputs]), Path(f"{path}.onnx"))
    return f"{path}.onnx"


def _tflite(n_outputs: int, path: str) -> str:
    pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")
    import tflite_models as nets

    Path(f"{path}.tflite").write_bytes(nets.mlp([N_FEATURES, 16, n_outputs]).content())
    return f"{path}.tflite"


@pytest.fixture
def desk(type_in: Type, tmp_path: Path, numbers: Any) -> Path:
    """One folder with the same answers in every format."""
    pytest.importorskip("pyarrow", reason="needs the package pyarrow")
    import pyarrow
    import pyarrow.parquet

    x, y = numbers
    several = (y > 10).astype(int)
    write_csv("r.csv", x, dict(zip(NUMBERS, y.T, strict=True)))
    write_csv("one.csv", x, {"mass": y[:, 0]})
    write_csv("ml.csv", x, dict(zip(LABELS, several.T, strict=True)))
    np.savez("r.npz", X=x, y=y)
    np.savez("ml.npz", X=x, y=several, class_names=np.array(LABELS))
    np.savez("turned.npz", X=x, y=several[:, ::-1], target_names=np.array(LABELS[::-1]))
    np.savez("apart.npz", X=x, **dict(zip(NUMBERS, y.T, strict=True)))
    table = {f"f{k}": x[:, k] for k in range(N_FEATURES)} | dict(zip(NUMBERS, y.T, strict=True))
    pyarrow.parquet.write_table(pyarrow.table(table), "r.parquet")
    return tmp_path


@pytest.mark.parametrize("make", [_mlp, _onnx, _tflite])
@pytest.mark.parametrize("data", ["r.csv", "r.parquet", "apart.npz"])
def test_numbers(desk: Path, type_in: Type, numbers: Any, make: Any, data: str) -> None:
    model, y = make(3, "m"), numbers[1]
    names = ("--target", ",".join(NUMBERS))
    words = ("--task", "regression", *names, *TRAIN, "-o", "a", "--json")
    made = type_in("adapt", model, data, *words)
    assert made.code == 0, made.err
    assert made.json["r2"] > 0.9
    told = type_in("evaluate", model, data, "--adapter", "a", "--json").json
    assert type_in("evaluate", model, "r.npz", "--adapter", "a", "--json").json == told
    assert type_in("predict", model, data, "--adapter", "a", "-o", "p.csv").code == 0
    with Path("p.csv").open(encoding="utf-8", newline="") as stream:
        [head, *rows] = csv.reader(stream)
    assert head == ["row", *NUMBERS]
    said = np.array(rows, float)[:, 1:]
    assert told["r2"] == pytest.approx(metrics.r2_score(y, said))
    assert told["mean_absolute_error"] == pytest.approx(metrics.mean_absolute_error(y, said))
    assert told["mean_squared_error"] == pytest.approx(metrics.mean_squared_error(y, said))
    assert told["targets"][2]["root_mean_squared_error"] == pytest.approx(
        metrics.root_mean_squared_error(y[:, 2], said[:, 2])
    )
    adapted = s2.AdaptedModel.load(s2.load(model), "a")
    assert adapted.score(numbers[0], y) == pytest.approx(told["r2"])
    assert adapted.output_names == NUMBERS
    shown = type_in("evaluate", model, data, "--adapter", "a").out
    assert "mean R2" in shown
    assert "unit" in shown


def test_one_number(desk: Path, type_in: Type) -> None:
    model = _onnx(1, "m")
    words = ("--task", "regression", "-o", "a", *TRAIN)
    assert type_in("adapt", model, "one.csv", "--target", "mass", *words).code == 0
    shown = type_in("evaluate", model, "one.csv", "--adapter", "a").out.splitlines()
    assert shown[0].startswith("R2 ")
    assert shown[1:] == ["MAE and RMSE are in the unit of the target"]
    assert "mass" in type_in("predict", model, "one.csv", "--adapter", "a", "-o", "p.csv").out
    asked = ("--target", "price", "--adapter", "a", "--json")  # under another name
    told = type_in("evaluate", model, "one.csv", "--adapter", "a", "--json").json
    x = np.load("r.npz")
    write_csv("price.csv", x["X"], {"price": x["y"][:, 0]})
    assert type_in("evaluate", model, "price.csv", *asked).json["r2"] == told["r2"]


@pytest.mark.parametrize("make", [_mlp, _onnx, _tflite])
def test_several_labels(desk: Path, type_in: Type, make: Any) -> None:
    model, y = make(3, "m"), np.load("ml.npz")["y"]
    words = ("--task", "multi-label", "--target", ",".join(LABELS), "-o", "a", *TRAIN, "--json")
    made = type_in("adapt", model, "ml.csv", *words)
    assert made.code == 0, made.err
    assert made.err == ""
    assert made.json["f1_micro"] > 0.8
    told = type_in("evaluate", model, "ml.csv", "--adapter", "a", "--json").json
    for other in ("ml.npz", "turned.npz"):  # names put the columns in their places
        assert type_in("evaluate", model, other, "--adapter", "a", "--json").json == told
    done = type_in("predict", model, "ml.csv", "--adapter", "a", "-o", "p.csv", "--json").json
    with Path("p.csv").open(encoding="utf-8", newline="") as stream:
        [head, *rows] = csv.reader(stream)
    assert head == ["row", "prediction", *(f"p_{name}" for name in LABELS)]
    said = np.array([[name in row[1].split(";") for name in LABELS] for row in rows], int)
    np.testing.assert_array_equal(said, np.array([row[2:] for row in rows], float) > 0.5)
    assert list(done["predicted"].values()) == said.sum(axis=0).tolist()
    assert told["exact_match"] == pytest.approx(metrics.accuracy_score(y, said))
    assert told["f1_micro"] == pytest.approx(metrics.f1_score(y, said, average="micro"))
    assert told["f1_macro"] == pytest.approx(metrics.f1_score(y, said, average="macro"))
    assert told["hamming_loss"] == pytest.approx(metrics.hamming_loss(y, said))
    scores = metrics.precision_recall_fscore_support(y, said)
    for number, of in enumerate(told["classes"]):
        got = [of["precision"], of["recall"], of["f1"], of["n_samples"]]
        assert got == pytest.approx([float(score[number]) for score in scores])
    assert "F1 micro" in type_in("evaluate", model, "ml.csv", "--adapter", "a").out
    assert "multi-label" in type_in("inspect", "a").out


def test_a_model_alone(desk: Path, type_in: Type) -> None:
    """Without an adapter the end of the graph tells the task, or the user."""
    pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
    import onnx_models as nets

    x = np.load("r.npz")["X"]
    np.savez("c.npz", X=x, y=np.arange(len(x)) % 3)
    nets.save(nets.mlp([N_FEATURES, 8, 3], end="Sigmoid"), desk / "s.onnx")
    told = type_in("evaluate", "s.onnx", "ml.csv", "--target", ",".join(LABELS), "--json").json
    assert told["task"] == "multi-label"
    refused(type_in("evaluate", "s.onnx", "c.npz"), "expected 0 or 1", "--task")
    told = type_in("evaluate", "s.onnx", "c.npz", "--task", "classification", "--json").json
    assert told["task"] == "classification"
    assert told["accuracy"] == pytest.approx(
        np.mean(s2.load("s.onnx").logits(x).argmax(axis=1) == np.arange(len(x)) % 3)
    )
    told = type_in("evaluate", "s.onnx", "r.npz", "--task", "regression", "--json").json
    assert [of["target"] for of in told["targets"]] == ["0", "1", "2"]
    answer = type_in("predict", "s.onnx", "r.npz", "--task", "regression", "-o", "p.csv")
    assert answer.code == 0, answer.err
    assert Path("p.csv").read_text().startswith("row,prediction_0,prediction_1,prediction_2\n")


def test_inspect(desk: Path, type_in: Type) -> None:
    told = type_in("inspect", "ml.npz", "--json").json
    assert told["samples_a_label"] == dict(
        zip(LABELS, np.load("ml.npz")["y"].sum(axis=0).tolist(), strict=True)
    )
    told = type_in("inspect", "r.csv", "--target", "mass,age", "--json").json
    assert list(told["targets"]) == ["mass", "age"]
    assert told["n_features"] == N_FEATURES + 1
    y = np.load("r.npz")["y"]
    assert told["targets"]["age"]["largest"] == pytest.approx(y[:, 2].max())
    assert " to " in type_in("inspect", "r.npz").out
    assert type_in("plan", _mlp(3, "m"), "r.csv", "--target", ",".join(NUMBERS)).code == 0


def spoiled(**changes: Any) -> None:
    data = np.load("r.npz")
    np.savez("bad.npz", **{"X": data["X"], "y": data["y"].copy(), **changes})


def nan_at(row: int, column: int) -> None:
    y = np.load("r.npz")["y"]
    y[row, column] = np.nan
    spoiled(y=y)
    write_csv("bad.csv", np.load("r.npz")["X"], dict(zip(NUMBERS, y.T, strict=True)))


ALL = ("--target", ",".join(NUMBERS))
BAD: dict[str, tuple[Any, str, tuple[str, ...], list[str]]] = {
    "labels for regression": (
        lambda: write_csv("bad.csv", np.load("r.npz")["X"], {"label": ["on"] * 80}),
        "bad.csv", ("--task", "regression"), ["row 0 (from", '"label"', '"on"', "number"],
    ),
    "numbers for classes": (
        lambda: None, "one.csv", ("--target", "mass"), ["whole number", "--task regression"],
    ),
    "several columns for classes": (
        lambda: None, "r.csv", ALL, ["(80, 3)", "--task multi-label or regression"],
    ),
    "too few targets": (
        lambda: None, "r.csv", ("--task", "regression", "--target", "age"),
        ["1 target (age)", "expected 3", "--target"],
    ),
    "too many columns": (
        lambda: spoiled(y=np.zeros((80, 4))), "bad.npz", ("--task", "regression"),
        ["4 targets", "expected 3"],
    ),
    "no such column": (
        lambda: None, "r.csv", ("--task", "regression", "--target", "age,mas"), ['"mas"'],
    ),
    "the columns not told": (
        lambda: None, "r.csv", ("--task", "regression"), ["12 in all", "--target"],
    ),
    "nan in an array": (
        lambda: nan_at(3, 1), "bad.npz", ("--task", "regression"), ["row 3 (from 0)", "nan"],
    ),
    "nan in a table": (
        lambda: nan_at(3, 1), "bad.csv", ("--task", "regression", *ALL),
        ["row 3 (from 0, line 5)", '"price"', "nan", "missing value"],
    ),
    "more than 0 and 1": (
        lambda: spoiled(y=np.full((80, 3), 2)), "bad.npz", ("--task", "multi-label"),
        ["row 0 (from 0)", "has 2", "0 or 1"],
    ),
    "fractions for labels": (
        lambda: None, "r.csv", ("--task", "multi-label", *ALL), ['"mass"', "0 or 1"],
    ),
    "names that do not fit": (
        lambda: spoiled(target_names=np.array(["a", "b"])), "bad.npz", ("--task", "regression"),
        ["3 columns", "2 names"],
    ),
    "short answers": (
        lambda: spoiled(y=np.zeros((79, 3))), "bad.npz", ("--task", "regression"), ["79", "80"],
    ),
    "an unknown task": (lambda: None, "r.csv", ("--task", "ranking"), ["ranking", "regression"]),
    "new classes of numbers": (
        lambda: None, "r.csv", ("--task", "regression", *ALL, "--new-classes"), ["new_classes"],
    ),
    "a method for classes": (
        lambda: None, "r.csv", ("--task", "regression", *ALL, "--method", "ft-all"), ["ft-all"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_answers(desk: Path, type_in: Type, case: str) -> None:
    make, data, words, parts = BAD[case]
    model = _mlp(3, "m")
    make()
    before = digests(desk)
    refused(type_in("adapt", model, data, *words, "-o", "a", "--epochs", 2), *parts)
    assert digests(desk) == before


def test_an_adapter_keeps_its_task(desk: Path, type_in: Type) -> None:
    model = _mlp(3, "m")
    words = ("--task", "multi-label", "--target", ",".join(LABELS), "-o", "a", "--epochs", 2)
    assert type_in("adapt", model, "ml.csv", *words).code == 0
    for command in (("evaluate",), ("predict", "-o", "p.csv")):
        answer = type_in(*command, model, "ml.csv", "--adapter", "a", "--task", "regression")
        refused(answer, "--task is regression", "multi-label")
    asked = ("--target", "wet,hot", "--adapter", "a")
    refused(type_in("evaluate", model, "ml.csv", *asked), "wet, hot alone", "wet, hot, loud")
