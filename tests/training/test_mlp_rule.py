"""The rule for an MLP: which taps, statistics and options, and what it says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.backbones.derived import derived_taps
from skip2lora.backbones.field_mlp import field_statistics
from skip2lora.backbones.standins import Headless
from skip2lora.errors import FewSamplesWarning
from skip2lora.tasks.task import CLASSIFICATION, TASKS
from skip2lora.training.auto import AutoJob
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.lab_set import LabSet
from skip2lora.training.mlp_rule import FIELD, STEPS, FieldJob, MlpRule
from skip2lora.training.options import resolve_options

POWERS = ["square", "cube", "fourth-power"]


@pytest.fixture
def model(make_model: Any) -> s2.MLP:
    return make_model([9, 16, 5, 3])


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    return make_samples(150, 9)


def rule_of(model: s2.Backbone, x: np.ndarray, recipe: str | None = "auto") -> MlpRule:
    return MlpRule.of(model, x, CLASSIFICATION, recipe)


@pytest.mark.parametrize(
    ("n_samples", "epochs"), [(1, 1000), (20, 1000), (21, 500), (470, 42), (680, 30), (10_000, 30)]
)
def test_a_thousand_steps_or_thirty_epochs(n_samples: int, epochs: int, model: s2.MLP) -> None:
    rule = rule_of(model, np.ones((4, 9), np.float32))
    asked = resolve_options(model.recipe, model.tap_widths, n_samples, recipe="auto", seed=7)
    options = rule.settled(asked, n_samples)
    assert (options.epochs, options.rank, options.seed) == (epochs, 8, 7)
    assert (options.optimizer, options.learning_rate) == ("adam", 0.003)
    assert (options.recipe, options.solver, options.standardize) == (STEPS, "steps", True)


def test_samples_without_negative_numbers(model: s2.MLP, samples: Any, tmp_path: Path) -> None:
    x, y = np.abs(samples[0]), samples[1]
    rule = rule_of(model, x)
    assert [tap.kind for tap in derived_taps(rule.backbone)] == ["log", "log-centred"]
    adapted = s2.adapt(model, x, y, recipe="auto")
    assert adapted.base is model
    assert adapted.adapters.rank == 8
    assert adapted.history.n_batches >= 1000
    assert adapted.history.n_forwards == 150
    by_hand = s2.adapt(
        rule.backbone, x, y, rank=8, optimizer="adam", learning_rate=0.003, standardize=True,
        epochs=125,
    )  # fmt: skip
    assert adapted.logits(x).tobytes() == by_hand.logits(x).tobytes()
    adapted.save(tmp_path / "a")
    back = s2.AdaptedModel.load(model, tmp_path / "a")
    assert back.logits(-x).tobytes() == adapted.logits(-x).tobytes()


def test_what_it_says_of_samples_held_out(model: s2.MLP, make_samples: Any) -> None:
    """Each by what was trained without its block, so chance where labels tell nothing."""
    x, y = make_samples(120, 9)
    x = np.exp(x)
    told = s2.adapt(model, x, y, recipe="auto").history.held_out
    assert told is not None
    assert (told.measure, told.n_samples, told.n_folds) == ("accuracy", 120, 4)
    random = np.random.default_rng(0).permutation(y)
    chance = s2.adapt(model, x, random, recipe="auto")
    assert chance.score(x, random) > 0.55
    assert chance.history.held_out.value < 0.5 < told.value
    timing, tried = chance.timing, chance.history.tried
    assert tried[0].milliseconds < timing.training_ms < timing.total_ms


def test_validation_data_judge_and_choose_nothing(model: s2.MLP, samples: Any) -> None:
    x, y = np.abs(samples[0]), samples[1]
    beside = s2.adapt(model, x, y, recipe="auto", validation_data=(x[:9] * 2, y[:9]))
    assert beside.logits(x).tobytes() == s2.adapt(model, x, y, recipe="auto").logits(x).tobytes()
    told = beside.history.held_out
    assert told.value == pytest.approx(beside.score(x[:9] * 2, y[:9]))
    assert (told.n_samples, told.n_folds) == (9, 1)
    assert [tried.held_out for tried in beside.history.tried] == [told]


@pytest.mark.parametrize("sign", [1, -1])
def test_old_samples_are_not_judged(sign: int, model: s2.MLP, samples: Any) -> None:
    x, y = sign * np.abs(samples[0]), samples[1]
    for options, count in (({}, 150), ({"validation": 0.25}, 38)):
        history = s2.adapt(model, x, y, recipe="auto", keep=(x[:40], y[:40]), **options).history
        assert history.held_out.n_samples == count
        assert [tried.held_out for tried in history.tried] == [history.held_out]


@pytest.mark.filterwarnings("ignore::skip2lora.errors.ForgettingWarning")
@pytest.mark.parametrize("sign", [1, -1])
def test_a_class_of_weight_0_is_not_there(sign: int, model: s2.MLP, samples: Any) -> None:
    """Neither in statistics of the field, nor beside old samples."""
    x, y = sign * np.abs(samples[0]) * (1 + samples[1][:, None]).astype(np.float32), samples[1]
    options: dict[str, Any] = {"recipe": "auto", "keep": (x[:7], y[:7])}
    weighted = s2.adapt(model, x, y, class_weight={2: 0}, **options)
    without = s2.adapt(model, x[y != 2], y[y != 2], **options)
    assert weighted.logits(x).tobytes() == without.logits(x).tobytes()


def test_few_samples(model: s2.MLP, samples: Any) -> None:
    """Fewer than a batch, and classes with one sample, which is never held out."""
    x, y = np.abs(samples[0][:7]), np.array([0, 1, 2, 0, 1, 0, 1])
    with pytest.warns(FewSamplesWarning):
        history = s2.adapt(model, x, y, recipe="auto").history
    assert (history.held_out.n_samples, history.held_out.n_folds) == (6, 3)
    assert any("never held out" in note for note in history.held_out.notes)
    with pytest.warns(FewSamplesWarning):
        alone = s2.adapt(model, x[:3], y[:3], recipe="auto")
    assert alone.history.held_out is None


def test_samples_with_a_negative_number(model: s2.MLP, make_model: Any, samples: Any) -> None:
    x = np.abs(samples[0])
    x[3, 4] = -1e-6
    rule = rule_of(model, x)
    assert [tap.kind for tap in derived_taps(rule.backbone)] == POWERS
    assert field_statistics(rule.backbone)
    assert rule.recipe == FIELD
    plain = rule_of(make_model([9, 16, 5, 3], batch_norm=False), x)
    assert not field_statistics(plain.backbone)
    assert [tap.kind for tap in derived_taps(plain.backbone)] == POWERS


def test_a_few_go_as_with_any_model(model: s2.MLP, make_samples: Any) -> None:
    """What the model knows counts where samples alone do not tell enough: 30 an output do."""
    x, y = make_samples(90, 9)
    for some in (x[:1], x[:89]):
        rule = rule_of(model, some)
        assert rule.backbone is model
        assert rule.recipe is None
    assert rule_of(model, x).recipe == FIELD
    tried = s2.adapt(model, x[:9], y[:9], recipe="auto").history.tried
    assert any("model's own" in each.name for each in tried)


def test_a_convex_fit_of_the_field(model: s2.MLP, samples: Any, tmp_path: Path) -> None:
    """Smoothed labels keep logits small, and the model's own count nothing: a shift is gone."""
    x, y = samples[0] * np.geomspace(0.1, 10, 9, dtype=np.float32), samples[1]
    adapted = s2.adapt(model, x, y, recipe="auto")
    assert adapted.score(x, y) > 0.8
    assert np.median(adapted.predict_proba(x).max(axis=1)) < 0.95
    history = adapted.history
    assert [tried.weight for tried in history.tried] == [1.0]
    assert history.held_out is not None
    assert field_statistics(adapted.backbone)
    assert [tap.kind for tap in derived_taps(adapted.backbone)] == ["logits", *POWERS]
    own = adapted.adapters.lora_a[0] @ adapted.adapters.lora_b[0]
    np.testing.assert_allclose(own, -np.eye(3), atol=1e-6)
    adapted.save(tmp_path / "a")
    back = s2.AdaptedModel.load(model, tmp_path / "a")
    assert back.logits(x).tobytes() == adapted.logits(x).tobytes()


