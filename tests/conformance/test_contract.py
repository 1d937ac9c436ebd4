"""The contract: what a backbone must define, in every way it may, is enough for all there is."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from desk import Answer
from skip2lora.backbones import loading
from skip2lora.backbones.standins import Headless
from skip2lora.backbones.taps import Tap
from skip2lora.data.image_layout import Layout, layout_of
from skip2lora.errors import ModelError, ParameterError
from skip2lora.plan import plan

Refused = Callable[..., str]
WIDTHS, N_OUTPUTS, FINGERPRINT = (4, 5), 3, "sha256:" + "0" * 64
FIRST, LAST = (
    np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    for seed, shape in ((0, (4, 5)), (1, (5, 3)))
)


THREADS: list[int] = []  # of each load


class Forward(s2.Backbone):
    """The one required member that is always a method; and a file to be read from."""

    def forward(self, x: np.ndarray) -> s2.Taps:
        scaled = x * np.float32(0.5)
        hidden = np.maximum((scaled[:, :, None] * FIRST).sum(axis=1), 0)
        return s2.Taps((scaled, hidden), (hidden[:, :, None] * LAST).sum(axis=1))

    @classmethod
    def load(cls, path: Any, **options: Any) -> Forward:
        assert Path(path).read_text() == "a model"
        assert {name for name, value in options.items() if value} <= {"threads", "class_names"}
        THREADS.append(options["threads"])
        return KINDS[cls.__name__]().named(options.get("class_names"))


class Properties(Forward):
    @property
    def tap_widths(self) -> tuple[int, ...]:
        return WIDTHS

    @property
    def n_outputs(self) -> int:
        return N_OUTPUTS

    @property
    def fingerprint(self) -> str:
        return FINGERPRINT


class CachedProperties(Forward):
    @cached_property
    def tap_widths(self) -> tuple[int, ...]:
        return WIDTHS

    @cached_property
    def n_outputs(self) -> int:
        return N_OUTPUTS

    @cached_property
    def fingerprint(self) -> str:
        return FINGERPRINT


class OfTheClass(Forward):
    tap_widths, n_outputs, fingerprint = WIDTHS, N_OUTPUTS, FINGERPRINT


class OfTheInstance(Forward):
    def __init__(self) -> None:
        self.tap_widths, self.n_outputs, self.fingerprint = WIDTHS, N_OUTPUTS, FINGERPRINT


@dataclass
class Fields(Forward):
    tap_widths: tuple[int, ...]
    n_outputs: int
    fingerprint: str


@dataclass(frozen=True, eq=False)
class FrozenFields(Forward):
    tap_widths: tuple[int, ...]
    n_outputs: int
    fingerprint: str


@dataclass(frozen=True, eq=False, slots=True)
class Slots(Forward):
    tap_widths: tuple[int, ...]
    n_outputs: int
    fingerprint: str


KINDS: dict[str, Callable[[], Forward]] = {
    "Properties": Properties,
    "CachedProperties": CachedProperties,
    "OfTheClass": OfTheClass,
    "OfTheInstance": OfTheInstance,
    "Fields": lambda: Fields(WIDTHS, N_OUTPUTS, FINGERPRINT),
    "FrozenFields": lambda: FrozenFields(WIDTHS, N_OUTPUTS, FINGERPRINT),
    "Slots": lambda: Slots(WIDTHS, N_OUTPUTS, FINGERPRINT),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(kind: str) -> Forward:
    return KINDS[kind]()


@pytest.fixture
def samples() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(2).normal(size=(60, 4)).astype(np.float32)
    return x, np.argsort(np.argsort(x[:, 0])) // 20


def test_defaults(model: Forward, samples: Any) -> None:
    x, y = samples
    assert (model.tap_widths, model.n_outputs, model.fingerprint) == (WIDTHS, 3, FINGERPRINT)
    assert model.taps == model.tappable
    assert model.taps == tuple(
        Tap(name, name, "vector", (width,))
        for name, width in zip(("layers.0", "layers.1"), WIDTHS, strict=True)
    )
    assert layout_of(model.inputs) == Layout("flat")
    assert not model.first_tap_is_input
    assert (model.grid, model.size, model.sample_shapes, model.path, model.network) == (None,) * 5
    assert model.class_names is None
    assert model.classes_.tolist() == [0, 1, 2]
    assert (model.task, model.learned.name) == ("classification", "classification")
    assert model.base is model
    assert Headless(model, 2).base is model
    expected = model.forward(x).base_logits
    assert model.logits(np.tile(x, (9, 1))).tobytes() == np.tile(expected, (9, 1)).tobytes()
    assert model.score(x, y) == (expected.argmax(axis=1) == y).mean()


def test_adapts_predicts_saves_and_loads(
    kind: str, model: Forward, samples: Any, tmp_path: Path
) -> None:
    x, y = samples
    adapted = s2.adapt(model, x, y, epochs=60, learning_rate=0.01)
    assert adapted.score(x, y) > max(0.8, model.score(x, y))
    adapted.save(tmp_path / "a")
    back = s2.AdaptedModel.load(KINDS[kind](), tmp_path / "a")
    assert back.predict_proba(x).tobytes() == adapted.predict_proba(x).tobytes()
    # Nothing of a choice of taps, which there is not.
    assert "taps" not in json.loads((tmp_path / "a" / "adapter_config.json").read_text())


def test_every_kind_of_answer(model: Forward, samples: Any) -> None:
    x, y = samples
    assert s2.adapt(model, x, y + 1, epochs=2, new_classes=True).n_outputs == 4
    numbers = s2.adapt(model, x, x[:, :2], epochs=2, task="regression", keep_outputs=False)
    assert numbers.n_outputs == 2
    assert s2.adapt(model, x, np.eye(3)[y], epochs=2, task="multi-label").n_outputs == 3
    named, words = model.named(["a", "b", "c"]), np.array(["a", "b", "c"])[y]
    assert s2.adapt(named, x, words, epochs=2).class_names == ("a", "b", "c")
    assert model.class_names is None


def test_plans(model: Forward, samples: Any) -> None:
    x, _ = samples
    planned = plan(model, x, seconds=1e-4)
    assert [tap.bytes_a_sample for tap in planned.taps] == [16, 20]
    assert planned.cache_fill_ms is not None
    assert plan(model, n_samples=9, seconds=1e-4).cache_fill_ms is None  # no width is known


def test_estimators(model: Forward, samples: Any) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra sklearn)")
    from skip2lora.sklearn import Skip2LoRAClassifier, Skip2LoRARegressor

    x, y = samples
    fitted = Skip2LoRAClassifier(model, epochs=30, learning_rate=0.01).fit(x, y)
    assert fitted.n_features_in_ == 4
    assert fitted.score(x, y) > 0.8
    numbers = Skip2LoRARegressor(model, keep_outputs=False, epochs=2).fit(x, x[:, 1])
    assert numbers.predict(x).shape == (60,)


@pytest.fixture
def desk(
    kind: str, samples: Any, type_in: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Path:  # fmt: skip
    """The folder with a model of a suffix of its own, and data with and without class names."""
    x, y = samples
    monkeypatch.setitem(loading.SUFFIXES, ".own", f"{__name__}:{kind}")
    (tmp_path / "m.own").write_text("a model")
    np.savez(tmp_path / "numbers.npz", X=x, y=y)
    np.savez(tmp_path / "names.npz", X=x, y=y, class_names=np.array(["a", "b", "c"]))
    return tmp_path


@pytest.mark.parametrize("data", ["numbers.npz", "names.npz"])
def test_commands(desk: Path, type_in: Callable[..., Answer], data: str) -> None:
    THREADS.clear()

    def done(*words: object) -> Any:
        answer = type_in(*words, "--json")
        assert answer.code == 0, answer.err
        return answer.json

    before = done("evaluate", "m.own", data)["accuracy"]
    made = done("adapt", "m.own", data, "-o", "a", "--epochs", 60, "--learning-rate", 0.01)
    assert made["accuracy"] > max(0.8, before)
    after = done("evaluate", "m.own", data, "--adapter", "a")
    assert after["accuracy"] == pytest.approx(made["accuracy"])
    names = ["0", "1", "2"] if data == "numbers.npz" else ["a", "b", "c"]
    assert [of["class"] for of in after["classes"]] == names
    done("predict", "m.own", data, "--adapter", "a", "-o", "p.csv")
    with Path("p.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 60
    done("predict", "m.own", data, "-o", "alone.csv")
    assert [tap["width"] for tap in done("plan", "m.own", data)["taps"]] == [4, 5]
    assert done("plan", "m.own", "--samples", 7)["n_samples"] == 7
    facts = done("inspect", "m.own")
    assert [(of["layer"], of["tapped"]) for of in facts["layers"]] == [
        ("layers.0", True), ("layers.1", True),
    ]  # fmt: skip
    assert facts["inputs"] == [{"name": "X", "shape": [None], "dtype": "float32"}]
    assert type_in("inspect", "m.own").code == 0
    assert done("adapt", "m.own", data, "-o", "b", "--epochs", 2, "--no-keep-outputs")
    assert set(THREADS) == {1}


def test_threads_from_the_command_line(desk: Path, type_in: Callable[..., Answer]) -> None:
    for number, words in enumerate(
        (
            ("adapt", "m.own", "names.npz", "-o", "a", "--epochs", 2),
            ("evaluate", "m.own", "names.npz"),
            ("predict", "m.own", "names.npz", "-o", "p.csv"),
            ("plan", "m.own", "names.npz"),
        ),
        2,
    ):
        assert type_in(*words, "--threads", number).code == 0
        assert THREADS[-1] == number


def test_commands_that_cannot_take_it_say_so(desk: Path, type_in: Callable[..., Answer]) -> None:
    """They need another file, or samples of a width that is not known."""
    for words in (
        ("export", "m.own", "--adapter", "a", "--to", "onnx", "-o", "e.onnx"),
        ("prepare", "m.own", "-o", "t.onnx"),
        ("bench", "m.own", "--rounds", 1),
    ):
        answer = type_in(*words)
        assert answer.code == 2
        assert answer.err.startswith("skip2lora: ")
        assert answer.err.count("\n") == 1


def test_names_from_the_command_line(desk: Path, type_in: Callable[..., Answer]) -> None:
    answer = type_in("evaluate", "m.own", "names.npz", "--class-names", "c,b,a", "--json")
    assert [of["class"] for of in answer.json["classes"]] == ["c", "b", "a"]


def test_what_is_missing_is_named(refused: Refused, samples: Any) -> None:
    x, y = samples

    class Nothing(s2.Backbone):
        pass

    class NoForward(s2.Backbone):
        tap_widths, n_outputs, fingerprint = WIDTHS, N_OUTPUTS, FINGERPRINT

    for name in ("tap_widths", "n_outputs", "fingerprint"):
        message = refused(ModelError, getattr, Nothing(), name)
        assert f"Nothing has no {name}, expected" in message
    assert "Nothing has no n_outputs" in refused(ModelError, s2.adapt, Nothing(), x, y)
    assert "NoForward has no forward" in refused(ModelError, s2.adapt, NoForward(), x, y)
    assert "NoForward reads no files" in refused(ModelError, NoForward.load, "m.own")


class Duck:
    """Has all that is required, and is no subclass."""

    tap_widths, n_outputs, fingerprint, first_tap_is_input = WIDTHS, N_OUTPUTS, FINGERPRINT, False
    forward = Forward.forward
    check = Forward.check


def test_only_subclasses_are_backbones(refused: Refused, samples: Any, tmp_path: Path) -> None:
    from skip2lora.bench import run_bench
    from skip2lora.sklearn import Skip2LoRAClassifier

    x, y = samples
    s2.adapt(OfTheClass(), x, y, epochs=1).save(tmp_path / "a")
    calls: Sequence[tuple[Any, ...]] = (
        (s2.adapt, Duck(), x, y),
        (s2.AdaptedModel.load, Duck(), tmp_path / "a"),
        (plan, Duck(), x),
        (run_bench, Duck()),
        (lambda: Skip2LoRAClassifier(Duck()).fit(x, y),),
    )
    for call, *arguments in calls:
        message = refused(ParameterError, call, *arguments)
        assert "model is Duck, expected a skip2lora.Backbone: read a file with" in message


def test_no_choice_of_taps(model: Forward, refused: Refused) -> None:
    message = refused(ParameterError, model.with_taps, ["layers.1"])
    assert "whose adapters start at every layer: leave taps out" in message
    assert model.with_taps(None) is model


def test_names_must_fit(model: Forward, refused: Refused) -> None:
    for names in (["a", "b"], ["a", "a", "b"], "abc"):
        assert "class_names is" in refused(ParameterError, model.named, names)
    assert model.named(None) is model


def test_the_class_of_the_docs(samples: Any, tmp_path: Path, monkeypatch: Any) -> None:
    text = (Path(__file__).parents[2] / "docs" / "add-a-runtime.md").read_text(encoding="utf-8")
    made: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], made)  # noqa: S102
    (tmp_path / "m.two").write_bytes(FIRST.tobytes() + LAST.tobytes())
    x, y = samples
    model = made["TwoLayers"].load(tmp_path / "m.two", class_names=["a", "b", "c"])
    adapted = s2.adapt(model, x, y, epochs=60, learning_rate=0.01)
    assert adapted.class_names == ("a", "b", "c")
    assert adapted.score(x, y) > 0.8
