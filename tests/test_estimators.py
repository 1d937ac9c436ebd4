"""Weights of samples and classes in the scikit-learn estimators."""

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.errors import DataError, ParameterError
from skip2lora.sklearn import Skip2LoRAClassifier, Skip2LoRARegressor

WIDTHS = [9, 16, 5, 3]
QUICK = {"epochs": 4, "learning_rate": 0.01, "pretrain_epochs": 3}


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(60, 9))


@pytest.fixture
def y() -> np.ndarray:
    return np.repeat([0, 1, 2], [40, 14, 6])[np.random.default_rng(2).permutation(60)]


@pytest.fixture
def backbone() -> NumpyBackbone:
    """Not an MLP, for which auto is a rule."""
    return NumpyBackbone(WIDTHS, first_tap_is_input=True)


@pytest.fixture
def some() -> np.ndarray:
    """Weights of which some are 0."""
    weights = np.random.default_rng(3).uniform(0.1, 4, 60)
    weights[[0, 7, 33]] = 0
    return weights


@pytest.fixture(params=["model", "no model"])
def model(request: Any, make_model: Any) -> Any:
    return make_model(WIDTHS) if request.param == "model" else None


def same(one: Any, two: Any) -> bool:
    a, b = (fitted.adapted_.adapters.tensors() for fitted in (one, two))
    same_base = one.model_.fingerprint == two.model_.fingerprint
    return same_base and all(a[name].tobytes() == b[name].tobytes() for name in a)


def test_a_later_part_may_be_one_sample(model: Any, x: np.ndarray, y: np.ndarray) -> None:
    """Also the first one beside a model."""
    fitted = Skip2LoRAClassifier(model, **QUICK)
    count = 20 if model is None else 1
    fitted.partial_fit(x[:count], y[:count], classes=[0, 1, 2])
    assert fitted.partial_fit(x[20:21], y[20:21]).predict(x).shape == (60,)


@pytest.mark.parametrize("validation", [0.0, 0.2], ids=["", "validated"])
@pytest.mark.parametrize("kind", [Skip2LoRAClassifier, Skip2LoRARegressor])
def test_a_weight_of_0_changes_nothing(model, x, y, some, kind: Any, validation: float) -> None:
    new = kind(model, keep_outputs=kind is Skip2LoRAClassifier, validation=validation, **QUICK)
    stay = some > 0
    one = new.fit(x, y, sample_weight=some)
    two = kind(**new.get_params()).fit(x[stay], y[stay], some[stay])
    assert same(one, two)
    assert not same(one, kind(**new.get_params()).fit(x, y))


@pytest.mark.parametrize("kind", [Skip2LoRAClassifier, Skip2LoRARegressor])
def test_partial_fit_keeps_weights(model, x, y, some, kind: Any) -> None:
    """Those of earlier samples count in later calls, given or not; a pickle has them."""

    def fitted(*weights: Any) -> Any:
        new = kind(model, keep_outputs=kind is Skip2LoRAClassifier, **QUICK)
        more = {} if kind is Skip2LoRARegressor else {"classes": [0, 1, 2]}
        new.partial_fit(x[:40], y[:40], sample_weight=weights[0], **more)
        new = pickle.loads(pickle.dumps(new))  # noqa: S301 - ours
        return new.partial_fit(x[40:], y[40:], sample_weight=weights[1])

    weighted = fitted(some[:40], some[40:])
    kept = weighted._state.stream
    np.testing.assert_allclose(kept.weight, some[some > 0], rtol=1e-6)
    assert len(kept) == 57
    ones = fitted(None, some[40:])._state.stream.weight
    np.testing.assert_allclose(ones, [*np.ones(40), *some[40:]], rtol=1e-6)
    unweighted = fitted(None, None)
    assert unweighted._state.stream.weight is None
    assert same(unweighted, fitted(np.full(40, 2), np.full(20, 2)))
    assert not same(weighted, fitted(some[:40], np.ones(20)))


