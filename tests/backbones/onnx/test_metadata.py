"""What exported files in a chain say: of samples the first, of answers the last."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx

import skip2lora as s2
from onnx_models import Net, mlp, save, value
from skip2lora.backbones.onnx.metadata import numbers_of, samples_of
from skip2lora.backbones.onnx.preparing import prepare
from skip2lora.backbones.onnx.tapped import entries_of, said_in
from skip2lora.backbones.said import Said
from skip2lora.backbones.standins import Binary
from skip2lora.data.image_options import Images
from skip2lora.data.sensor_options import Sensors
from skip2lora.data.sound_options import Sound
from skip2lora.errors import ModelError
from skip2lora.export.onnx import export_onnx
from skip2lora.tasks.columns import Columns

Refused = Callable[..., str]
NAMES = ("cat", "dog", "fox")
TURN = np.eye(9, dtype=np.float32)[::-1] * 0.5  # what the model before the exported one does
SENSORS = Sensors(window=3, hop=3, channels=("ax", "ay", "az"), rate=50.0)


def front(path: Path, *, samples: Any = 9, said: Said | None = None, width: int = 9) -> Path:
    """(n, samples) to (n, 9), backwards and halved; it may say of what its samples are."""
    net = Net()
    net.node("MatMul", ["x", net.constant("turn", TURN[:, :width])], "y")
    model = net.model([value("x", ["n", samples])], [value("y", ["n", width])])
    for name, text in ({} if said is None else said.entries()).items():
        model.metadata_props.add(key=f"skip2lora.{name}", value=text)
    return save(model, path)


def samples() -> tuple[np.ndarray, np.ndarray]:
    """240 of 9 numbers, and three classes that overlap."""
    random = np.random.default_rng(0)
    x = random.normal(size=(240, 9)).astype(np.float32)
    return x, (x[:, 0] + 0.8 * random.normal(size=240) > 0).astype(int) + (x[:, 3] > 1)


def learned(kind: str, folder: Path) -> s2.AdaptedModel:
    """Exported as ``last.onnx``: names, two of one output, numbers, sets of labels or values."""
    x, y = samples()
    ends = {"binary": "Sigmoid", "labels": "Sigmoid", "values": None}
    widths = [9, 16, 1 if kind == "binary" else 3]
    base = s2.load(save(mlp(widths, end=ends.get(kind, "Softmax")), folder / "base.onnx"))
    options: dict[str, Any] = {}
    answers: Any = np.array(NAMES)[y]
    if kind == "binary":
        answers = np.array(NAMES)[np.minimum(y, 1)]
    elif kind == "numbers":
        answers, options = np.where(y == 2, 7, y), {"new_classes": True}
    elif kind == "labels":
        answers = np.minimum(np.eye(3)[y] + (x[:, [5, 6, 7]] > 1), 1)
        options = {"task": "multi-label", "output_names": ["a", "b", "c"]}
    elif kind == "values":
        answers = np.stack([x[:, 0], x[:, 1] - y], axis=1).astype(np.float32)
        options = {"task": "regression", "keep_outputs": False, "output_names": ["far", "wide"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = base.named(NAMES) if kind == "names" else base
        adapted = s2.adapt(base, x, answers, **options)
        adapted = adapted if kind in ("values", "numbers") else adapted.with_thresholds(0.9)
    write(adapted, folder / "last.onnx")
    return adapted


def write(adapted: s2.AdaptedModel, out: Path) -> Path:
    export_onnx(
        adapted.backbone, adapted.adapters, out, description=adapted.said.entries(),
        thresholds=adapted.thresholds,
    )  # fmt: skip
    return out


def written(folder: Path, *files: str, **more: Any) -> Path:
    """A .toml, in ``folder``, of files, or of what else a model has."""
    lines = [f"{name} = {number}" for name, number in more.items()]
    lines += [line for file in files for line in ("[[model]]", f"path = {file!r}")]
    path = folder / "chain.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("kind", ["names", "binary", "numbers", "labels", "values"])
@pytest.mark.parametrize("one_file", [False, True])
def test_answers_are_those_of_the_last(kind: str, one_file: bool, tmp_path: Path) -> None:
    adapted, (x, _) = learned(kind, tmp_path), samples()
    front(tmp_path / "front.onnx")
    if one_file:
        s2.chain([tmp_path / "front.onnx", tmp_path / "last.onnx"], tmp_path / "one.onnx")
    model = s2.load(
        tmp_path / "one.onnx" if one_file else written(tmp_path, "front.onnx", "last.onnx")
    )
    assert (model.task, model.class_names) == (adapted.task, adapted.class_names)
    assert model.class_numbers.tolist() == adapted.class_numbers.tolist()
    assert model.thresholds == adapted.thresholds
    assert isinstance(model, Binary) == (kind == "binary")
    given = 2 * x[:, ::-1]
    answers, wanted = model.predict(given), adapted.predict(x)
    if kind == "values":
        np.testing.assert_allclose(answers, wanted, rtol=0, atol=1e-4)
        return
    assert answers.tolist() == wanted.tolist()
    if kind != "numbers":
        assert answers.tolist() != model.predict(given, threshold=0).tolist()
    if kind in ("names", "binary"):
        assert {"cat", "dog", "none of these"} <= set(answers)
    if kind == "numbers":
        assert 7 in answers


def test_samples_are_those_of_the_first(tmp_path: Path) -> None:
    """What it learned to answer is not what the chain does; nor are the last one's columns."""
    first, (x, _) = learned("names", tmp_path), samples()
    names = [f"c{at}" for at in range(9)]
    entries = first.said.entries() | {"columns": json.dumps(Columns(tuple(names)).to_json())}
    export_onnx(first.backbone, first.adapters, tmp_path / "first.onnx", description=entries)
    net = Net(seed=5)
    net.node("MatMul", ["x", net.weight("w", 3, 4)], "y")
    last = net.model([value("x", ["n", 3])], [value("y", ["n", 4])])
    last.metadata_props.add(key="skip2lora.columns", value='{"features": ["p", "q", "r"]}')
    save(last, tmp_path / "last.onnx")
    model = s2.load(written(tmp_path, "first.onnx", "last.onnx"))
    assert model.columns.features == tuple(names)
    assert (model.n_outputs, model.class_names, model.thresholds) == (4, None, None)
    assert set(model.predict(x)) <= {0, 1, 2, 3}
    pandas = pytest.importorskip("pandas", reason="needs the package pandas")
    frame = pandas.DataFrame(x, columns=names)
    np.testing.assert_array_equal(model.logits(frame[names[::-1]]), model.logits(x))


