"""Samples of the old domain beside new ones: joined once, weighed, scaled alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapt import adapt_and_measure
from skip2lora.backbones.recipe import ANY_MODEL, PAPER
from skip2lora.errors import (
    DataError,
    FewSamplesWarning,
    FileError,
    ForgettingWarning,
    ModelError,
    ParameterError,
)
from skip2lora.sklearn import Skip2LoRAClassifier
from skip2lora.tasks.labels import encode
from skip2lora.tasks.task import CLASSIFICATION, PLAIN, TASKS, Outputs
from skip2lora.training import rehearsal
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.lab_set import LabSet
from skip2lora.training.options import resolve_options
from skip2lora.training.rehearsal import OldSamples, lab_set_beside, rehearse

WIDTHS = [9, 16, 5, 3]
OPTIONS: dict[str, Any] = {"epochs": 6, "learning_rate": 0.01, "batch_size": 20}


@pytest.fixture
def new(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_samples(60, 9)
    return x * np.float32(3) + 2, y.astype(np.int32)


@pytest.fixture
def old(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_samples(24, 9, seed=1)
    return x, y.astype(np.int32)


def tensors(adapted: s2.AdaptedModel) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in adapted.adapters.tensors().items()}


def all_of(model: Any, old: Any, task: str = "classification") -> LabSet:
    """A lab set of all old samples, in their order."""
    part = CheckedSamples(old[0], old[1])
    lab = LabSet.choose(model, part, TASKS[task], 100)
    rows, own = (np.concatenate(of, axis=1) for of in (model.forward(old[0]).taps, lab.taps))
    order = [int(np.flatnonzero((own == row).all(axis=1))[0]) for row in rows]
    return LabSet(
        lab.layers, tuple(tap[order] for tap in lab.taps), lab.base_logits[order],
        lab.answers[order], lab.task, lab.fingerprint, lab.tapping,
    )  # fmt: skip


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("method", ["skip2-lora", "skip-lora", "lora-last"])
def test_old_samples_are_learned_as_if_among_the_new(
    backbone: Any, new: Any, old: Any, method: str, standardize: bool
) -> None:
    """From samples and from known rows: joined once, and scaled by the statistics of all."""
    options = OPTIONS | {"method": method, "standardize": standardize, "keep_weight": 1}
    x, y = np.concatenate([new[0], old[0]]), np.concatenate([new[1], old[1]])
    expected = s2.adapt(backbone, x, y, **(options | {"keep_weight": None}))
    for keep in (old, all_of(backbone, old)):
        adapted = s2.adapt(backbone, *new, keep=keep, **options)
        assert tensors(adapted) == tensors(expected)
        assert adapted.history.n_forwards == (84 if keep is old else 60)


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("method", ["skip2-lora", "ft-all"])
def test_an_old_sample_counts_as_so_many(
    make_model: Any, new: Any, old: Any, method: str, standardize: bool
) -> None:
    """As if each were there three times, in one batch of all."""
    model = make_model(WIDTHS, batch_norm=False)
    if method == "ft-all" and standardize:
        return
    options: dict[str, Any] = {"method": method, "standardize": standardize, "epochs": 20}
    x, y = (
        np.concatenate([of_new, *[of_old] * 3]) for of_new, of_old in zip(new, old, strict=True)
    )
    expected = s2.adapt(model, x, y, batch_size=132, **options)
    adapted = s2.adapt(model, *new, keep=old, keep_weight=3, batch_size=84, **options)
    plain = s2.adapt(model, *new, keep=old, keep_weight=1, batch_size=84, **options)
    np.testing.assert_allclose(adapted.logits(x), expected.logits(x), rtol=1e-4, atol=1e-4)
    assert np.abs(plain.logits(x) - expected.logits(x)).max() > 0.01


def test_old_samples_may_have_weights_of_their_own(make_model: Any, new: Any, old: Any) -> None:
    model = make_model(WIDTHS)
    each = np.arange(24) % 3
    some = each > 0
    keep = (old[0], old[1], each * 7)
    expected = s2.adapt(model, *new, keep=keep, keep_weight=1, epochs=3)
    part = CheckedSamples(*new)
    of_old = OldSamples(model, old[0][some], old[1][some], each[some] / 1.5)
    options = resolve_options(PAPER, model.tap_widths, 76, epochs=3)
    result = rehearse(model, part, options, old=of_old, goal=PLAIN).adapters.tensors()
    for name, array in expected.adapters.tensors().items():
        np.testing.assert_array_equal(array, result[name])


def test_by_default_both_domains_count_alike(make_model: Any, new: Any, old: Any) -> None:
    """And an old sample never less than a new one."""
    model, (x, y) = make_model(WIDTHS), new
    for n_new, weight in ((60, 2.5), (12, 1)):
        samples = (x[:n_new], y[:n_new])
        expected = s2.adapt(model, *samples, keep=old, keep_weight=weight, epochs=3)
        for keep in (old, all_of(model, old)):
            assert tensors(s2.adapt(model, *samples, keep=keep, epochs=3)) == tensors(expected)


def test_a_weight_is_told_from_new_weights(make_model: Any, new: Any, old: Any) -> None:
    """Weights of new samples are relative to each other: twice as large ones change nothing."""
    model = make_model(WIDTHS)
    of_old = OldSamples(model, old[0], old[1], np.full(24, 2.0))
    options = resolve_options(ANY_MODEL, model.tap_widths, 84, epochs=3)
    weight = np.linspace(0.5, 1.5, 60, dtype=np.float32)
    results = []
    for factor in (1, 2):
        part = CheckedSamples(*new, weight * np.float32(factor))
        results.append(rehearse(model, part, options, old=of_old, goal=PLAIN).adapters.tensors())
    for name, array in results[0].items():
        np.testing.assert_array_equal(array, results[1][name])


@pytest.mark.parametrize("method", ["ft-all", "lora-all", "ft-last"])
def test_methods_through_the_network(make_model: Any, new: Any, old: Any, method: str) -> None:
    model = make_model(WIDTHS)
    x, y = np.concatenate([new[0], old[0]]), np.concatenate([new[1], old[1]])
    expected = s2.adapt(model, x, y, method=method, epochs=2)
    for keep in (old, all_of(model, old)):
        adapted, fit = adapt_and_measure(
            model, *new, keep=keep, keep_weight=1, method=method, epochs=2
        )
        for name, array in adapted.adapters.tensors().items():
            np.testing.assert_array_equal(array, expected.adapters.tensors()[name])
        assert fit.old is not None
        assert fit.old.before.overall["accuracy"] == model.score(*old)
        assert fit.old.after.overall["accuracy"] == adapted.score(*old)


def test_no_row_passes_twice(new: Any, old: Any) -> None:
    for standardize in (True, False):
        model = NumpyBackbone(WIDTHS, first_tap_is_input=False)
        lab = all_of(model, old)
        model.batches.clear()
        s2.adapt(model, *new, keep=old, standardize=standardize, validation=0.25, **OPTIONS)
        assert model.n_forwards == 84
        model.batches.clear()
        s2.adapt(model, *new, keep=lab, method="skip-lora", standardize=standardize, **OPTIONS)
        assert model.n_forwards == 60
        model.batches.clear()
        data = {"validation_data": (new[0][:10], new[1][:10])}
        done = s2.adapt(model, *new, keep=lab, standardize=standardize, **data, **OPTIONS)
        assert model.n_forwards == done.history.n_forwards == 70


@pytest.mark.parametrize("task", TASKS)
def test_every_task(backbone: Any, new: Any, old: Any, task: str) -> None:
    def answers(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if task == "classification":
            return y
        return (x[:, :3] > 0).astype(np.float32) if task == "multi-label" else x[:, :3] * 2

    options = OPTIONS | {"task": task, "standardize": True, "keep_weight": 1}
    both = (old[0], answers(*old))
    x = np.concatenate([new[0], old[0]])
    y = np.concatenate([answers(*new), both[1]])
    expected = s2.adapt(backbone, x, y, **(options | {"keep_weight": None}))
    for keep in (both, all_of(backbone, both, task)):
        adapted = s2.adapt(backbone, new[0], answers(*new), keep=keep, **options)
        assert tensors(adapted) == tensors(expected)


def test_new_and_old_are_measured_apart(backbone: Any, new: Any, old: Any) -> None:
    adapted = s2.adapt(backbone, *new, keep=old, **OPTIONS)
    fit, base = adapted.fit, backbone.logits
    assert fit is not None
    assert fit.old is not None
    assert (fit.n_measured, fit.old.n_measured) == (60, 24)
    assert (fit.held_out, fit.old.held_out) == (False, False)
    for of, (x, y) in ((fit, new), (fit.old, old)):
        assert of.before.overall["accuracy"] == (base(x).argmax(axis=1) == y).mean()
        assert of.after.overall["accuracy"] == adapted.score(x, y)
        assert of.on_all == of.after
    held = s2.adapt(backbone, *new, keep=old, validation=0.25, **OPTIONS).fit
    assert (held.n_measured, held.old.n_measured) == (15, 6)
    assert held.held_out
    assert held.old.held_out
    assert sum(part["n_samples"] for part in held.on_all.parts) == 60
    assert sum(part["n_samples"] for part in held.old.on_all.parts) == 24


def test_a_new_class_beside_the_own_labels_of_old_samples(
    backbone: Any, new: Any, old: Any
) -> None:
    x, y = new
    adapted = s2.adapt(
        backbone, x, np.full_like(y, 7), keep=old, new_classes=True, standardize=True, **OPTIONS
    )
    assert adapted.n_outputs == 4
    assert adapted.fit.before is None  # the base model has no class 7
    assert adapted.fit.old.before.overall["accuracy"] == (
        (backbone.logits(old[0]).argmax(axis=1) == old[1]).mean()
    )
    places = (adapted.logits(old[0]).argmax(axis=1) == old[1]).mean()
    assert adapted.fit.old.after.overall["accuracy"] == places
    with_new = (np.concatenate([old[0], x[:3]]), np.concatenate([old[1], [7, 7, 7]]))
    again = s2.adapt(backbone, x, np.full_like(y, 7), keep=with_new, new_classes=True, epochs=1)
    assert again.fit.old.before is None


@pytest.mark.parametrize(
    ("names", "new_labels", "expected"),
    [
        (None, (7,), Outputs([0, 1, 7])),
        (None, ("z",), Outputs(range(3), ("0", "1", "z"))),
        (("a", "b"), ("z",), Outputs(range(3), ("a", "b", "z"))),
        (("a", "b"), (), Outputs(range(2), ("a", "b"))),
    ],
)
def test_old_labels_are_those_of_the_result(names: Any, new_labels: Any, expected: Any) -> None:
    own = Outputs(range(2), names)
    y = np.array([*(names or new_labels), *new_labels])
    encoded = encode(CLASSIFICATION, y, len(y), own, new_outputs=bool(new_labels))
    assert list(encoded.all_outputs.numbers) == list(expected.numbers)
    assert encoded.all_outputs.names == expected.names


def test_lab_set_beside_the_model(make_model: Any, new: Any, old: Any, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    make_model(WIDTHS).save(file)
    model = s2.load(file)
    plain = s2.adapt(model, *new, **OPTIONS)
    assert plain.fit.old is None
    lab = all_of(model, old)
    lab_set_beside(file).write_bytes(lab.to_bytes())
    adapted = s2.adapt(model, *new, **OPTIONS)
    assert adapted.fit.old.n_measured == 24
    for keep in (lab, lab_set_beside(file), str(lab_set_beside(file))):
        assert tensors(s2.adapt(model, *new, keep=keep, **OPTIONS)) == tensors(adapted)
    assert tensors(s2.adapt(model, *new, keep=False, **OPTIONS)) == tensors(plain)
    given = s2.adapt(model, *new, keep=(old[0][:9], old[1][:9]), **OPTIONS)
    assert given.fit.old.n_measured == 9  # instead of the lab set
    anew = s2.adapt(model, *new, keep_outputs=False, **OPTIONS)
    assert anew.fit.old is None


@pytest.mark.parametrize(
    ("keep", "error", "words"),
    [
        (True, ParameterError, "keep is bool, expected samples and labels"),
        (7, ParameterError, "keep is int"),
        ((1,), ParameterError, "keep is tuple"),
        ("none.safetensors", FileError, "none.safetensors"),
    ],
)
def test_what_keep_may_not_be(
    make_model: Any, new: Any, refused: Any, keep: Any, error: Any, words: str
) -> None:
    assert words in refused(error, s2.adapt, make_model(WIDTHS), *new, keep=keep)


def test_old_samples_that_do_not_fit(make_model: Any, new: Any, old: Any, refused: Any) -> None:
    def refusal(error: Any, model: Any = None, **options: Any) -> str:
        return refused(error, s2.adapt, model or make_model(WIDTHS), *new, **options)

    x, y = old
    assert refusal(DataError, keep=(x[:, :5], y)).startswith("keep: ")
    assert refusal(DataError, keep=(x, y[:5])).startswith("keep: ")
    assert "label 9" in refusal(DataError, keep=(x, y + 7))
    for weight in (0, -1, np.nan, np.inf, "2"):
        assert "keep_weight is" in refusal(ParameterError, keep=old, keep_weight=weight)
    for keep in (None, False):
        assert "without old samples" in refusal(ParameterError, keep=keep, keep_weight=2)
    assert "keep is set with keep_outputs off" in refusal(
        ParameterError, keep=old, keep_outputs=False
    )
    lab = all_of(make_model(WIDTHS), old)
    assert "of the model" in refusal(ModelError, make_model(WIDTHS, seed=3), keep=lab)
    numbers = all_of(make_model(WIDTHS), (x, x[:, :3]), "regression")
    assert "answers for regression, the task is classification" in refusal(
        ParameterError, keep=numbers
    )


@pytest.mark.filterwarnings("error")
def test_warnings_count_old_samples_too(make_model: Any, new: Any, old: Any) -> None:
    model, (x, y) = make_model(WIDTHS), new
    some = y != 1
    with pytest.warns(ForgettingWarning, match="1 may be forgotten") as caught:
        s2.adapt(model, x[some], y[some], epochs=1)
    assert caught[0].filename == __file__
    s2.adapt(model, x[some], y[some], keep=old, epochs=1)
    s2.adapt(model, x[some], y[some], keep=all_of(model, old), epochs=1)
    few = np.concatenate([np.flatnonzero(some), np.flatnonzero(~some)[:2]])
    with pytest.warns(FewSamplesWarning, match=r"few samples of 1 class \(1 2\)") as caught:
        s2.adapt(model, x[few], y[few], epochs=1)
    assert caught[0].filename == __file__
    with pytest.warns(FewSamplesWarning, match=r"few samples of 1 class \(1 2\)"):
        s2.adapt(model, x[few], y[few], epochs=1, keep_outputs=False)
    s2.adapt(model, x[few], y[few], keep=(x[~some][2:3], y[~some][2:3]), epochs=1)


# --- the estimators --------------------------------------------------------------------------


@pytest.mark.parametrize("keep_weight", [None, 3])
def test_estimators_learn_old_samples_too(
    make_model: Any, new: Any, old: Any, keep_weight: Any
) -> None:
    """Old ones come first: in one batch of all, and without random order, that is all the same."""
    estimators = pytest.importorskip("skip2lora.sklearn")
    model = make_model(WIDTHS)
    options: dict[str, Any] = {"epochs": 30, "learning_rate": 0.01, "batch_size": 84}
    of_any: dict[str, Any] = {"optimizer": "adam", "standardize": True}
    expected = s2.adapt(model, *new, keep=old, keep_weight=keep_weight, **options, **of_any)
    for keep in (old, all_of(model, old)):
        estimator = estimators.Skip2LoRAClassifier(
            model, keep=keep, keep_weight=keep_weight, random_state=0, rank=9, **options
        )
        estimator.fit(*new)
        assert estimator.adapted_.history.n_forwards == (84 if keep is old else 60)
        assert estimator.score(*old) >= expected.score(*old) - 0.05
        assert estimator.score(*new) >= expected.score(*new) - 0.05
    without = estimators.Skip2LoRAClassifier(model, random_state=0, **options).fit(*new)
    assert without.score(*old) < estimator.score(*old) - 0.1


def test_an_exact_estimator_is_an_exact_adapter(make_model: Any, new: Any, old: Any) -> None:
    estimators = pytest.importorskip("skip2lora.sklearn")
    model = make_model(WIDTHS)
    for keep, keep_weight in ((old, None), (all_of(model, old), 2.0)):
        options: dict[str, Any] = {"solver": "exact", "penalty": 0.01}
        expected = s2.adapt(model, *new, keep=keep, keep_weight=keep_weight, **options)
        estimator = estimators.Skip2LoRAClassifier(
            model, keep=keep, keep_weight=keep_weight, **options
        )
        adapted = estimator.fit(*new).adapted_
        np.testing.assert_allclose(adapted.logits(new[0]), expected.logits(new[0]), atol=0.01)
        half = estimators.Skip2LoRAClassifier(
            model, keep=keep, keep_weight=keep_weight, capacity=40, **options
        )
        half.partial_fit(new[0][:20], new[1][:20]).partial_fit(new[0][20:], new[1][20:])
        np.testing.assert_allclose(half.adapted_.logits(new[0]), expected.logits(new[0]), atol=0.01)
        assert len(half._state.stream) == 64  # the old ones stay, whatever the capacity
        np.testing.assert_array_equal(half._state.stream.answers[:24], old[1])


def test_estimators_name_classes_as_the_model_does(make_model: Any, new: Any, old: Any) -> None:
    estimators = pytest.importorskip("skip2lora.sklearn")
    names = np.array(["stop", "normal", "damaged"])
    model = make_model(WIDTHS).named(names.tolist())
    with_new = np.where(new[1] == 0, "hot", names[new[1]])
    estimator = estimators.Skip2LoRAClassifier(model, keep=(old[0], names[old[1]]), solver="exact")
    estimator.fit(new[0], with_new)
    assert (estimator.predict(old[0]) == names[old[1]]).mean() > 0.8
    lab_set = all_of(model, old)
    again = estimators.Skip2LoRAClassifier(model, keep=lab_set, solver="exact")
    again.fit(new[0], with_new)
    np.testing.assert_allclose(again.predict_proba(old[0]), estimator.predict_proba(old[0]))
    numbers = estimators.Skip2LoRARegressor(model, keep=(old[0], old[0][:, :3]), epochs=5).fit(
        new[0], new[0][:, :3]
    )
    assert numbers.adapted_.history.n_forwards == 84


def test_estimators_refuse_what_they_cannot_keep(
    make_model: Any, new: Any, old: Any, refused: Any
) -> None:
    estimators = pytest.importorskip("skip2lora.sklearn")
    model = make_model(WIDTHS)

    def refusal(error: Any, *given: Any, **options: Any) -> str:
        estimator = estimators.Skip2LoRAClassifier(*given, epochs=1, **options)
        return refused(error, estimator.fit, *new)

    assert "without a model" in refusal(ParameterError, keep=old)
    assert "keep_outputs off" in refusal(ParameterError, model, keep=old, keep_outputs=False)
    assert "keep_weight is 0" in refusal(ParameterError, model, keep=old, keep_weight=0)
    for keep in (None, False):
        assert "without old samples" in refusal(ParameterError, model, keep=keep, keep_weight=2)
    assert "keep: " in refusal(DataError, model, keep=(old[0], old[1] + 5))


@pytest.mark.filterwarnings("ignore::skip2lora.errors.ForgettingWarning")
@pytest.mark.parametrize("class_weight", ["balanced", {1: 5}, {1: 0}])
def test_weights_of_classes_count_old_samples_too(
    backbone: Any, new: Any, old: Any, class_weight: Any
) -> None:
    """As if the old ones were among the new; each counts as two of them."""
    x, y = np.concatenate([new[0][:40], old[0]]), np.concatenate([new[1][:40], old[1]])
    own = np.linspace(0.5, 1.5, 40)
    options: dict[str, Any] = {"class_weight": class_weight, "solver": "exact", "penalty": 0.01}
    counts = y[:40] != 1 if class_weight == {1: 0} else slice(None)
    each = np.concatenate([own, np.full(24, 2 * own[counts].mean())])
    expected = s2.adapt(backbone, x, y, sample_weight=each, **options)
    kept = s2.adapt(backbone, x[:40], y[:40], sample_weight=own, keep=old, keep_weight=2, **options)
    np.testing.assert_allclose(kept.logits(x), expected.logits(x), rtol=1e-3, atol=1e-3)
    other = s2.adapt(backbone, x, y, sample_weight=each, **options | {"class_weight": None})
    assert np.abs(kept.logits(x) - other.logits(x)).max() > 0.01
    estimator = Skip2LoRAClassifier(backbone, keep=old, keep_weight=2, **options)
    if class_weight != {1: 0}:
        estimator.fit(x[:40], y[:40], sample_weight=own)
        np.testing.assert_allclose(
            estimator.adapted_.logits(x), expected.logits(x), rtol=1e-3, atol=1e-3
        )


def test_groups_are_of_new_samples(backbone: Any, new: Any, old: Any) -> None:
    """Held out whole; old ones have blocks of their own, and both are said to be judged."""
    groups = np.repeat(["p", "q", "r", "s"], 15)
    options: dict[str, Any] = {"recipe": "auto", "keep": old}
    adapted = s2.adapt(backbone, *new, groups=groups, **options)
    numbered = s2.adapt(backbone, *new, groups=np.repeat([3, 1, 2, 0], 15), **options)
    plain = s2.adapt(backbone, *new, **options)
    held_out = adapted.history.held_out
    assert held_out is not None
    assert held_out.n_folds == 4  # groups: none of old samples alone
    assert tensors(adapted) != tensors(plain)
    np.testing.assert_allclose(adapted.logits(new[0]), numbered.logits(new[0]), atol=1e-3)


def test_old_samples_stand_behind_new_ones(make_model: Any) -> None:
    """They are of no row of the file, and of no group."""
    spent = np.array([True, False, True])
    old = OldSamples(
        make_model([4, 3]), None, np.array([2, 0]), np.ones(2), np.array([False, True])
    )
    part = CheckedSamples(
        np.zeros((3, 4), np.float32), np.array([0, 1, 2]), group=np.array([5, 6, 5]),
        row=np.array([7, 8, 9]), spent=spent,
    )  # fmt: skip
    both = rehearsal._joined(part, old)
    assert both.y.tolist() == [0, 1, 2, 2, 0]
    assert (both.row.tolist(), both.group.tolist()) == ([7, 8, 9, -1, -1], [5, 6, 5, 0, 0])
    assert both.old.tolist() == [False, False, False, True, True]
    assert both.spent.tolist() == [True, False, True, False, True]
    assert rehearsal._joined(dataclasses.replace(part, spent=None), old).spent is None
    nobody = dataclasses.replace(part, row=None, group=None)
    assert (rehearsal._joined(nobody, old).row, rehearsal._joined(nobody, old).group) == (None,) * 2