def test_one_candidate_with_smoothed_labels(model: s2.MLP, samples: Any) -> None:
    part = CheckedSamples(samples[0], samples[1].astype(np.int32))
    options = resolve_options(model.recipe, model.tap_widths, 150, recipe="auto")
    whole, one = (kind(model, part, options) for kind in (AutoJob, FieldJob))
    assert (one.problem.smoothing, whole.problem.smoothing) == (0.1, 0.0)
    assert len(one.considered()) < len(whole.considered())


def test_columns_are_divided_by_the_root_of_their_deviation(model: s2.MLP, samples: Any) -> None:
    part = CheckedSamples(samples[0] * 7, samples[1].astype(np.int32))
    options = resolve_options(model.recipe, model.tap_widths, 150, recipe="auto")
    whole, root = (kind(model, part, options) for kind in (AutoJob, FieldJob))
    np.testing.assert_allclose(root.scaling.scale**2, whole.scaling.scale, rtol=1e-6)
    assert (root.scaling.mean == whole.scaling.mean).all()
    assert np.abs(root.scaling.scale - 1).max() > 0.1


def test_bends_that_no_line_follows(make_model: Any) -> None:
    """Whether a column is small or large, by its square: the mean of both classes is the same."""
    random = np.random.default_rng(5)
    x = random.uniform(-1, 1, (300, 9)).astype(np.float32)
    y = (np.abs(x[:, 2]) > 0.5).astype(np.int64)
    adapted = s2.adapt(make_model([9, 4, 3]), x[:150], y[:150], recipe="auto")
    assert adapted.score(x[150:], y[150:]) > 0.85