def test_a_reservoir_keeps_the_weights_of_its_samples(make_model: Any, x, y) -> None:
    weights = np.arange(1, 61.0)
    fitted = Skip2LoRAClassifier(make_model(WIDTHS), capacity=20, **QUICK)
    fitted.fit(np.column_stack([weights, x[:, 1:]]), y, sample_weight=weights)
    kept = fitted._state.stream
    assert len(kept) == len(kept.weight) == 20
    np.testing.assert_allclose(kept.cache.rows[:, 0], kept.weight)


@pytest.mark.parametrize("weights", ["balanced", {"a": 1, "b": 3.5}])
def test_class_weight_is_scikit_learns(model, x, y, some, weights: Any) -> None:
    labels = np.array(["a", "b", "c"])[y]
    keep = {"keep_outputs": model is None}
    for own in (None, some):
        fitted = Skip2LoRAClassifier(model, class_weight=weights, **keep, **QUICK).fit(
            x, labels, own
        )
        each = compute_sample_weight(weights, labels) if own is None else None
        if own is not None:
            counted = {"a": 1, "b": 3.5, "c": 1}
            if weights == "balanced":
                sums = {name: some[labels == name].sum() for name in "abc"}
                counted = {name: some.sum() / (3 * total) for name, total in sums.items()}
            each = some * [counted[label] for label in labels]
        other = Skip2LoRAClassifier(model, **keep, **QUICK).fit(x, labels, sample_weight=each)
        np.testing.assert_allclose(
            fitted.predict_proba(x), other.predict_proba(x), rtol=1e-3, atol=1e-4
        )


def test_labels_of_classes_may_be_numbers(model, x, y) -> None:
    numbers = np.array([7, 3, 20])[y]
    keep = {"keep_outputs": model is None}
    by_name = Skip2LoRAClassifier(model, class_weight={20: 4, 3: 2}, **keep, **QUICK)
    each = compute_sample_weight({20: 4, 3: 2, 7: 1}, numbers)
    other = Skip2LoRAClassifier(model, **keep, **QUICK).fit(x, numbers, each)
    assert same(by_name.fit(x, numbers), other)


def test_outputs_may_stand_in_another_order(make_model: Any, x, y) -> None:
    names = ("wave", "idle", "fall")
    labels, keep = np.array(names)[y], make_model(WIDTHS).named(names)
    each = np.where(labels == "fall", 5.0, 1)
    by_class = Skip2LoRAClassifier(keep, class_weight={"fall": 5}, **QUICK).fit(x, labels)
    by_sample = Skip2LoRAClassifier(keep, **QUICK).fit(x, labels, each)
    assert same(by_class, by_sample)
    by_class.partial_fit(x[:9], labels[:9])
    assert same(by_class, by_sample.partial_fit(x[:9], labels[:9], sample_weight=each[:9]))


def test_the_network_that_is_made_is_weighted(x, y) -> None:
    """Without a model; of a regressor as well, which learns ranges of numbers first."""
    weights = np.arange(1, 61.0)
    for kind in (Skip2LoRAClassifier, Skip2LoRARegressor):
        plain, weighted = (kind(**QUICK).fit(x, y, each) for each in (None, weights))
        assert plain.model_.base.fingerprint != weighted.model_.base.fingerprint


def test_balanced_counts_all_that_is_kept(make_model: Any, x, y) -> None:
    options = {"class_weight": "balanced", **QUICK}
    streamed = Skip2LoRAClassifier(make_model(WIDTHS), **options)
    streamed.partial_fit(x[:40], y[:40]).partial_fit(x[40:], y[40:])
    balanced = compute_sample_weight("balanced", y)
    other = Skip2LoRAClassifier(make_model(WIDTHS), **QUICK | {"class_weight": None})
    other.partial_fit(x[:40], y[:40], sample_weight=compute_sample_weight("balanced", y[:40]))
    other._state.stream.weight[:] = balanced[:40]
    other.partial_fit(x[40:], y[40:], sample_weight=balanced[40:])
    np.testing.assert_allclose(
        streamed.predict_proba(x), other.predict_proba(x), rtol=1e-4, atol=1e-5
    )


def test_rare_classes_are_found(x, y) -> None:
    far = x + np.eye(3, 9)[y] * 1.5
    options = {"epochs": 30, "pretrain_epochs": 30}
    recall = [
        cross_validate(
            Skip2LoRAClassifier(class_weight=of, **options), far, y, cv=3,
            scoring="balanced_accuracy",
        )["test_score"].mean()
        for of in (None, "balanced")
    ]  # fmt: skip
    assert recall[1] > recall[0]


