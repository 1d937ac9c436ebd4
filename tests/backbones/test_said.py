"""What an exported file says of what was learned: loaded as a model, it answers as that did."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.backbones.said import Said
from skip2lora.backbones.standins import Binary
from skip2lora.data.image_options import Images
from skip2lora.errors import ModelError
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.thresholds import NEVER, Thresholds

Refused = Callable[..., str]
SUFFIXES = (".onnx", ".tflite")
CHOSEN = Thresholds(0.9, (0.7, NEVER, None), (20, 20, 3))
FULL = Said(
    task="classification", class_names=("cat", "dog", "fox"), class_numbers=(0, 1, 7),
    columns=Columns(("a", "b"), ("day",), ("kind",)), images=Images(size=(8, 8)),
)  # fmt: skip


def test_entries_are_read_again() -> None:
    assert Said.from_entries(FULL.entries() | {"rank": "3", "version": "1"}) == FULL
    assert Said().entries() == {}
    assert Said.from_entries({}) == Said()
    least = {"thresholds": CHOSEN.to_json(), "output": 2}
    assert Said.from_entries(least) == Said(2, thresholds=CHOSEN)


@pytest.mark.parametrize(
    "entries",
    [
        {"classes": '["a", "a"]'}, {"classes": '"ab"'}, {"classes": "[1, 2]"}, {"classes": "[a"},
        {"numbers": "[true, 2]"}, {"numbers": "[0.5]"}, {"columns": "[1]"}, {"output": [1]},
        {"thresholds": '{"precision": 1}'}, {"images": '"x"'}, {"thresholds": "[]"},
    ],
)  # fmt: skip
def test_what_is_damaged(entries: dict[str, Any]) -> None:
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError, s2.ParameterError)):
        Said.from_entries(entries)


def test_a_task_of_another_is_unknown() -> None:
    assert Said.from_entries({"task": "find cats"}).task is None
    assert Said.from_entries({"task": "regression"}).task == "regression"


def test_it_holds_for_its_output_and_as_many() -> None:
    known = Said("p", "multi-label", ("a", "b", "c"), (0, 1, 2), CHOSEN, FULL.columns, FULL.images)
    of_samples = Said(columns=FULL.columns, images=FULL.images)
    assert known.at("p") == known
    assert known.at("q") == known.at(None) == of_samples
    assert Said(None, "regression").at(None) == Said()
    assert known.fitting(3) == known
    assert known.fitting(2) == known.fitting(4) == of_samples
    assert Said("p", thresholds=CHOSEN).fitting(2) == Said()
    one = Said("p", "classification")
    assert (one.binary(1), one.binary(2), known.binary(1)) == (True, False, False)
    assert one.fitting(1) == Said()
    assert one.fitting(2) == one
    assert Said(1).named(["x", "y"]) == Said("y")
    assert Said(2).named(["x", "y"]) == Said()


# --- through the front door ---------------------------------------------------------------------


def base_of(suffix: str, folder: Path, widths: list[int], end: str) -> s2.Backbone:
    """A network of random weights in a file, with that activation."""
    path = folder / f"base{suffix}"
    if suffix == ".onnx":
        pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime")
        pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
        import onnx_models

        onnx_models.save(onnx_models.mlp(widths, end=end or None), path)
    else:
        pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert")
        import tflite_models

        end = {"Softmax": "SOFTMAX", "Sigmoid": "LOGISTIC"}.get(end, end)
        path.write_bytes(tflite_models.mlp(widths, end=end).content())
    return s2.load(path)


def write(adapted: s2.AdaptedModel, out: Path) -> None:
    given = (adapted.backbone, adapted.adapters, out)
    options: dict[str, Any] = {
        "description": adapted.said.entries(), "thresholds": adapted.thresholds
    }  # fmt: skip
    if out.suffix == ".onnx":
        from skip2lora.export.onnx import export_onnx

        export_onnx(*given, **options)
    else:
        from skip2lora.export.tflite import export_tflite

        export_tflite(*given, **options)


def samples() -> tuple[np.ndarray, np.ndarray]:
    """240 of 9 numbers, and three classes that overlap."""
    random = np.random.default_rng(0)
    x = random.normal(size=(240, 9)).astype(np.float32)
    y = (x[:, 0] + 0.8 * random.normal(size=240) > 0).astype(int) + (x[:, 3] > 1)
    return x, y


def learn(kind: str, suffix: str, folder: Path) -> tuple[s2.AdaptedModel, np.ndarray]:
    """Field data of each kind, adapted to."""
    x, y = samples()
    names = np.array(["cat", "dog", "fox"])
    end = {"binary": "Sigmoid", "labels": "Sigmoid", "numbers": ""}.get(kind, "Softmax")
    base = base_of(suffix, folder, [9, 16, 1 if kind == "binary" else 3], end)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "names":
            made = s2.adapt(base.named(names.tolist()), x, names[y])
        elif kind == "binary":
            made = s2.adapt(base, x, names[np.minimum(y, 1)])
        elif kind == "new number":
            made = s2.adapt(base, x, np.where(y == 2, 7, y), new_classes=True)
        elif kind == "anew":
            made = s2.adapt(base, x, names[np.minimum(y, 1)], keep_outputs=False)
        elif kind == "labels":
            sets = np.eye(3)[y] + (x[:, [5, 6, 7]] > 1)
            named = {"task": "multi-label", "output_names": ["a", "b", "c"]}
            made = s2.adapt(base, x, np.minimum(sets, 1), **named)
        else:
            answers = np.stack([x[:, 0], x[:, 1] - y], axis=1).astype(np.float32)
            options = {"task": "regression", "keep_outputs": False}
            return s2.adapt(base, x, answers, **options, output_names=["far", "wide"]), x
        if kind == "new number":  # of an output without samples, there are three and a new one
            least = Thresholds(0.9, (0.7, 0.7, None, 0.6), (20, 20, 0, 20))
            return replace(made, thresholds=least), x
        return made.with_thresholds(0.9), x


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["names", "binary", "new number", "anew", "labels", "numbers"])
def test_the_same_answers(kind: str, suffix: str, tmp_path: Path) -> None:
    adapted, x = learn(kind, suffix, tmp_path)
    write(adapted, tmp_path / f"e{suffix}")
    again = s2.load(tmp_path / f"e{suffix}")
    assert (again.task, again.n_outputs) == (adapted.task, adapted.n_outputs)
    assert again.class_names == adapted.class_names
    assert again.class_numbers.tolist() == adapted.class_numbers.tolist()
    assert again.thresholds == adapted.thresholds
    told, wanted = again.predict(x), adapted.predict(x)
    if kind == "numbers":
        np.testing.assert_allclose(told, wanted, rtol=0, atol=1e-4)
        return
    assert told.tolist() == wanted.tolist()
    assert told.tolist() != again.predict(x, threshold=0).tolist()  # or they would show nothing
    assert again.thresholds is not None
    if kind in ("names", "binary", "anew"):
        assert {"cat", "dog", "none of these"} <= set(told)
    if kind == "new number":
        assert {7, -1} <= set(told)


def test_a_copy_with_taps_says_it_too(tmp_path: Path) -> None:
    adapted, x = learn("names", ".onnx", tmp_path)
    write(adapted, tmp_path / "e.onnx")
    from skip2lora.backbones.onnx import prepare

    prepare(tmp_path / "e.onnx", tmp_path / "t.onnx")
    again = s2.load(tmp_path / "t.onnx")
    assert again.predict(x).tolist() == adapted.predict(x).tolist()
    assert again.with_taps([-1]).predict(x).tolist() == adapted.predict(x).tolist()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_of_its_adapters_alone(suffix: str, tmp_path: Path) -> None:
    """Adapted again, without thresholds: what the first export said is not said of the second."""
    first, x = learn("names", suffix, tmp_path)
    write(first, tmp_path / f"e{suffix}")
    y = np.array(["cat", "dog", "fox"])[samples()[1]]
    second = s2.adapt(s2.load(tmp_path / f"e{suffix}"), x, y)
    assert second.class_names == ("cat", "dog", "fox")
    assert second.thresholds is None
    write(second, tmp_path / f"f{suffix}")
    again = s2.load(tmp_path / f"f{suffix}")
    assert again.thresholds is None
    assert again.predict(x).tolist() == second.predict(x).tolist()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_classes_of_one_output_are_adapted_again(suffix: str, tmp_path: Path) -> None:
    first, x = learn("binary", suffix, tmp_path)
    write(first, tmp_path / f"e{suffix}")
    again = s2.load(tmp_path / f"e{suffix}")
    assert isinstance(again, Binary)
    second = s2.adapt(again, x, np.array(["cat", "dog"])[np.minimum(samples()[1], 1)])
    assert second.class_names == ("cat", "dog")
    second.save(tmp_path / "adapter")
    loaded = s2.AdaptedModel.load(tmp_path / f"e{suffix}", tmp_path / "adapter")
    assert loaded.predict(x).tolist() == second.predict(x).tolist()
    named = s2.load(tmp_path / f"e{suffix}", class_names=["no", "yes"])
    assert set(named.predict(x)) == {"no", "yes", "none of these"}


def test_columns_of_a_table(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="needs the package pandas")
    adapted, x = learn("names", ".tflite", tmp_path)
    names = [f"c{at}" for at in range(9)]
    from skip2lora.export.tflite import export_tflite

    said = replace(adapted.said, columns=Columns(tuple(names)))
    export_tflite(
        adapted.backbone, adapted.adapters, tmp_path / "e.tflite", description=said.entries()
    )
    again = s2.load(tmp_path / "e.tflite")
    frame = pandas.DataFrame(x, columns=names)[names[::-1]]
    assert again.columns.features == tuple(names)
    np.testing.assert_array_equal(again.logits(frame), again.logits(x))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_says_it_wrongly(suffix: str, tmp_path: Path, refused: Refused) -> None:
    adapted, _ = learn("names", suffix, tmp_path)
    given = (adapted.backbone, adapted.adapters, tmp_path / f"e{suffix}")
    if suffix == ".onnx":
        from skip2lora.export.onnx import export_onnx as export
    else:
        from skip2lora.export.tflite import export_tflite as export  # type: ignore[assignment]
    export(*given, description={"classes": '["a", "a", "b"]'})
    said = refused(ModelError, s2.load, tmp_path / f"e{suffix}")
    assert "of what was learned is damaged" in said
    # Of as many as it does not have, nothing is known.
    export(*given, description={"classes": '["a", "b"]'})
    assert s2.load(tmp_path / f"e{suffix}").class_names is None
