"""Lab sets: which rows are chosen, their file, and the model they belong to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.backbones.derived import Derived
from skip2lora.backbones.standins import Binary, Headless, Watched
from skip2lora.errors import FileError, ModelError
from skip2lora.files import read_tensors, to_bytes
from skip2lora.tasks.task import CLASSIFICATION, TASKS
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.lab_set import LabSet
from skip2lora.training.rehearsal import lab_set_beside

WIDTHS = [9, 16, 5, 3]


@pytest.fixture
def part(make_samples: Any) -> CheckedSamples:
    x, y = make_samples(90, 9)
    return CheckedSamples(x, y.astype(np.int32))


def places_in(part: CheckedSamples, lab: LabSet, backbone: Any) -> list[int]:
    """Which samples the rows are of."""
    rows = np.concatenate(backbone.forward(part.x).taps, axis=1)
    own = np.concatenate(lab.taps, axis=1)
    return [int(np.flatnonzero((rows == row).all(axis=1))[0]) for row in own]


def test_so_many_of_each_class_are_chosen(backbone: Any, part: CheckedSamples) -> None:
    lab = LabSet.choose(backbone, part, CLASSIFICATION, 4)
    assert len(lab) == 12
    assert np.bincount(lab.answers).tolist() == [4, 4, 4]
    places = places_in(part, lab, backbone)
    assert len(set(places)) == 12
    np.testing.assert_array_equal(lab.answers, part.y[places])
    taps = backbone.forward(part.x[places])
    pairs = zip((*lab.taps, lab.base_logits), (*taps.taps, taps.base_logits), strict=True)
    for own, expected in pairs:
        np.testing.assert_array_equal(own, expected)
    again = LabSet.choose(backbone, part, CLASSIFICATION, 4)
    assert again.to_bytes() == lab.to_bytes()


def test_a_large_column_does_not_decide() -> None:
    """Columns are scaled: two heaps in small columns are told apart beside noise in a large one."""
    model = NumpyBackbone([5, 3], first_tap_is_input=True)
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 5)).astype(np.float32) * 1e-3
    x[:, 0] *= 1e4
    x[:, 1:] += (np.arange(40) % 2)[:, None].astype(np.float32)
    part = CheckedSamples(x, np.zeros(40, np.int32))
    for seed in range(5):
        lab = LabSet.choose(model, part, CLASSIFICATION, 2, seed=seed)
        assert sorted(lab.taps[0][:, 1].round().tolist()) == [0, 1]


def test_all_of_a_small_class_and_some_of_a_large_one(make_model: Any) -> None:
    y = np.array([0] * 600 + [1] * 2, np.int32)
    x = np.random.default_rng(0).normal(size=(602, 9)).astype(np.float32)
    asked: list[int] = []
    model = Watched(make_model(WIDTHS), asked.append)
    lab = LabSet.choose(model, CheckedSamples(x, y), CLASSIFICATION, 5)
    assert np.bincount(lab.answers).tolist() == [5, 2]
    assert sum(asked) == 256 + 2  # of which k-means chooses


def test_numbers_get_so_many_an_output(backbone: Any, part: CheckedSamples) -> None:
    numbers = CheckedSamples(part.x, part.x[:, :3] * 2)
    lab = LabSet.choose(backbone, numbers, TASKS["regression"], 4)
    assert lab.answers.shape == (12, 3)


def test_rows_are_those_of_the_model(backbone: Any, part: CheckedSamples) -> None:
    lab = LabSet.choose(backbone, part, CLASSIFICATION, 4)
    places = places_in(part, lab, backbone)
    stand_ins = [backbone, Headless(backbone, 2), Derived.of(backbone, ["logits"])]
    if backbone.first_tap_is_input:
        x = abs(part.x)
        lab = LabSet.choose(backbone, CheckedSamples(x, part.y), CLASSIFICATION, 4)
        places = places_in(CheckedSamples(x, part.y), lab, backbone)
        part = CheckedSamples(x, part.y)
        stand_ins.append(Derived.of(backbone, ["log", "log-centred"], x))
    for model in stand_ins:
        known, rows = lab.rows_for(model)
        own, expected = known.forward(rows), model.forward(part.x[places])
        assert len(own.taps) == len(expected.taps) == len(model.tap_widths)
        for tap, other in zip(own.taps, expected.taps, strict=True):
            np.testing.assert_array_equal(tap, other)
        np.testing.assert_array_equal(own.base_logits, expected.base_logits)


def test_one_output_becomes_two_classes(part: CheckedSamples) -> None:
    model = NumpyBackbone([9, 5, 1], first_tap_is_input=True)
    part = CheckedSamples(part.x, part.y % 2)
    lab = LabSet.choose(model, part, CLASSIFICATION, 3)
    known, rows = lab.rows_for(Binary(model))
    expected = Binary(model).forward(lab.taps[0]).base_logits
    np.testing.assert_array_equal(known.forward(rows).base_logits, expected)


def test_the_file(backbone: Any, part: CheckedSamples, tmp_path: Path) -> None:
    for task, answers in ((CLASSIFICATION, part.y), (TASKS["regression"], part.x[:, :3])):
        lab = LabSet.choose(backbone, CheckedSamples(part.x, answers), task, 4)
        file = tmp_path / "lab"
        file.write_bytes(lab.to_bytes())
        again = LabSet.read(file)
        assert again.path == file
        assert again.answers.dtype == answers.dtype
        np.testing.assert_array_equal(again.answers, lab.answers)
        assert again.to_bytes() == lab.to_bytes()
        known, rows = again.rows_for(backbone)
        np.testing.assert_array_equal(known.forward(rows).taps[-1], lab.taps[-1])
    assert repr(again) == f"LabSet({len(lab)} samples, 3 taps, regression)"


def test_it_lies_beside_its_model(tmp_path: Path) -> None:
    models = ("m.onnx", "m.tflite", "m.safetensors")
    names = {lab_set_beside(tmp_path / name).name for name in models}
    assert len(names) == 3
    assert all(name.endswith(".safetensors") for name in names)


def test_a_lab_set_of_another_model(
    make_model: Any, part: CheckedSamples, refused: Any, tmp_path: Path
) -> None:
    lab = LabSet.choose(make_model(WIDTHS), part, CLASSIFICATION, 4)
    (tmp_path / "lab").write_bytes(lab.to_bytes())
    other = make_model(WIDTHS, seed=1)
    message = refused(ModelError, LabSet.read(tmp_path / "lab").rows_for, other)
    assert f"{tmp_path / 'lab'} is of the model {make_model(WIDTHS).fingerprint[:19]}" in message
    assert "keep=False" in message


def test_other_taps(part: CheckedSamples, refused: Any) -> None:
    onnx_networks = pytest.importorskip("conformance.onnx_networks")
    model = onnx_networks.onnx_backbone(WIDTHS)
    lab = LabSet.choose(model.with_taps(1), part, CLASSIFICATION, 4)
    message = refused(ModelError, lab.rows_for, model)
    assert "other taps" in message
    more = LabSet.choose(model, part, CLASSIFICATION, 4)
    fewer = model.with_taps(1)
    known, rows = more.rows_for(fewer)  # those it has are enough
    at = more.layers.index(fewer.taps[0].layer)
    np.testing.assert_array_equal(known.forward(rows).taps[0], more.taps[at])
    assert "other taps" in refused(
        ModelError, replace(more, tapping=replace(more.tapping, mask="other")).rows_for, model
    )
    narrow = replace(more, taps=(more.taps[0][:, :1], *more.taps[1:]))
    assert "other taps" in refused(ModelError, narrow.rows_for, model)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, _: tensors.pop("answers"),
        lambda tensors, _: tensors.pop("base_logits"),
        lambda tensors, _: tensors.pop("taps.1"),
        lambda tensors, _: tensors.update(more=tensors["answers"]),
        lambda tensors, _: tensors.update(answers=tensors["answers"][:-1]),
        lambda tensors, _: tensors.update(answers=tensors["answers"] + 2),
        lambda tensors, _: tensors.update(answers=tensors["answers"] + np.float32(0.5)),
        lambda tensors, _: tensors.update(answers=tensors["base_logits"]),
        lambda tensors, _: tensors.update({"taps.1": tensors["answers"][:, None, None]}),
        lambda _, about: about.pop("layers"),
        lambda _, about: about.update(layers=["layers.0"]),
        lambda _, about: about.update(layers=7),
        lambda _, about: about.update(task="none"),
        lambda _, about: about.update(task="regression"),
        lambda _, about: about.update(tapping=[]),
        lambda _, about: about.pop("base_fingerprint"),
    ],
)  # fmt: skip
def test_damaged(
    change: Any, make_model: Any, part: CheckedSamples, refused: Any, tmp_path: Path
) -> None:
    file = tmp_path / "lab"
    file.write_bytes(LabSet.choose(make_model(WIDTHS), part, CLASSIFICATION, 4).to_bytes())
    tensors, about = read_tensors(file, kind="lab set")
    change(tensors, about)
    file.write_bytes(to_bytes(tensors, json.loads(json.dumps(about))))
    message = refused(ModelError, LabSet.read, file)
    assert str(file) in message


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_a_third_class_of_two_is_damage(
    n_outputs: int, make_model: Any, part: CheckedSamples, refused: Any, tmp_path: Path
) -> None:
    two = replace(part, y=part.y % 2)
    lab = LabSet.choose(make_model([9, 16, n_outputs]), two, CLASSIFICATION, 4)
    file = tmp_path / "lab"
    for more in (0, 1):
        file.write_bytes(replace(lab, answers=lab.answers + more).to_bytes())
        if more:
            assert "labels that the model does not have" in refused(ModelError, LabSet.read, file)
        else:
            assert LabSet.read(file).answers.max() == 1


def test_cut_short_and_something_else(
    make_model: Any, part: CheckedSamples, refused: Any, tmp_path: Path
) -> None:
    file = tmp_path / "lab"
    content = LabSet.choose(make_model(WIDTHS), part, CLASSIFICATION, 4).to_bytes()
    for damaged in (content[:-9], content[:7], b"", content[:-1] + b"x"):
        file.write_bytes(damaged)
        refused(ModelError, LabSet.read, file)
    make_model(WIDTHS).save(file)
    assert "expected a lab set" in refused(ModelError, LabSet.read, file)
    refused(FileError, LabSet.read, tmp_path / "none")
    assert isinstance(make_model(WIDTHS), s2.MLP)


@pytest.mark.parametrize("kind", ["classes", "numbers"])
@pytest.mark.parametrize("count", [255, 256, 257, 300])
def test_no_more_than_256_of_a_class_are_compared(
    kind: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two classes: one of so many samples, and all five of another; numbers are one class."""
    model = NumpyBackbone([5, 3], first_tap_is_input=True)
    x = np.random.default_rng(0).normal(size=(count + 5, 5)).astype(np.float32)
    y = (np.arange(count + 5) >= count).astype(np.int32)
    compared = []

    def first(gram: Any, n: int, random: Any) -> Any:
        compared.append(len(gram))
        return np.arange(n)

    monkeypatch.setattr("skip2lora.training.lab_set.representatives", first)
    if kind == "classes":
        lab = LabSet.choose(model, CheckedSamples(x, y), CLASSIFICATION, 2)
        assert compared == [min(count, 256), 5]
        assert lab.answers.tolist() == [0, 0, 1, 1]
        return
    answers = np.arange(count + 5, dtype=np.float32)[:, None]
    lab = LabSet.choose(model, CheckedSamples(x, answers), TASKS["regression"], 250)
    assert compared == [min(count + 5, 256)]
    own = lab.answers.ravel()
    assert (np.diff(own) > 0).all()  # in their order
    assert (own.max() > 250) == (count + 5 > 256)  # by chance, not the first