def test_in_a_pipeline(x, y, some) -> None:
    pipeline = make_pipeline(StandardScaler(), Skip2LoRAClassifier(**QUICK))
    pipeline.fit(x, y, skip2loraclassifier__sample_weight=some)
    assert len(pipeline[-1]._state.stream) == 57


def test_bad_weights_are_refused(model, x, y) -> None:
    for kind in (Skip2LoRAClassifier, Skip2LoRARegressor):
        new = kind(model, keep_outputs=kind is Skip2LoRAClassifier, **QUICK)
        for weights, message in (
            (np.ones(3), "sample_weight has shape"),
            (-np.ones(60), "sample_weight is -1 in row 0"),
            (np.zeros(60), "sample_weight is zero for all 60 samples"),
        ):
            with pytest.raises(DataError, match=message):
                new.fit(x, y, sample_weight=weights)
    with pytest.raises(ParameterError, match="names the class 'z', expected one of 0, 1, 2"):
        Skip2LoRAClassifier(model, class_weight={"z": 1}, **QUICK).fit(x, y)
    with pytest.raises(ParameterError, match="class_weight is set with task regression"):
        Skip2LoRARegressor(model, class_weight="balanced", **QUICK).fit(x, y)


def test_one_class_with_weight_is_told(x, y) -> None:
    with pytest.raises(DataError, match="got 1 class"):
        Skip2LoRAClassifier(**QUICK).fit(x, y, sample_weight=y == 1)


# --- who judges ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Skip2LoRAClassifier, Skip2LoRARegressor])
def test_groups_and_samples_that_judge_are_those_of_adapt(make_model: Any, x, y, kind: Any) -> None:
    """The same bits, and the same said of what was held out."""
    model, answers = make_model(WIDTHS), y if kind is Skip2LoRAClassifier else x[:, :3] * 4
    task = "classification" if kind is Skip2LoRAClassifier else "regression"
    who = np.array([f"p{row // 9}" for row in range(60)])
    beside = (x[:20] * 2, answers[:20])
    for judges in ({"groups": who}, {"validation_data": beside}):
        fitted = kind(model).fit(x, answers, **judges).adapted_
        adapted = s2.adapt(model, x, answers, task=task, **judges)
        assert fitted.history.held_out == adapted.history.held_out
        for name, array in fitted.adapters.tensors().items():
            assert array.tobytes() == adapted.adapters.tensors()[name].tobytes(), name
        plain = kind(model).fit(x, answers).adapted_.history.held_out
        assert fitted.history.held_out != plain
    assert fitted.history.n_forwards == 80


@pytest.mark.parametrize("kind", [Skip2LoRAClassifier, Skip2LoRARegressor])
def test_parts_keep_their_groups(make_model: Any, x, y, kind: Any) -> None:
    model, answers = make_model(WIDTHS), y if kind is Skip2LoRAClassifier else x[:, 0]
    options, given = {"keep_outputs": False}, {}
    if kind is Skip2LoRAClassifier:
        given["classes"] = [0, 1, 2]
    who = np.array([f"person {row // 9}" for row in range(60)])
    weight = np.where(np.arange(60) % 5, 1.0, 0.0)
    whole = kind(model, **options).fit(x, answers, weight, groups=who)
    parts = kind(model, **options)
    for at in (slice(0, 30), slice(30, 60)):
        parts.partial_fit(x[at], answers[at], sample_weight=weight[at], groups=who[at], **given)
    assert parts.adapted_.history.held_out == whole.adapted_.history.held_out
    few = kind(model, capacity=24, **options)
    few.fit(x, answers, groups=who).partial_fit(x[:6], answers[:6], groups=who[:6])
    stream = few._state.stream
    rows = {row.tobytes(): of for row, of in zip(model.check(x), who, strict=True)}
    width = stream.cache.format.tap_widths[0]
    assert len(stream.group) == 24
    assert [rows[row[:width].tobytes()] for row in stream.cache.rows] == stream.group.tolist()
    with pytest.raises(DataError, match="earlier samples have groups and these have none"):
        few.partial_fit(x, answers)


