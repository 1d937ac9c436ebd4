"""Without the model's own outputs: any labels, any number of columns, on every backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from conformance.onnx_networks import onnx_backbone
from conformance.test_backbones import BACKBONES
from skip2lora.adapters.folder import AdapterConfig, Tapping, adapter_files, read_adapter
from skip2lora.backbones.standins import Headless
from skip2lora.errors import DataError, ModelError, ParameterError
from skip2lora.methods import METHODS

Refused = Callable[..., str]
ANEW = {"keep_outputs": False, "epochs": 30, "learning_rate": 0.05}


@pytest.fixture(params=BACKBONES)
def make_backbone(request: pytest.FixtureRequest, make_model: Any) -> Callable[..., Any]:
    return lambda **seed: BACKBONES[request.param](make_model, **seed)


@pytest.fixture
def backbone(make_backbone: Callable[..., Any]) -> Any:
    return make_backbone()


@pytest.fixture
def table() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(120, 9)).astype(np.float32)


def encoder() -> Any:
    """A network without outputs."""
    made = NumpyBackbone([9, 16, 8, 2], first_tap_is_input=False)
    made.n_outputs, made.weights[-1] = 0, made.weights[-1][:, :0]
    return made


def on_taps_alone(backbone: Any, adapted: s2.AdaptedModel, x: np.ndarray) -> np.ndarray:
    """Eq. 17 in float64 without the base logits."""
    taps, adapters = backbone.forward(backbone.check(x)).taps, adapted.adapters
    made = np.zeros((len(x), adapters.n_outputs)) + adapters.bias
    for tap, a, b in zip(taps[adapters.first_tap :], adapters.lora_a, adapters.lora_b, strict=True):
        made += tap.astype(np.float64) @ a @ b
    return made


def check_reloaded(make: Callable[..., Any], adapted: s2.AdaptedModel, x: Any, out: Path) -> None:
    """Saved for the whole model, by its fingerprint, and read to the same bits."""
    adapted.save(out)
    loaded = s2.AdaptedModel.load(make(), out)
    assert loaded.logits(x).tobytes() == adapted.logits(x).tobytes()
    assert loaded.n_outputs == adapted.n_outputs
    assert loaded.classes_.tolist() == adapted.classes_.tolist()
    assert loaded.class_names == adapted.class_names
    assert type(loaded.base) is type(adapted.base)
    assert loaded.base.n_outputs == adapted.base.n_outputs
    loaded.save(out.with_name("again"))
    for file in out.iterdir():
        assert (out.with_name("again") / file.name).read_bytes() == file.read_bytes()
    with pytest.raises(ModelError, match="was made for the model"):
        s2.AdaptedModel.load(make(seed=1), out)


@pytest.mark.parametrize("method", [name for name, of in METHODS.items() if of.skip])
def test_numbers(
    make_backbone: Callable[..., Any], table: np.ndarray, method: str, tmp_path: Path
) -> None:
    """One column or five of a model with three outputs, which add nothing."""
    backbone = make_backbone()
    slopes = np.random.default_rng(0).normal(size=(9, 5)) / 3
    slopes[[0, -1]] = 0  # one backbone drops a feature
    several = table @ slopes * [50, 1, 0.01, 1, 1] + [1000, 0, 5, -3, 0]
    for y in (several[:, 0], several):
        adapted = s2.adapt(backbone, table, y, task="regression", method=method, **ANEW)
        assert adapted.n_outputs == y.size // len(y)
        assert adapted.score(table, y) > (0.05 if method == "lora-last" else 0.9)
        if hasattr(backbone, "check"):
            want = on_taps_alone(backbone, adapted, table)
            left = np.abs(adapted.logits(table) - want).max(axis=0) / np.abs(want).max(axis=0)
            assert left.max() < 1e-4
    names = tuple("abcde")
    adapted = s2.adapt(backbone, table, several, task="regression", method=method,
                       output_names=names, **(ANEW | {"epochs": 1}))  # fmt: skip
    assert adapted.class_names == names
    check_reloaded(make_backbone, adapted, table, tmp_path / "a")


def test_several_labels(
    make_backbone: Callable[..., Any], table: np.ndarray, tmp_path: Path
) -> None:
    y = (table[:, :5] > 0).astype(int)
    adapted = s2.adapt(make_backbone(), table, y, task="multi-label", **ANEW)
    assert (adapted.predict(table) == y).mean() > 0.85
    assert adapted.predict_proba(table).shape == (120, 5)
    check_reloaded(make_backbone, adapted, table, tmp_path / "a")


@pytest.mark.parametrize("named", [False, True])
def test_classes(
    make_backbone: Callable[..., Any], table: np.ndarray, named: bool, tmp_path: Path
) -> None:
    """The labels of y and no others: 1 is an output of the model, and left out all the same."""
    labels = np.array([0, 2, 7, 40, 41])[np.digitize(table[:, 0], [-1, -0.3, 0.3, 1])]
    y: Any = np.char.add("n", labels.astype(str)) if named else labels
    adapted = s2.adapt(make_backbone(), table, y, **ANEW)
    assert adapted.classes_.tolist() == np.unique(y).tolist()
    assert adapted.class_names == (tuple(np.unique(y)) if named else None)
    assert adapted.score(table, y) == (adapted.predict(table) == y).mean() > 0.7
    np.testing.assert_allclose(adapted.predict_proba(table).sum(axis=1), 1, rtol=1e-5)
    check_reloaded(make_backbone, adapted, table, tmp_path / "a")


def test_the_outputs_of_the_model_change_nothing(table: np.ndarray) -> None:
    """The same taps under other outputs give the same adapters."""
    one, other = (NumpyBackbone([9, 16, 3], first_tap_is_input=False) for _ in range(2))
    other.weights[-1] = other.weights[-1] * 100
    for task, y in (("classification", table[:, 0] > 0), ("regression", table[:, 1])):
        made = [s2.adapt(of, table, y, task=task, **ANEW).logits(table) for of in (one, other)]
        assert made[0].tobytes() == made[1].tobytes()


@pytest.mark.parametrize("offset", [1000, 0])
def test_defaults_do_well(offset: float, make_model: Any) -> None:
    """Nothing but keep_outputs is set: numbers far from standard, from a model of 4 outputs."""
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 9)).astype(np.float32)
    line = x @ random.normal(size=9) / 3
    y = offset + 50 * (line + 0.1 * random.normal(size=500))
    for model in (onnx_backbone([9, 32, 16, 4]), make_model([9, 32, 16, 4])):
        adapted = s2.adapt(model, x[:300], y[:300], task="regression", keep_outputs=False)
        assert adapted.score(x[300:], y[300:]) > 0.9


def test_an_encoder_learns_numbers_and_labels(
    table: np.ndarray, tmp_path: Path, refused: Refused
) -> None:
    for task, y in (
        ("regression", table[:, :2]), ("multi-label", table[:, :2] > 0),
        ("classification", np.where(table[:, 0] > 0, "up", "down")),
    ):  # fmt: skip
        adapted = s2.adapt(encoder(), table, y, task=task, **ANEW)
        assert adapted.score(table, y) > 0.8
        adapted.save(tmp_path / task)
        loaded = s2.AdaptedModel.load(encoder(), tmp_path / task)
        assert loaded.logits(table).tobytes() == adapted.logits(table).tobytes()
        if task != "classification":
            message = refused(ParameterError, s2.adapt, encoder(), table, y, task=task)
            assert "no outputs of its own" in message
            assert "keep_outputs=False" in message


def test_taps_are_kept(table: np.ndarray, tmp_path: Path) -> None:
    """Taps of the model inside are chosen by the folder, as with its outputs."""
    model = onnx_backbone([9, 16, 12, 10, 4])
    few = model.with_taps([model.taps[2].layer, model.taps[3].layer])
    adapted = s2.adapt(few, table, table[:, 0], task="regression", **ANEW)
    adapted.save(tmp_path / "a")
    loaded = s2.AdaptedModel.load(model, tmp_path / "a")
    assert loaded.base.tap_widths == few.tap_widths != model.tap_widths
    assert Tapping.of(loaded.base) == Tapping.of(few)
    assert loaded.logits(table).tobytes() == adapted.logits(table).tobytes()


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "y", "options", "parts"),
    [
        (ParameterError, "x", {"method": "ft-all"}, ["method ft-all", ", skip2-lora: use"]),
        (ParameterError, "x", {"method": "lora-all"}, ["method lora-all", "skip2-lora"]),
        (ParameterError, "x", {"new_classes": True}, ["new_classes", "leave new_classes out"]),
        (ParameterError, "x", {"output_names": ["a"]}, ["output_names", "as in y"]),
        (ParameterError, "r", {"output_names": ["a"]}, ["expected 2 distinct names"]),
        (DataError, np.full(120, 7), {}, ["the label 7 alone", "2 or more"]),
        (DataError, ["on"] * 120, {}, ["the label on alone", "2 or more"]),
        (DataError, None, {}, ["y is None"]),
        (DataError, None, {"task": "regression"}, ["y is None"]),
        (DataError, np.zeros((120, 0)), {"task": "regression"}, ["(120, 0)", "one column or more"]),
        (DataError, np.zeros((119, 2)), {"task": "regression"}, ["(119, 2)", "(120, 2)"]),
        (DataError, np.zeros((120, 2, 2)), {"task": "regression"}, ["(120, 2, 2)", "(120, 2)"]),
        (DataError, 3.0, {"task": "regression"}, ["y has shape ()", "(120, 1)"]),
        (DataError, [[1], [1, 2]], {"task": "regression"}, ["y cannot become an array"]),
        (DataError, np.full((120, 2), 0.5), {"task": "multi-label"}, ["0.5", "0 or 1"]),
    ],
)
def test_bad_input(
    make_model: Any, table: np.ndarray, error: Any, y: Any, options: Any, parts: list[str],
    refused: Refused,
) -> None:  # fmt: skip
    if isinstance(y, str):
        options = options | ({"task": "regression"} if y == "r" else {})
        y = table[:, :2] if y == "r" else (table[:, 0] > 0).astype(int)
    model = make_model([9, 16, 3])
    message = refused(error, s2.adapt, model, table, y, keep_outputs=False, **options)
    assert all(part in message for part in parts), message


def test_another_number_of_columns_names_the_option(
    make_model: Any, table: np.ndarray, refused: Refused
) -> None:
    model = make_model([9, 16, 3])
    message = refused(DataError, s2.adapt, model, table, table[:, 0], task="regression")
    assert "expected (120, 3)" in message
    assert "keep_outputs=False" in message
    adapted = s2.adapt(model, table, table[:, 0], task="regression", **ANEW)
    message = refused(DataError, adapted.score, table, table[:, :2])
    assert "expected (120, 1)" in message
    assert "keep_outputs" not in message  # that is settled


def test_a_folder_that_says_something_else(
    make_model: Any, table: np.ndarray, tmp_path: Path, refused: Refused
) -> None:
    """Neither an adapter that starts from outputs nor one without is taken for the other."""
    model = make_model([9, 16, 3])
    made = s2.adapt(model, table, table[:, 0] > 0, **ANEW)
    made.save(tmp_path / "a")
    about, tensors = read_adapter(tmp_path / "a")

    def write(about: AdapterConfig, tensors: Any) -> None:
        for name, content in adapter_files(about, tensors).items():
            (tmp_path / "a" / name).write_bytes(content)

    write(replace(about, new_labels=tuple(range(9))), tensors)
    message = refused(ModelError, s2.AdaptedModel.load, model, tmp_path / "a")
    assert "taps.0.lora_b has shape (4, 2), expected (4, 9)" in message
    write(about, {**tensors, "taps.0.lora_b": np.ones(4, np.float32)})
    assert "has shape (4,)" in refused(ModelError, s2.AdaptedModel.load, model, tmp_path / "a")
    write(about, {"bias": tensors["bias"]})
    assert "is missing" in refused(ModelError, s2.AdaptedModel.load, model, tmp_path / "a")
    said = {"method": "skip2-lora", "rank": 4, "base_fingerprint": "", "keep_outputs": "no"}
    message = refused(ModelError, AdapterConfig.from_json, tmp_path, said)
    assert "damaged (keep_outputs)" in message
    made.save(tmp_path / "a")
    file = tmp_path / "a" / "adapter_config.json"
    file.write_text(file.read_text().replace('"keep_outputs": false', '"keep_outputs": true'))
    assert "disagree" in refused(ModelError, s2.AdaptedModel.load, model, tmp_path / "a")
    kept = s2.adapt(replace(model), table, np.arange(120) % 3, epochs=1)
    kept.save(tmp_path / "kept")
    assert "keep_outputs" not in (tmp_path / "kept" / "adapter_config.json").read_text()
    with pytest.raises(ModelError, match="was made for the model"):
        s2.AdaptedModel.load(Headless(model, 3), tmp_path / "kept")
