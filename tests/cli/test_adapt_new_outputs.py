"""--no-keep-outputs, as a user types it: adapt, evaluate, predict, inspect, export, plan."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from cli.test_adapt_tasks import LABELS, N_FEATURES, NUMBERS, _mlp, _onnx, _tflite, write_csv
from desk import Answer, digests, refused

Type = Callable[..., Answer]
ANEW = ("--no-keep-outputs", "--epochs", 80, "--learning-rate", 0.01, "-o", "a")
KINDS = ("low", "middle", "high")


@pytest.fixture
def numbers() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.standard_normal((120, N_FEATURES)).astype(np.float32)
    return x, x @ random.standard_normal((N_FEATURES, 3)) * [3, 300, 0.03] + [10, 1000, 5]


@pytest.fixture
def desk(type_in: Type, tmp_path: Path, numbers: Any) -> Path:
    """Three numbers, three labels, three names of classes, for models of four outputs."""
    x, y = numbers
    write_csv("r.csv", x, dict(zip(NUMBERS, y.T, strict=True)))
    write_csv("ml.csv", x, dict(zip(LABELS, (y > y.mean(axis=0)).astype(int).T, strict=True)))
    kind = np.array(KINDS)[np.digitize(y[:, 0], np.quantile(y[:, 0], [1 / 3, 2 / 3]))]
    write_csv("c.csv", x, {"label": kind})
    np.savez("whole.npz", X=x, y=y[:, 0])
    np.savez("labels.npz", X=x, y=np.where(y[:, 0] > 10, 700, 3))
    return tmp_path


def predicted(path: str = "p.csv") -> tuple[list[str], list[list[str]]]:
    with Path(path).open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    return head, rows


CASES = {
    "regression": ("r.csv", ("--target", ",".join(NUMBERS)), "r2", NUMBERS),
    "multi-label": ("ml.csv", ("--target", ",".join(LABELS)), "f1_micro", LABELS),
    "classification": ("c.csv", (), "accuracy", tuple(sorted(KINDS))),
}


@pytest.mark.parametrize("make", [_mlp, _onnx, _tflite])
@pytest.mark.parametrize("task", CASES)
def test_every_command_follows_the_adapter(
    desk: Path, type_in: Type, make: Any, task: str, numbers: Any
) -> None:
    data, words, measure, names = CASES[task]
    model = make(4, "m")
    made = type_in("adapt", model, data, "--task", task, *words, *ANEW, "--json")
    assert made.code == 0, made.err
    assert made.err == ""
    assert made.json["n_outputs"] == 3
    assert made.json[measure] > 0.8
    told = type_in("evaluate", model, data, "--adapter", "a", "--json")  # columns by their names
    assert told.code == 0, told.err
    assert told.json[measure] == pytest.approx(made.json[measure])
    parts = told.json["targets" if task == "regression" else "classes"]
    assert [of["target" if task == "regression" else "class"] for of in parts] == list(names)
    assert type_in("predict", model, data, "--adapter", "a", "-o", "p.csv").code == 0
    head, rows = predicted()
    loaded = s2.AdaptedModel.load(s2.load(model), "a")
    if task == "regression":
        assert head == ["row", *NUMBERS]
        said = np.array(rows, float)[:, 1:]
        np.testing.assert_allclose(said, loaded.predict(numbers[0]), rtol=1e-5)
    else:
        assert [name for name in head if name[:2] == "p_"] == [f"p_{name}" for name in names]
    if task == "classification":
        assert [row[head.index("name")] for row in rows] == loaded.predict(numbers[0]).tolist()
    about = type_in("inspect", "a", "--json").json
    assert about["keep_outputs"] is False
    assert about["base_fingerprint"] == s2.load(model).fingerprint
    shown = type_in("inspect", "a").out
    assert [line.split() for line in shown.splitlines() if "keep" in line] == [
        ["keep", "outputs", "no"]
    ]


def test_one_number_and_numbered_labels(desk: Path, type_in: Type) -> None:
    model = _mlp(4, "m")
    made = type_in("adapt", model, "whole.npz", "--task", "regression", *ANEW)
    assert made.code == 0, made.err
    assert "outputs learned anew: 1\n" in made.out
    assert type_in("evaluate", model, "whole.npz", "--adapter", "a", "--json").json["r2"] > 0.9
    made = type_in("adapt", model, "labels.npz", *ANEW, "--force", "--json")
    assert made.code == 0, made.err
    assert made.json["accuracy"] > 0.9
    told = type_in("evaluate", model, "labels.npz", "--adapter", "a", "--json").json
    assert told["accuracy"] == made.json["accuracy"]
    assert type_in("predict", model, "labels.npz", "--adapter", "a", "-o", "p.csv").code == 0
    head, rows = predicted()
    assert {row[head.index("name")] for row in rows} == {"3", "700"}


@pytest.mark.parametrize("kind", ["onnx", "onnx-adapter"])
def test_export(desk: Path, type_in: Type, kind: str, numbers: Any) -> None:
    model, (data, words, *_) = _onnx(4, "m"), CASES["regression"]
    assert type_in("adapt", model, data, "--task", "regression", *words, *ANEW).code == 0
    assert type_in("export", model, "--adapter", "a", "--to", kind, "-o", "e.onnx").code == 0
    from onnx_exports import session_of

    session, feed = session_of(Path("e.onnx")), {"x": numbers[0]}
    assert [of.name for of in session.get_outputs()] == ["logits"]
    import onnxruntime

    options = onnxruntime.RunOptions()
    if kind == "onnx-adapter":
        adapter = onnxruntime.LoraAdapter()
        adapter.Load("e.onnx_adapter")
        options.add_active_adapter(adapter)
    [made] = session.run(None, feed, options)
    want = s2.AdaptedModel.load(s2.load(model), "a").predict(numbers[0])
    assert (np.abs(made - want).max(axis=0) < 1e-5 * np.abs(want).max(axis=0)).all()


def test_images_are_read_as_by_adapt(desk: Path, type_in: Type) -> None:
    """The layout is that of the model inside."""
    image = pytest.importorskip("PIL.Image", reason="needs Pillow (extra image)")
    pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    import onnx_models as nets

    random = np.random.default_rng(0)
    for number in range(20):
        folder = Path("images", "dark" if number % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        low = 0 if number % 2 else 128
        pixels = random.integers(low, low + 128, (20, 20, 3), dtype=np.uint8)
        image.fromarray(pixels).save(folder / f"{number}.png")
    nets.save(nets.cnn(size="s"), Path("m.onnx"))
    made = type_in("adapt", "m.onnx", "images", "--size", "14x14", *ANEW, "--json")
    assert made.code == 0, made.err
    assert made.json["accuracy"] == 1
    told = type_in("evaluate", "m.onnx", "images", "--adapter", "a", "--json")
    assert told.code == 0, told.err
    assert told.json["accuracy"] == 1
    refused(
        type_in("evaluate", "m.onnx", "images", "--adapter", "a", "--mean", "0.5"), "--mean", "0.5"
    )


def test_an_encoder(type_in: Type) -> None:
    """Texts to one number, of a graph without logits."""
    pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    import onnx_models as nets

    texts = nets.texts(60, 7)
    nets.save(nets.transformer(encoder=True), Path("m.onnx"))
    np.savez("t.npz", y=texts["attention_mask"].sum(axis=1) * 100 + 0.5, **texts)
    words = ("m.onnx", "t.npz", "--task", "regression")
    refused(
        type_in("adapt", *words, "-o", "a"), "1 target, expected 0", "model: learn new outputs",
        "--no-keep-outputs",
    )  # fmt: skip
    made = type_in("adapt", *words, *ANEW, "--json")
    assert made.code == 0, made.err
    assert made.json["r2"] > 0.9
    plan = ("plan", "m.onnx", "t.npz", "--no-keep-outputs", "--classes", 1, "--json")
    told = type_in(*plan, "--solver", "steps")
    assert told.json["n_parameters"] == made.json["trainable_parameters"]
    assert type_in("export", "m.onnx", "--adapter", "a", "--to", "onnx", "-o", "e.onnx").code == 0
    from onnx_exports import session_of

    outputs = session_of(Path("e.onnx")).run(None, texts)
    want = s2.AdaptedModel.load(s2.load("m.onnx"), "a").predict(texts)
    np.testing.assert_allclose(outputs[1], want, rtol=1e-5)


def test_plan(desk: Path, type_in: Type) -> None:
    model = _onnx(4, "m")
    words = ("plan", model, "r.csv", "--target", ",".join(NUMBERS), "--no-keep-outputs", "--json")
    told = type_in(*words, "--classes", 3, "--solver", "steps").json
    made = type_in("adapt", model, "r.csv", "--task", "regression", *words[3:5], *ANEW, "--json")
    assert told["n_outputs"] == 3
    assert told["n_parameters"] == made.json["trainable_parameters"]
    assert told["memory"]["cache_bytes"] == made.json["cache_bytes"]
    refused(type_in(*words), "the number to learn", "classes")
    alone = ("plan", model, "--samples", 120, "--json")
    kept, anew = (type_in(*alone, *more).json for more in ((), (*words[5:6], "--classes", 3)))
    assert anew["taps"] == kept["taps"] == told["taps"]
    assert anew["cache_fill_ms"] is not None  # a sample is made as the model says


BAD: dict[str, tuple[tuple[Any, ...], list[str]]] = {
    "a column twice": (
        ("r.csv", "--task", "regression", "--target", "age,age"),
        ['--target names column "age" twice', "expected each column once: correct it"],
    ),
    "too few columns": (
        ("r.csv", "--task", "regression", "--target", "age"),
        ["1 target (age)", "expected 4", "--target", "--no-keep-outputs"],
    ),
    "with new classes": (
        ("c.csv", "--no-keep-outputs", "--new-classes"), ["new_classes", "leave new_classes out"],
    ),
    "names of what is left out": (
        ("c.csv", "--no-keep-outputs", "--class-names", "a,b,c,d"),
        ["--class-names is a, b, c, d", "--no-keep-outputs"],
    ),
    "a method through the network": (
        ("c.csv", "--no-keep-outputs", "--method", "ft-all"), ["ft-all", "use skip2-lora"],
    ),
    "text for numbers": (
        ("c.csv", "--no-keep-outputs", "--task", "regression"), ["row 0 (from 0, line", "number"],
    ),
    "numbers for classes": (
        ("r.csv", "--no-keep-outputs", "--target", "age"), ["whole number", "--task regression"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(desk: Path, type_in: Type, case: str) -> None:
    words, parts = BAD[case]
    model = _mlp(4, "m")
    before = digests(desk)
    refused(type_in("adapt", model, *words, "-o", "a", "--epochs", 2), *parts)
    assert digests(desk) == before


def test_names_of_what_is_left_out_later(desk: Path, type_in: Type) -> None:
    model = _mlp(4, "m")
    assert type_in("adapt", model, "c.csv", *ANEW).code == 0
    asked = ("--adapter", "a", "--class-names", "a,b,c,d")
    refused(type_in("evaluate", model, "c.csv", *asked), "--class-names", "leaves the outputs")