def test_groups_beside_old_samples(make_model: Any, x, y) -> None:
    model, who = make_model(WIDTHS), np.arange(60) // 9
    old = (x[:12] + 1, y[:12])
    fitted = Skip2LoRAClassifier(model, keep=old, solver="exact").fit(x, y, groups=who)
    adapted = s2.adapt(model, x, y, keep=old, solver="exact", groups=who)
    assert fitted.adapted_.history.held_out.n_folds == adapted.history.held_out.n_folds == 7
    told = [each.history.held_out.value for each in (fitted.adapted_, adapted)]
    assert told[0] == pytest.approx(told[1], abs=0.04)


def test_samples_that_judge_choose_the_epoch_by_steps(make_model: Any, x, y) -> None:
    options = {"epochs": 30, "learning_rate": 0.05, "patience": 3}
    fitted = Skip2LoRAClassifier(make_model(WIDTHS), **options)
    fitted.fit(x, y, validation_data=(x[::2] * -1, y[::2]))
    history = fitted.adapted_.history
    assert len(history.validation_loss) == len(history.loss) < 30
    fitted.partial_fit(x, y)  # they judge what comes later, too
    assert fitted.adapted_.history.validation_loss


@pytest.mark.parametrize(
    ("options", "judges", "said"),
    [
        ({}, {"groups": [0, 1]}, "groups has shape (2,), expected (60,)"),
        ({}, {"groups": ["one"] * 60}, 'groups has 1 group ("one"), expected at least 2'),
        ({"epochs": 3}, {"groups": [0, 1] * 30}, "nothing is held out by groups in training by"),
        ({}, {"validation_data": 3}, "validation_data is int, expected samples and labels"),
        (
            {},
            {"validation_data": ([[0.0] * 9], [7])},
            "validation_data has the label 7, expected those of",
        ),
        ({}, {"validation_data": ([[0.0] * 8], [1])}, "X has 8 features"),
        (
            {"validation": 0.2},
            {"groups": [0, 1] * 30},
            "groups= is set beside samples for validation",
        ),
        (
            {"validation": 0.2},
            {"validation_data": ([[0.0] * 9], [1])},
            "validation=0.2 is set beside validation_data=",
        ),
    ],
)
def test_judges_that_are_refused(
    make_model: Any, x, y, options: dict, judges: dict, said: str
) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        Skip2LoRAClassifier(make_model(WIDTHS), **options).fit(x, y, **judges)
    assert said in str(raised.value)


@pytest.mark.parametrize("chosen", [{"recipe": "auto"}, {"solver": "exact", "penalty": 0.01}])
@pytest.mark.parametrize("kind", [Skip2LoRAClassifier, Skip2LoRARegressor])
def test_samples_come_and_go_exactly(backbone: Any, make_samples: Any, chosen, kind) -> None:
    """Part after part, and back again, is a fit of what is left, of all at once."""
    x, y = make_samples(60, 9)
    answers = y if kind is Skip2LoRAClassifier else np.round(x[:, :3] * 4)
    weight = np.linspace(0.5, 2, 60)

    def fitted(*parts: slice | np.ndarray) -> Any:
        new = kind(backbone, keep_outputs=kind is not Skip2LoRAClassifier, **chosen)
        for part in parts:
            more = {"classes": [0, 1, 2]} if kind is Skip2LoRAClassifier else {}
            new.partial_fit(x[part], answers[part], sample_weight=weight[part], **more)
        return new

    def logits(of: Any) -> Any:
        return of.adapted_.logits(x)

    before = fitted(slice(0, 40))
    parts = fitted(slice(0, 40), slice(40, 47), slice(47, 60))
    np.testing.assert_allclose(logits(parts), logits(fitted(slice(0, 60))), rtol=1e-4, atol=1e-4)
    assert np.abs(logits(parts) - logits(before)).max() > 0.01
    np.testing.assert_allclose(
        logits(parts.forget(range(40, 60))), logits(before), rtol=1e-4, atol=1e-4
    )
    others = np.delete(np.arange(40), [3, 17, 4])
    np.testing.assert_allclose(
        logits(parts.forget([3, 17, 4])), logits(fitted(others)), rtol=1e-4, atol=1e-4
    )
    assert parts.adapted_.history.n_forwards == 0
    assert len(parts._state.stream) == 37
    again = pickle.loads(pickle.dumps(parts))  # noqa: S301 - ours
    for each in (again, parts):
        each.partial_fit(x[40:], answers[40:])
    np.testing.assert_array_equal(logits(again), logits(parts))