@pytest.mark.parametrize("sign", [1, -1])
def test_old_samples_and_a_lab_set(sign: int, model: s2.MLP, make_samples: Any) -> None:
    """Rows of a lab set do what its samples do, with derived taps and with other statistics."""
    x, y = make_samples(150, 9)
    old_x, old_y = make_samples(40, 9, seed=3)
    x, old_x = np.abs(x) * np.float32(sign), np.abs(old_x) * np.float32(sign)
    old_y = model.predict(old_x)
    lab_set = LabSet.of(model, old_x, old_y, 40)
    by_rows = s2.adapt(model, x, y, recipe="auto", keep=lab_set)
    without = s2.adapt(model, x, y, recipe="auto", keep=False)
    assert by_rows.score(old_x, old_y) > without.score(old_x, old_y)
    order = [int(np.flatnonzero((old_x == tap).all(axis=1))[0]) for tap in lab_set.taps[0]]
    by_samples = s2.adapt(model, x, y, recipe="auto", keep=(old_x[order], old_y[order]))
    np.testing.assert_allclose(by_rows.logits(x), by_samples.logits(x), rtol=1e-4, atol=1e-4)


def test_where_there_is_no_rule(model: s2.MLP, samples: Any) -> None:
    x, y = np.abs(samples[0]), samples[1]
    for given in (rule_of(model, x, None), rule_of(model, x, "paper"),
                  rule_of(Headless(model, 2), x),
                  MlpRule.of(model, x, TASKS["multi-label"], "auto")):  # fmt: skip
        assert given.recipe is None
        assert not derived_taps(given.backbone)
    anew = s2.adapt(model, x, y, recipe="auto", keep_outputs=False)
    assert len(anew.history.tried) > 1


@pytest.mark.parametrize("sign", [1, -1])
def test_estimators_do_the_same(sign: int, model: s2.MLP, make_samples: Any) -> None:
    sklearn = pytest.importorskip("skip2lora.sklearn")
    x, y = make_samples(150, 9)
    x = np.abs(x) * np.float32(sign)
    learner = sklearn.Skip2LoRAClassifier(model, recipe="auto").fit(x, y)
    kinds = [tap.kind for tap in derived_taps(learner.adapted_.backbone)]
    assert kinds == (["log", "log-centred"] if sign > 0 else ["logits", *POWERS])
    assert learner.adapted_.base is model
    assert learner.score(x, y) == pytest.approx(
        s2.adapt(model, x, y, recipe="auto").score(x, y), abs=0.05
    )
    learner.partial_fit(-x[:5], y[:5])
    assert learner.predict(-x).shape == (150,)
