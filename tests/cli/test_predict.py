"""``predict`` as a user types it."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from desk import NAMES, Answer, refused

Type = Callable[..., Answer]


def test_predict_needs_no_labels(desk, type_in):
    np.savez("new.npz", X=np.load("test.npz")["X"])
    done = type_in("predict", "model.safetensors", "new.npz", "-o", "p.csv", "--json")
    assert done.code == 0
    assert sum(done.json["predicted"].values()) == 60


def test_the_file_agrees_with_the_model(desk: Path, type_in: Type) -> None:
    done = type_in("predict", "model.safetensors", "test.npz", "-o", "p.csv", "--json")
    x = np.load(desk / "test.npz")["X"]
    model = s2.load(desk / "model.safetensors")
    with (desk / "p.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["prediction"]) for row in rows] == model.predict_index(x).tolist()
    probabilities = [[float(row[f"p_{name}"]) for name in NAMES] for row in rows]
    np.testing.assert_allclose(probabilities, model.predict_proba(x), rtol=1e-6)
    counts = np.bincount(model.predict_index(x), minlength=3).tolist()
    assert done.json["predicted"] == dict(zip(NAMES, counts, strict=True))
    assert (done.json["n_samples"], done.json["task"]) == (60, "classification")


def rows_of(path: str = "p.csv") -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def csv_of(desk: Path, name: str, labels: list[str] | None, n_rows: int = 6) -> None:
    x = np.load(desk / "test.npz")["X"][:n_rows]
    with (desk / name).open("w", newline="") as stream:
        writer = csv.writer(stream)
        head = [f"f{at}" for at in range(x.shape[1])]
        writer.writerow(head if labels is None else [*head, "label"])
        for at, row in enumerate(x.tolist()):
            writer.writerow(row if labels is None else [*row, labels[at]])


def test_true_labels_and_probabilities_stand_beside(desk: Path, type_in: Type) -> None:
    predict = ("predict", "model.safetensors", "a.csv", "-o", "p.csv", "--force")
    csv_of(desk, "a.csv", [NAMES[0], "", NAMES[1], "NA", NAMES[2], NAMES[0]])
    answer = type_in(*predict)
    assert (answer.code, answer.err) == (0, "")
    rows = rows_of()
    assert [row["true"] for row in rows] == [NAMES[0], "", NAMES[1], "", NAMES[2], NAMES[0]]
    for row in rows:
        assert row["probability"] == max(row[f"p_{name}"] for name in NAMES)
    csv_of(desk, "a.csv", ["cat", "dog", "", "7", NAMES[0], "cat"])
    answer = type_in(*predict)
    assert (answer.code, answer.err.count("\n")) == (0, 1)
    assert "none of the model, written as they are" in answer.err
    assert [row["true"] for row in rows_of()] == ["cat", "dog", "", "7", NAMES[0], "cat"]
    csv_of(desk, "a.csv", None)
    assert type_in(*predict).code == 0
    assert "true" not in rows_of()[0]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "npz"])
def test_standard_input(
    kind: str, desk: Path, type_in: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv_of(desk, "a.csv", None, n_rows=60)
    if kind == "csv.gz":
        Path("a.csv.gz").write_bytes(gzip.compress(Path("a.csv").read_bytes()))
    name = "test.npz" if kind == "npz" else f"a.{kind}"

    def piped(content: bytes) -> Answer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return type_in("predict", "model.safetensors", "-", "-o", "b.csv", "--force")

    answer = piped(Path(name).read_bytes())
    assert answer.code == 0, answer.err
    assert type_in("predict", "model.safetensors", name, "-o", "a.txt").code == 0
    assert Path("b.csv").read_bytes() == Path("a.txt").read_bytes()
    answer = piped(b"f0,f1\nwarm,1\n")
    assert answer.code == 2
    assert answer.err.startswith("skip2lora: standard input: ")


def test_thresholds(desk: Path, type_in: Type) -> None:
    predict = ("predict", "model.safetensors", "test.npz", "-o", "p.csv", "--force", "--json")
    told = type_in(*predict, "--threshold", 0.6).json
    rows = rows_of()
    unsure = [row for row in rows if float(row["probability"]) < 0.6]
    assert unsure
    assert {(row["prediction"], row["name"]) for row in unsure} == {("-1", "none of these")}
    assert told["predicted"]["none of these"] == len(unsure)
    assert sum(told["predicted"].values()) == 60
    told = type_in(*predict, "--threshold", f"{NAMES[0]}=1").json
    assert told["thresholds"] == {NAMES[0]: 1.0, NAMES[1]: 0.0, NAMES[2]: 0.0}
    answer = type_in(*predict, "--threshold-data", "field.npz", "--precision", "0.8")
    assert "thresholds from field.npz" in answer.err
    model = s2.load("model.safetensors")
    field = np.load("field.npz")
    chosen = model.choose_threshold(field["X"], field["y"], precision=0.8)
    finite = {name: of if np.isfinite(of) else None for name, of in chosen.items()}
    assert answer.json["thresholds"] == finite
    assert answer.json["thresholds_from"] == "field.npz"


@pytest.mark.parametrize("n_columns", [2, 3])
def test_answers_that_are_no_labels_are_not_written(
    n_columns: int, desk: Path, type_in: Type
) -> None:
    """Such as one-hot rows, which were a traceback of NumPy."""
    x, y = (np.load(desk / "test.npz")[name] for name in ("X", "y"))
    np.savez(desk / "rows.npz", X=x, y=np.eye(n_columns, dtype=int)[y % n_columns])
    said = type_in("predict", "model.safetensors", "rows.npz", "-o", "p.csv")
    assert said.code == 0
    shape = f"answers of shape ({len(x)}, {n_columns}), no label a sample, so there is no column"
    assert shape in said.err
    assert "true" not in (desk / "p.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--threshold", "2"), ["--threshold is '2'"]),
        (("--threshold", "left=0.5"), ['--threshold names "left"']),
        (("--threshold", "0.5", "--threshold-data", "field.npz"), ["both given"]),
        (("--threshold-data", "test.npz"), ["test.npz, which is to be predicted"]),
        (("--threshold-data", "field.npz", "--precision", "2"), ["--precision is 2.0"]),
        (("--task", "regression", "--threshold", "0.5"), ["numbers"]),
    ],
)
def test_bad_thresholds(
    desk: Path, type_in: Type, words: tuple[str, ...], parts: list[str]
) -> None:
    refused(type_in("predict", "model.safetensors", "test.npz", "-o", "p.csv", *words), *parts)
    assert not Path("p.csv").exists()


def test_a_name_for_something_else_is_refused(desk: Path, type_in: Type) -> None:
    for name in ("p.json", "p.parquet", "p.xlsx"):
        refused(type_in("predict", "model.safetensors", "test.npz", "-o", name), name, ".csv")
        assert not Path(name).exists()
    assert type_in("predict", "model.safetensors", "test.npz", "-o", "p").code == 0