def test_a_class_comes_and_goes(backbone: Any, make_samples: Any) -> None:
    x, y = make_samples(60, 9)
    order = np.argsort(y == 2, kind="stable")
    x, y = x[order], np.array(["ant", "bee", "cat"])[y[order]]
    n_two = int((y != "cat").sum())
    new = Skip2LoRAClassifier(backbone, keep_outputs=False, class_weight="balanced")
    new.partial_fit(x[:n_two], y[:n_two], classes=["ant", "bee", "cat"])
    two = new.predict_proba(x)
    assert "cat" not in new.predict(x)
    new.partial_fit(x[n_two:], y[n_two:])
    assert new.score(x, y) > 0.9
    new.forget(np.arange(n_two, 60))
    np.testing.assert_allclose(new.predict_proba(x), two, atol=1e-4)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ([60], "which has the number 60, expected 0 to 59, as 60 samples are kept"),
        ([-1], "which has the number -1"),
        ([1, 1], "which has 2 numbers of 60 samples, expected different ones and not all"),
        (range(60), "which has 60 numbers of 60 samples"),
        ([0.5], "which has shape .* type float64, expected whole numbers"),
        (3, "which has shape .*, expected whole numbers"),
    ],
)
def test_samples_that_cannot_go(backbone: Any, x, y, which, message) -> None:
    fitted = Skip2LoRAClassifier(backbone, keep_outputs=False, solver="exact", penalty=0.01)
    columns = np.column_stack([x, x])[:, :9]
    with pytest.raises(DataError, match=message):
        fitted.fit(columns, y).forget(which)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "steps"}, "training by steps goes on from what it learned of them"),
        ({"solver": "exact", "capacity": 50}, "capacity is 50, so that chance says"),
    ],
)
def test_what_depends_on_more_than_samples_forgets_none(make_model, x, y, options, message):
    fitted = Skip2LoRAClassifier(make_model(WIDTHS), **options).fit(x, y)
    with pytest.raises(ParameterError, match=f"{message}.*pass the others to fit"):
        fitted.forget([0])


def test_nor_does_a_network_of_ones_own(x, y) -> None:
    options: dict[str, Any] = {"hidden": (4,), "pretrain_epochs": 2, "solver": "exact"}
    with pytest.raises(ParameterError, match="the network has learned from them, too"):
        Skip2LoRAClassifier(**options).fit(x, y).forget([0])


def test_samples_for_validation_that_do_not_fit(
    backbone: NumpyBackbone, x: np.ndarray, y: np.ndarray, refused: Any
) -> None:
    fit = Skip2LoRAClassifier(backbone, **QUICK).fit
    said = refused(DataError, fit, x, y, validation_data=(np.full((3, 9), 1e39), y[:3]))
    assert said.startswith("validation_data: ")
    regress = Skip2LoRARegressor(backbone, keep_outputs=False, **QUICK).fit
    for beside in ((x[:3], y[:3] * 1e39), (x[:3], np.c_[y, y][:3])):
        said = refused(DataError, regress, x, y * 1.0, validation_data=beside)
        assert said.startswith("validation_data: ")
    assert "too large for float32" in refused(DataError, regress, x, y * 1e39)


def test_numbers_of_one_group_so_far(
    backbone: NumpyBackbone, x: np.ndarray, y: np.ndarray, refused: Any
) -> None:
    """Others are to come in later parts, and none where all is there."""
    regress = Skip2LoRARegressor(backbone, keep_outputs=False)
    assert "group" in refused(DataError, regress.fit, x[:30], y[:30], groups=["p"] * 30)
    regress.partial_fit(x[:30], y[:30] * 1.0, groups=["p"] * 30)
    regress.partial_fit(x[30:], y[30:] * 1.0, groups=["q"] * 30)
    assert regress.predict(x).shape == (60,)