@pytest.mark.parametrize(
    "said",
    [
        Said(columns=Columns(tuple("abcdefghi"))), Said(images=SENSORS),
        Said(images=Sound(rate=18, window=0.5, hop=0.25, crop="slide", gain=2.0)),
    ],
)  # fmt: skip
def test_the_first_says_how_many_samples(said: Said, tmp_path: Path, refused: Refused) -> None:
    learned("names", tmp_path)
    front(tmp_path / "front.onnx", samples="samples", said=said)
    model = s2.load(written(tmp_path, "front.onnx", "last.onnx"))
    assert model.inputs[0].shape == (9,)
    assert (model.images, model.columns) == (said.images, said.columns)
    assert model.class_names == NAMES
    assert s2.load(written(tmp_path, "front.onnx", "last.onnx", samples=9)).images == said.images
    line = refused(ModelError, s2.load, written(tmp_path, "front.onnx", "last.onnx", samples=8))
    assert "front.onnx says that it learned from 9 of a sample, the chain has samples = 8" in line


def test_one_model_alone_says_both(tmp_path: Path) -> None:
    adapted, (x, _) = learned("names", tmp_path), samples()
    model = s2.load(written(tmp_path, "last.onnx"))
    assert model.class_names == NAMES
    assert model.predict(x).tolist() == adapted.predict(x).tolist()


