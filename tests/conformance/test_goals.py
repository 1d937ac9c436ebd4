"""Beyond the paper's case: scaled taps, new classes, several labels, numbers; on every backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.arrays import Inputs
from skip2lora.backbones.base import Taps
from skip2lora.errors import DataError, ParameterError

WIDTHS = [9, 16, 5, 3]
QUICK = {"epochs": 60, "learning_rate": 0.01, "optimizer": "adam"}


class TwoInputs(NumpyBackbone):
    """The same network, given its features as two arrays by name."""

    def __init__(self) -> None:
        super().__init__(WIDTHS, first_tap_is_input=False)

    def check(self, X: Any) -> Inputs:
        if not isinstance(X, dict) or set(X) != {"left", "right"}:
            raise DataError("expected the inputs left and right: pass both")
        return Inputs({name: np.asarray(array, np.float32) for name, array in X.items()})

    def forward(self, x: Inputs) -> Taps:
        return super().forward(np.concatenate([x.arrays["left"], x.arrays["right"]], axis=1))


@pytest.fixture(params=["MLP", "NumPy", "NumPy, all taps its own"])
def backbone(request: pytest.FixtureRequest, make_model: Any) -> Any:
    if request.param == "MLP":
        return make_model(WIDTHS)
    return NumpyBackbone(WIDTHS, first_tap_is_input=request.param == "NumPy")


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_samples(60, 9)
    return x * np.float32(5) + np.arange(9, dtype=np.float32) * 3, y  # far from standard


# --- scaled taps -------------------------------------------------------------------------------


class Scaled(NumpyBackbone):
    """Another backbone, with its taps scaled by hand."""

    def __init__(self, other: Any, x: np.ndarray) -> None:
        self.other, made = other, other.forward(x)
        self.first_tap_is_input = False
        self.n_features, self.tap_widths = x.shape[1], other.tap_widths
        self.n_outputs, self.batches = other.n_outputs, []
        self.mean = [tap.mean(axis=0) for tap in made.taps]
        var = [tap.var(axis=0, dtype=np.float64) for tap in made.taps]
        self.std = [np.sqrt(v + 1e-3 * v.mean()) for v in var]

    def forward(self, x: np.ndarray) -> Taps:
        made = self.other.forward(x)
        each = zip(made.taps, self.mean, self.std, strict=True)
        taps = tuple(((t - m) / s).astype(np.float32) for t, m, s in each)
        return Taps(taps, made.base_logits)


@pytest.mark.parametrize("method", ["skip2-lora", "skip-lora", "lora-last"])
def test_scaled_taps_are_folded(backbone: Any, method: str, samples: Any) -> None:
    """What is saved works on taps as they are and equals training on taps scaled by hand."""
    x, y = samples
    by_hand = Scaled(backbone, x)
    same = s2.adapt(by_hand, x, y, method=method, new_classes=True, standardize=False, **QUICK)
    folded = s2.adapt(backbone, x, y, method=method, standardize=True, **QUICK)
    assert same.adapters.bias is None  # no label is new: no bias, and the mean has to go somewhere
    assert folded.adapters.bias is not None
    trained = s2.adapt(backbone, x, y, method=method, standardize=True, **QUICK)
    assert trained.logits(x).tobytes() == folded.logits(x).tobytes()
    assert folded.score(x, y) > 0.55
    raw = s2.adapt(backbone, x, y, method=method, standardize=False, **QUICK)
    assert np.abs(raw.logits(x) - folded.logits(x)).max() > 0.01


def test_folding_by_hand(backbone: Any, samples: Any) -> None:
    """Scaled rows times trained adapters, before and after folding."""
    from skip2lora.adapters.adapters import SkipAdapters
    from skip2lora.adapters.rows import RowFormat
    from skip2lora.training.skip_job import Scaling

    x, _ = samples
    rows = RowFormat.of(backbone, copy_input=True)
    raw = rows.empty(len(x))
    rows.compute(backbone, x, raw)
    scaling = Scaling.of(rows, [raw[:7], raw[7:]])
    random = np.random.default_rng(0)
    a = tuple(random.normal(size=(w, 2)).astype(np.float32) for w in rows.tap_widths)
    b = tuple(random.normal(size=(2, 3)).astype(np.float32) for _ in a)
    adapters = SkipAdapters(a, b, 0, np.float32([1, 2, 3]))
    by_hand = Scaled(backbone, x)
    want = by_hand.other.forward(x).base_logits + np.float64([1, 2, 3])
    for tap, one, two in zip(by_hand.forward(x).taps, a, b, strict=True):
        want = want + tap.astype(np.float64) @ one @ two
    got = scaling.fold(adapters).logits(backbone, x)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())


def test_a_dead_column_does_not_explode(make_model: Any, samples: Any) -> None:
    x, y = samples
    x = x.copy()
    x[:, 3] = 7  # never moves in training
    adapted = s2.adapt(make_model(WIDTHS), x, y, standardize=True, **QUICK)
    moved = x.copy()
    moved[:, 3] = 8
    assert np.isfinite(adapted.logits(moved)).all()
    assert np.abs(adapted.logits(moved)).max() < 100 * np.abs(adapted.logits(x)).max() + 100


def test_scaled_training_computes_each_sample_once(samples: Any) -> None:
    backbone = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    x, y = samples
    adapted = s2.adapt(backbone, x, y, standardize=True, **QUICK)
    assert backbone.n_forwards == len(x)
    assert adapted.history is not None
    assert adapted.history.n_forwards == len(x)
    assert adapted.timing is not None
    assert adapted.timing.cache_fill_ms > 0


@pytest.mark.parametrize("policy", ["pin", "fifo", "lru"])
@pytest.mark.parametrize("capacity", [0, 1, 17, 59, 60])
def test_any_capacity_gives_the_same_bits(samples: Any, capacity: int, policy: str) -> None:
    from skip2lora.backbones.recipe import ANY_MODEL
    from skip2lora.training.jobs import CheckedSamples
    from skip2lora.training.loop import train
    from skip2lora.training.options import resolve_options

    x, y = samples
    backbone = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    part, whole = (
        train(
            backbone, CheckedSamples(x, y.astype(np.int32)),
            resolve_options(ANY_MODEL, backbone.tap_widths, 60, rank=2, **QUICK, **limit),
        )
        for limit in ({"cache_samples": capacity, "cache_policy": policy}, {})
    )  # fmt: skip
    for name, array in whole.adapters.tensors().items():
        assert part.adapters.tensors()[name].tobytes() == array.tobytes()


# --- new classes -------------------------------------------------------------------------------


def test_new_classes(backbone: Any, samples: Any, tmp_path: Path) -> None:
    x, y = samples
    labels = np.where(x[:, 0] > np.median(x[:, 0]), 7, y)
    labels[0] = 12
    adapted = s2.adapt(backbone, x, labels, new_classes=True, standardize=True, **QUICK)
    assert adapted.classes_.tolist() == [0, 1, 2, 7, 12]
    assert adapted.n_outputs == 5
    assert set(adapted.predict(x)) <= {0, 1, 2, 7, 12}
    assert (adapted.predict(x)[labels == 7] == 7).mean() > 0.8
    np.testing.assert_allclose(adapted.predict_proba(x).sum(axis=1), 1, rtol=1e-5)
    assert adapted.score(x, labels) == (adapted.predict(x) == labels).mean()
    adapted.save(tmp_path / "adapter")
    loaded = s2.AdaptedModel.load(backbone, tmp_path / "adapter")
    assert loaded.classes_.tolist() == [0, 1, 2, 7, 12]
    assert loaded.logits(x).tobytes() == adapted.logits(x).tobytes()


def test_new_outputs_start_at_zero(backbone: Any, samples: Any) -> None:
    x, y = samples
    start = s2.adapt(backbone, x, np.where(y == 2, 5, y), new_classes=True, epochs=1,
                     learning_rate=1e-12, optimizer="sgd", standardize=False)  # fmt: skip
    base = backbone.logits(x) if hasattr(backbone, "logits") else backbone.forward(x).base_logits
    np.testing.assert_allclose(start.logits(x)[:, :3], base, rtol=0, atol=1e-5)
    np.testing.assert_allclose(start.logits(x)[:, 3], 0, atol=1e-6)


def test_unknown_labels_are_refused_without_new_classes(backbone: Any, samples: Any) -> None:
    x, y = samples
    with pytest.raises(DataError, match="label 7"):
        s2.adapt(backbone, x, np.where(y == 2, 7, y), **QUICK)
    with pytest.raises(ParameterError, match="new_classes is on with task regression"):
        s2.adapt(backbone, x, y, task="regression", new_classes=True)


# --- tasks -------------------------------------------------------------------------------------


def test_several_labels(backbone: Any, samples: Any, tmp_path: Path) -> None:
    x, _ = samples
    y = (x[:, :3] > np.median(x[:, :3], axis=0)).astype(int)
    adapted = s2.adapt(backbone, x, y, task="multi-label", standardize=True,
                       epochs=200, learning_rate=0.02, optimizer="adam")  # fmt: skip
    assert adapted.score(x, y) > 0.7
    assert set(np.unique(adapted.predict(x))) == {0, 1}
    proba = adapted.predict_proba(x)
    np.testing.assert_array_equal(proba > 0.5, adapted.predict(x) == 1)
    adapted.save(tmp_path / "adapter")
    loaded = s2.AdaptedModel.load(backbone, tmp_path / "adapter")
    np.testing.assert_array_equal(loaded.predict(x), adapted.predict(x))
    assert loaded.task == "multi-label"


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1000, 50_000), (0.01, 5)])
def test_numbers(backbone: Any, samples: Any, scale: float, offset: float) -> None:
    """What the model lacks is learned, whatever its size and mean."""
    x, _y = samples
    base = backbone.logits(x) if hasattr(backbone, "logits") else backbone.forward(x).base_logits
    change = np.stack([x[:, 0], x[:, 1] - x[:, 2], x[:, 3]], axis=1) / 10
    targets = (base + change * scale + offset).astype(np.float32)
    adapted = s2.adapt(
        backbone, x, targets, task="regression", standardize=True,
        epochs=300, learning_rate=0.01, optimizer="adam",
    )  # fmt: skip
    missing = targets - base
    left = ((adapted.predict(x) - targets) ** 2).sum()
    assert left < 0.2 * ((missing - missing.mean(axis=0)) ** 2).sum()
    assert adapted.score(x, targets) > 0.8
    with pytest.raises(ParameterError, match="expected classes or labels for probabilities"):
        adapted.predict_proba(x)


@pytest.mark.parametrize(
    ("task", "y", "said"),
    [
        ("regression", np.zeros(60), r"y has shape \(60,\), expected \(60, 3\)"),
        ("regression", np.zeros((59, 3)), r"expected \(60, 3\)"),
        ("regression", np.full((60, 3), np.nan), "y has nan at row 0, column 0"),
        ("multi-label", np.full((60, 3), 0.5), "y has 0.5 at row 0, column 0 .*expected 0 or 1"),
        ("multi-label", None, r"y is None, expected \(60, 3\) for multi-label: pass them"),
        ("regression", np.full((60, 3), "high"), r"expected real numbers: convert it with"),
    ],
)
def test_bad_targets(backbone: Any, samples: Any, task: str, y: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        s2.adapt(backbone, samples[0], y, task=task)


def test_unknown_task(backbone: Any, samples: Any) -> None:
    with pytest.raises(ParameterError, match="task is 'ranking', expected one of classification"):
        s2.adapt(backbone, *samples, task="ranking")


@pytest.mark.parametrize("method", ["ft-all", "lora-all", "ft-last"])
def test_methods_through_the_network_refuse(make_model: Any, samples: Any, method: str) -> None:
    x, y = samples
    for option in ({"standardize": True}, {"task": "regression"}):
        targets = np.zeros((60, 3)) if "task" in option else y
        with pytest.raises(ParameterError, match="use skip2-lora"):
            s2.adapt(make_model(WIDTHS), x, targets, method=method, **option)


# --- several inputs, defaults ------------------------------------------------------------------


def test_several_inputs(samples: Any, tmp_path: Path) -> None:
    x, y = samples
    given = {"left": x[:, :4], "right": x[:, 4:]}
    two, one = TwoInputs(), NumpyBackbone(WIDTHS, first_tap_is_input=False)
    options = QUICK | {"validation": 0.2}
    split = s2.adapt(two, given, y, standardize=True, **options)
    whole = s2.adapt(one, x, y, standardize=True, **options)
    assert split.logits(given).tobytes() == whole.logits(x).tobytes()
    with pytest.raises(DataError, match="left and right"):
        split.predict(x)


def test_defaults_of_a_model(make_model: Any, samples: Any) -> None:
    x, y = samples
    paper = s2.adapt(make_model(WIDTHS), x, y, solver="steps")
    assert paper.history is not None
    assert len(paper.history.loss) == 300
    assert paper.adapters.bias is None
    backbone = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    without = type("Other", (NumpyBackbone,), {"recipe": s2.Backbone().recipe})
    without = without(WIDTHS, first_tap_is_input=False)
    any_model = s2.adapt(without, x, y, solver="steps")
    assert any_model.history is not None
    assert len(any_model.history.loss) == 50
    assert any_model.adapters.bias is not None
    same = s2.adapt(backbone, x, y, epochs=50, learning_rate=0.001, optimizer="adam",
                    standardize=True)  # fmt: skip
    assert same.logits(x).tobytes() == any_model.logits(x).tobytes()
    assert s2.adapt(without, x, y).history.tried


# --- labels as names ----------------------------------------------------------------------------


def test_names(make_model: Any, samples: Any, tmp_path: Path) -> None:
    x, y = samples
    names = np.array(["ok", "worn", "broken"])
    model = replace(make_model(WIDTHS), class_names=tuple(names))
    by_name, by_number = (s2.adapt(model, x, given, epochs=3) for given in (names[y], y))
    assert by_name.logits(x).tobytes() == by_number.logits(x).tobytes()
    assert by_name.score(x, names[y]) == by_name.score(x, y)
    with pytest.raises(DataError, match=r'got label "cracked" at row 2 .*expected one of ok, worn'):
        s2.adapt(model, x, np.where(np.arange(60) == 2, "cracked", names[y]))
    mixed = np.where(x[:, 0] > np.median(x[:, 0]), "cracked", names[y])
    adapted = s2.adapt(model, x, mixed, new_classes=True, **QUICK)
    assert adapted.classes_.tolist() == ["ok", "worn", "broken", "cracked"]
    assert adapted.class_names == ("ok", "worn", "broken", "cracked")
    assert (adapted.predict(x) == mixed).mean() == adapted.score(x, mixed) > 0.5
    adapted.save(tmp_path / "adapter")
    loaded = s2.AdaptedModel.load(model, tmp_path / "adapter")
    np.testing.assert_array_equal(loaded.predict(x), adapted.predict(x))


def test_names_for_a_model_without(backbone: Any, samples: Any) -> None:
    """All of them are new: a name says nothing of an output that has only a number."""
    x, y = samples
    named = np.array(["left", "right", "up"])[y]
    with pytest.raises(DataError, match=r'got label "left".*expected one of 0, 1, 2'):
        s2.adapt(backbone, x, named)
    adapted = s2.adapt(backbone, x, named, new_classes=True, standardize=True, **QUICK)
    assert adapted.classes_.tolist() == ["0", "1", "2", "left", "right", "up"]
    assert adapted.score(x, named) > 0.5
