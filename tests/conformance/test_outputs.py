"""A model with several outputs, in every runtime: each can be adapted, and the choice is kept."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.several_outputs import (
    N_FEATURES,
    NAMES,
    RUNTIMES,
    Several,
    embedding_file,
    onnx_file,
)
from skip2lora.errors import ModelError, ParameterError
from skip2lora.tasks.task import softmax

Refused = Callable[..., str]
WIDTHS = tuple(NAMES.values())


@pytest.fixture(params=RUNTIMES)
def several(request: pytest.FixtureRequest, tmp_path: Path) -> Several:
    return RUNTIMES[request.param](tmp_path)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(12, N_FEATURES)).astype(np.float32)


def test_the_output_that_classifies_is_taken(several: Several) -> None:
    model = several.load()
    assert model.output == several.names[2]
    assert model.n_outputs == 5
    assert [(spec.name, spec.shape, spec.ending) for spec in model.outputs] == [
        (several.names[0], (1,), "logits"),
        (several.names[1], (2,), "logits"),
        (several.names[2], (5,), "softmax"),
    ]


@pytest.mark.parametrize("number", range(3))
def test_each_output_gives_the_logits_of_the_runtime(
    several: Several, number: int, x: np.ndarray
) -> None:
    expected = several.answers(x)[number]
    for asked in (number, several.names[number]):
        model = several.load(output=asked)
        assert (model.output, model.n_outputs) == (several.names[number], WIDTHS[number])
        assert [spec.name for spec in model.outputs] == list(several.names)
        for logits in (model.logits(x), model.forward(model.check(x)).base_logits):
            made = softmax(logits) if number == 2 else logits
            np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)
    assert several.load().with_output(number).logits(x).tobytes() == model.logits(x).tobytes()


@pytest.mark.parametrize("asked", ["anger", 3, -1, True, False])
def test_what_is_no_output(several: Several, asked: Any, refused: Refused) -> None:
    said = refused(ParameterError, several.load, output=asked)
    names = ", ".join(several.names)
    assert f"output is {asked!r} for " in said
    assert f"expected a name or number from 0 of {names}: choose one of them" in said
    assert f"output is {asked!r} for " in refused(ParameterError, several.load().with_output, asked)


def test_the_choice_outlives_the_model(several: Several, x: np.ndarray, tmp_path: Path) -> None:
    y = np.arange(12) % 2
    model = several.load(output=1)
    adapted = s2.adapt(model, x, y, epochs=3)
    adapted.save(tmp_path / "a")
    for again in (several.load(), several.load(output=0), several.load(output=1)):
        back = s2.AdaptedModel.load(again, tmp_path / "a")
        assert back.base.output == several.names[1]
        assert back.logits(x).tobytes() == adapted.logits(x).tobytes()
    assert model.with_taps([model.taps[-1].layer]).output == several.names[1]


def test_a_pickle_keeps_the_choice(several: Several, x: np.ndarray) -> None:
    model = several.load(output=1)
    try:
        copied = pickle.loads(pickle.dumps(model))  # noqa: S301
    except (AttributeError, pickle.PicklingError):
        pytest.skip("the module of the test is a local class")
    assert copied.output == several.names[1]
    assert copied.logits(x).tobytes() == model.logits(x).tobytes()


def test_the_default_choice_has_the_fingerprint_of_the_model(several: Several) -> None:
    assert several.load().fingerprint == several.load(output=0).fingerprint


def test_an_embedding_gives_way_to_the_logits_made_of_it(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = embedding_file(tmp_path / "m.onnx")
    assert (s2.load(path).output, s2.load(path).n_outputs) == ("logits", 5)


def test_equal_outputs_are_refused(tmp_path: Path, refused: Refused) -> None:
    pytest.importorskip("onnxruntime")
    path = onnx_file(tmp_path / "m.onnx", softmax=False)
    said = refused(ParameterError, s2.load, path)
    assert "age 1 (logits), gender 2 (logits), emotion 5 (logits), of which several" in said
    assert said.endswith("choose it with output=")
    assert s2.load(path, output="gender").n_outputs == 2


@pytest.mark.parametrize("number", range(2))
def test_an_adapter_of_another_model_is_still_refused(
    number: int, tmp_path: Path, x: np.ndarray, refused: Refused
) -> None:
    pytest.importorskip("onnxruntime")
    model = s2.load(onnx_file(tmp_path / "m.onnx"), output=1)
    s2.adapt(model, x, np.arange(12) % 2, epochs=1).save(tmp_path / "a")
    other = s2.load(onnx_file(tmp_path / "n.onnx", softmax=False), output=number)
    said = refused(ModelError, s2.AdaptedModel.load, other, tmp_path / "a")
    assert "was made for the model" in said