def test_a_copy_with_taps_and_a_chain_in_a_chain(tmp_path: Path) -> None:
    adapted, (x, _) = learned("names", tmp_path), samples()
    front(tmp_path / "front.onnx")
    prepare(tmp_path / "last.onnx", tmp_path / "tapped.onnx")
    wanted = adapted.predict(x @ TURN).tolist()
    assert s2.load(written(tmp_path, "front.onnx", "tapped.onnx")).predict(x).tolist() == wanted
    s2.chain([tmp_path / "front.onnx", tmp_path / "tapped.onnx"], tmp_path / "inner.onnx")
    twice = s2.load(written(tmp_path, "front.onnx", "inner.onnx"))
    assert twice.predict(x).tolist() == adapted.predict(x @ TURN @ TURN).tolist()


def test_adapted_again(tmp_path: Path) -> None:
    """The chain is a base like any: what is exported of it says its own classes."""
    learned("names", tmp_path)
    front(tmp_path / "front.onnx", said=Said(images=SENSORS))
    x, y = samples()
    chain = s2.load(written(tmp_path, "front.onnx", "last.onnx"))
    again = s2.adapt(chain, x, np.array(NAMES)[y])
    exported = s2.load(write(again, tmp_path / "again.onnx"))
    assert (exported.class_names, exported.thresholds) == (NAMES, None)
    assert exported.images == SENSORS
    assert exported.predict(x).tolist() == again.predict(x).tolist()


@pytest.mark.parametrize("kind", ["binary", "names"])
def test_windows_side_by_side(kind: str, tmp_path: Path, refused: Refused) -> None:
    """One logit of two classes a window is no row of classes; rows of three side by side are none.

    Those of three have no answers then, so that no names are missed, and taps alone.
    """
    learned(kind, tmp_path)
    net = Net()
    to = net.constant("to", np.array([-1, 18], np.int64))
    net.node("Reshape", ["x", to], "y")
    save(net.model([value("x", ["n", 18])], [value("y", ["n", 18])]), tmp_path / "front.onnx")
    path = written(tmp_path, "front.onnx", "last.onnx")
    path.write_text(path.read_text() + "hop = 9\n")
    if kind == "binary":
        line = refused(ModelError, s2.load, path)
        assert (
            "its last model says what it answers to one window, the chain passes it several" in line
        )
        return
    model = s2.load(path)
    assert (model.n_outputs, model.class_names, model.thresholds) == (0, None, None)
    assert "expected one to predict" in refused(ModelError, model.predict, np.zeros((2, 18)))


def test_what_is_damaged(tmp_path: Path, refused: Refused) -> None:
    learned("names", tmp_path)
    front(tmp_path / "front.onnx")
    model = onnx.load(tmp_path / "last.onnx")
    (entry,) = [of for of in model.metadata_props if of.key == "skip2lora.classes"]
    entry.value = '["a", "a", "b"]'
    onnx.save(model, tmp_path / "last.onnx")
    line = refused(ModelError, s2.load, written(tmp_path, "front.onnx", "last.onnx"))
    assert "last.onnx is truncated or no ONNX model (what it says of what was learned" in line


def test_how_many_numbers_are_said() -> None:
    spectrum = Sensors(window=8, hop=8, channels=("a", "b"), features=("statistics",))
    assert numbers_of(Said(columns=Columns(("a", "b")))) == 2
    assert numbers_of(Said(columns=Columns(("a", "b")), images=SENSORS)) == 9
    assert numbers_of(Said(images=Images(size=(8, 8)), columns=Columns(("a",)))) is None
    assert numbers_of(Said(images=spectrum)) not in (None, 16)
    assert numbers_of(Said()) is None
    assert samples_of(Said(images=SENSORS), [3]) == 3
    assert samples_of(Said(images=SENSORS), []) == 9
    assert samples_of(Said(images=SENSORS), [2]) is None


def test_entries_of_others_are_not_read() -> None:
    model = mlp()
    model.metadata_props.add(key="classes", value="[")
    assert said_in(entries_of(model), Path("m.onnx")) == Said()
