"""The estimators do what scikit-learn asks of any, and compute each sample once."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install --group sklearn")

from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, make_friedman1
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.errors import DataError, DivergedError, ParameterError
from skip2lora.sklearn import Skip2LoRAClassifier, Skip2LoRARegressor

WIDTHS = [9, 16, 5, 3]
QUICK = {"epochs": 30, "learning_rate": 0.01}
BARE = {"keep_outputs": False, **QUICK}


#: As scikit-learn expects of its own estimators that learn by steps, such as SGDClassifier.
BY_STEPS = {
    "check_sample_weight_equivalence_on_dense_data": "repeated samples make other batches: with "
    "all samples in one batch it holds, tests/training/test_loop_weights.py"
}


@parametrize_with_checks(
    [
        Skip2LoRAClassifier(),
        Skip2LoRAClassifier(method="lora-last", hidden=(16,), capacity=60),
        Skip2LoRARegressor(),
        Skip2LoRARegressor(method="lora-last", optimizer="adamw", capacity=60),
    ],
    expected_failed_checks=lambda _: BY_STEPS,
)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def digits() -> Any:
    return train_test_split(*load_digits(return_X_y=True), test_size=0.4, random_state=0)


@pytest.fixture(scope="module")
def cancer() -> Any:
    return train_test_split(*load_breast_cancer(return_X_y=True), test_size=0.4, random_state=0)


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    return make_samples(60, 9)


def counting(**options: Any) -> NumpyBackbone:
    return NumpyBackbone(WIDTHS, first_tap_is_input=False, **options)


class Pictures(NumpyBackbone):
    """Takes (samples, 3, 3) and says so."""

    def __init__(self) -> None:
        super().__init__(WIDTHS, first_tap_is_input=False)

    def check(self, X: Any) -> np.ndarray:
        pictures = np.asarray(X, np.float32)
        if pictures.shape[1:] != (3, 3):
            raise DataError(f"got {pictures.shape[1:]}, expected (3, 3): pass pictures")
        return pictures

    def forward(self, x: np.ndarray) -> Any:
        return super().forward(x.reshape(len(x), -1))


def test_in_a_pipeline_and_a_search(cancer: Any) -> None:
    x, x_test, y, y_test = cancer
    pipeline = make_pipeline(StandardScaler(), Skip2LoRAClassifier(pretrain_epochs=20, **QUICK))
    search = GridSearchCV(pipeline, {"skip2loraclassifier__rank": [1, 2, 4]}, cv=3)
    assert search.fit(x, y).score(x_test, y_test) > 0.92
    best = search.best_estimator_[-1]
    assert best.adapted_.adapters.rank == best.rank
    assert cross_val_score(pipeline, x, y, cv=3, scoring="roc_auc").min() > 0.95


def test_a_search_in_other_processes(make_model: Any, samples: Any) -> None:
    model = make_model(WIDTHS)
    model.predict(samples[0])  # by now it has its network in the core, which is no file
    estimator = Skip2LoRAClassifier(model, **QUICK)
    grids = [
        GridSearchCV(estimator, {"rank": [1, 3]}, cv=2, n_jobs=n).fit(*samples) for n in (1, 2)
    ]
    scores = [grid.cv_results_["mean_test_score"].tolist() for grid in grids]
    assert scores[0] == scores[1]
    assert grids[0].best_estimator_.model is model  # clones share what is frozen


def test_pictures(samples: Any) -> None:
    """What is no table goes to the model's own check, also from a cross validation."""
    x, y = samples
    pictures = x.reshape(-1, 3, 3)
    estimator = Skip2LoRAClassifier(Pictures(), **BARE)
    assert cross_val_score(estimator, pictures, y, cv=3).mean() > 0.6
    fitted = estimator.fit(pictures, y)
    assert not hasattr(fitted, "n_features_in_")
    with pytest.raises(DataError, match="pass pictures"):
        fitted.predict(x)
    with pytest.raises(DataError, match="y has 59 samples, expected 60"):
        estimator.fit(pictures, y[:-1])
    numbers = Skip2LoRARegressor(Pictures(), **BARE).fit(pictures, x[:, 0])
    assert numbers.score(pictures, x[:, 0]) > 0.9


@pytest.mark.parametrize("kind", [Skip2LoRAClassifier, Skip2LoRARegressor])
@pytest.mark.parametrize("given", [True, False])
def test_pickles(kind: Any, given: bool, make_model: Any, samples: Any) -> None:
    x, y = samples
    model = make_model(WIDTHS) if given else None
    fitted = kind(model, keep_outputs=kind is Skip2LoRAClassifier, **QUICK).fit(x[:40], y[:40])
    again = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    assert again.predict(x).tobytes() == fitted.predict(x).tobytes()
    assert again.model_.fingerprint == fitted.model_.fingerprint
    for one in (fitted, again):
        one.partial_fit(x[40:], y[40:])
    assert again.adapted_.logits(x).tobytes() == fitted.adapted_.logits(x).tobytes()


def test_labels_of_any_type(samples: Any) -> None:
    x, y = samples
    plain = Skip2LoRAClassifier(pretrain_epochs=20, **QUICK).fit(x, y)
    for names in (np.array(["cat", "dog", "ox"]), np.array([-5, 3, 1000]), np.array([0.5, 1, 2])):
        if names.dtype.kind == "f":
            names = names * 2  # scikit-learn takes whole numbers for classes
        fitted = Skip2LoRAClassifier(pretrain_epochs=20, **QUICK).fit(x, names[y])
        assert fitted.classes_.tolist() == names.tolist()
        assert (fitted.predict(x) == names[plain.predict(x)]).all()
    assert plain.score(x, y) > 0.8


def test_labels_that_are_not_the_models_own(samples: Any) -> None:
    x, y = samples
    labels = np.where(y == 2, -7, y)
    fitted = Skip2LoRAClassifier(counting(), **QUICK).fit(x, labels)
    assert fitted.classes_.tolist() == [-7, 0, 1, 2]
    assert fitted.adapted_.new_labels == (-7,)
    assert fitted.score(x, labels) > 0.8
    proba = fitted.predict_proba(x)
    assert (fitted.classes_[proba.argmax(axis=1)] == fitted.predict(x)).all()
    assert (fitted.predict(x) == fitted.adapted_.predict(x)).all()


def test_names_of_the_model(make_model: Any, samples: Any) -> None:
    x, y = samples
    model = replace(make_model(WIDTHS), class_names=("wolf", "cat", "ox"))
    names = np.array(["cat", "ape", "wolf"], object)[y]
    fitted = Skip2LoRAClassifier(model, **QUICK).fit(x, names)
    assert fitted.classes_.tolist() == ["ape", "cat", "ox", "wolf"]
    assert fitted.score(x, names) > 0.8
    base = Skip2LoRAClassifier(model, epochs=1, learning_rate=1e-12).fit(x, names)
    logits = base.adapted_.logits(x)
    assert np.abs(logits[:, :3] - model.logits(x)).max() < 1e-4  # the order of the model
    with pytest.raises(DataError, match="labels such as 0, expected such as 'wolf'"):
        Skip2LoRAClassifier(model).fit(x, np.zeros(60, int))
    alone = Skip2LoRAClassifier(model, **BARE).fit(x, y)
    assert alone.classes_.tolist() == [0, 1, 2]
    assert alone.score(x, y) > 0.8


def test_each_sample_is_computed_once(samples: Any) -> None:
    x, y = samples
    backbone = counting()
    fitted = Skip2LoRAClassifier(backbone, **QUICK)
    for at, stop in ((0, 20), (20, 21), (21, 60)):
        fitted.partial_fit(x[at:stop], y[at:stop])
        assert backbone.n_forwards == stop
        assert fitted.adapted_.history.n_forwards == stop - at
    assert fitted.adapted_.history.n_batches == 30 * 3  # all 60 in every epoch


@pytest.mark.parametrize("data", ["digits", "cancer"])
def test_parts_reach_what_all_at_once_does(data: str, request: pytest.FixtureRequest) -> None:
    x, x_test, y, y_test = request.getfixturevalue(data)
    whole = Skip2LoRAClassifier().fit(x, y).score(x_test, y_test)
    parts, scores = Skip2LoRAClassifier(), []
    for at in range(0, len(x), 60):
        parts.partial_fit(x[at : at + 60], y[at : at + 60], classes=np.unique(y))
        scores.append(parts.score(x_test, y_test))
    assert whole > 0.93
    assert scores[-1] > whole - 0.05
    assert scores[-1] > scores[0]


def test_earlier_classes_are_not_forgotten(digits: Any) -> None:
    """Parts of one class each: what is kept of earlier ones keeps them known."""
    x, x_test, y, y_test = digits
    first = Skip2LoRAClassifier().fit(x[:100], y[:100])

    def in_order(**options: Any) -> float:
        estimator = Skip2LoRAClassifier(first.model_, **options)
        for label in range(10):
            estimator.partial_fit(x[y == label], y[y == label])
        return estimator.score(x_test, y_test)

    assert in_order() > 0.9
    assert in_order(capacity=300) > 0.8
    assert in_order(capacity=1) < 0.6


@pytest.mark.parametrize("capacity", [1, 25, 60, 100])
def test_capacity_limits_what_is_kept(samples: Any, capacity: int) -> None:
    x, y = samples
    estimator = Skip2LoRAClassifier(counting(), capacity=capacity, **QUICK)
    for at in range(0, 60, 20):
        estimator.partial_fit(x[at : at + 20], y[at : at + 20])
        n_kept = min(capacity, at + 20)
        assert estimator.adapted_.cache_bytes == n_kept * (8 + 16 + 5 + 3) * 4


def test_fit_begins_anew(samples: Any) -> None:
    x, y = samples
    once = Skip2LoRAClassifier(counting(), **QUICK).fit(x, y)
    twice = Skip2LoRAClassifier(counting(), **QUICK).partial_fit(x[:20], y[:20]).fit(x, y)
    assert once.adapted_.logits(x).tobytes() == twice.adapted_.logits(x).tobytes()
    alone = s2.adapt(counting(), x, y, optimizer="adam", standardize=True,
                     seed=np.random.RandomState(0).randint(2**31 - 1), **QUICK)  # fmt: skip
    assert once.adapted_.logits(x).tobytes() == alone.logits(x).tobytes()


def test_a_part_that_fails_changes_nothing(samples: Any) -> None:
    x, y = samples
    fitted = Skip2LoRAClassifier(counting(), **QUICK).partial_fit(x[:30], y[:30])
    before = fitted.adapted_.logits(x).tobytes()
    fitted.set_params(learning_rate=1e30, optimizer="sgd")
    with pytest.raises(DivergedError):
        fitted.partial_fit(x[30:], y[30:])
    assert fitted.adapted_.logits(x).tobytes() == before
    fitted.set_params(**QUICK, optimizer="adam").partial_fit(x[30:], y[30:])
    assert fitted.adapted_.cache_bytes == 60 * (8 + 16 + 5 + 3) * 4


def test_numbers() -> None:
    x, x_test, y, y_test = train_test_split(*load_diabetes(return_X_y=True), random_state=0)
    assert Skip2LoRARegressor().fit(x, y).score(x_test, y_test) > 0.2
    x, y = make_friedman1(600, noise=1, random_state=0)
    whole = Skip2LoRARegressor().fit(x[:400], y[:400]).score(x[400:], y[400:])
    random = Skip2LoRARegressor(pretrain_epochs=1).fit(x[:400], y[:400])
    assert whole > 0.75
    assert whole > random.score(x[400:], y[400:]) + 0.02  # the ranges taught the hidden layers
    parts = Skip2LoRARegressor()
    for at in range(0, 400, 100):
        parts.partial_fit(x[at : at + 100], y[at : at + 100])
    assert parts.score(x[400:], y[400:]) > whole - 0.15


def test_several_numbers(samples: Any) -> None:
    x, _ = samples
    y = np.stack([x[:, 0] * 1e4 + 1e6, x[:, 1] - x[:, 2]], axis=1)
    for model in (None, counting()):
        fitted = Skip2LoRARegressor(model, **BARE, random_state=1).fit(x, y)
        assert fitted.predict(x).shape == (60, 2)
        assert fitted.score(x, y) > 0.9


def test_the_models_numbers_are_the_start(samples: Any) -> None:
    x, _ = samples
    backbone = counting()
    base = backbone.forward(x).base_logits
    y = base + x[:, :1]
    few = {"epochs": 1, "learning_rate": 1e-12}
    kept = Skip2LoRARegressor(backbone, **few).fit(x, y)
    left = Skip2LoRARegressor(backbone, keep_outputs=False, **few).fit(x, y)
    np.testing.assert_allclose(kept.predict(x), base + (y - base).mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(left.predict(x), np.tile(y.mean(axis=0), (60, 1)), atol=1e-4)


def test_refused_labels(samples: Any) -> None:
    x, y = samples
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        Skip2LoRAClassifier().partial_fit(x, y)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        Skip2LoRAClassifier(counting(), keep_outputs=False).partial_fit(x, y)
    with pytest.raises(DataError, match=r"got 1 class \(1\), expected at least 2"):
        Skip2LoRAClassifier().fit(x, np.ones(60, int))
    fitted = Skip2LoRAClassifier(**QUICK).partial_fit(x[:9], y[:9] % 2, classes=[0, 1, 2])
    assert fitted.classes_.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`"):
        fitted.partial_fit(x, y + 1)
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        fitted.partial_fit(x, y, classes=[0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`"):
        Skip2LoRAClassifier(counting()).partial_fit(x, y + 1)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        Skip2LoRAClassifier(counting()).fit(x, x[:, 0])
    with pytest.raises(NotFittedError):
        Skip2LoRAClassifier(counting()).predict(x)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        Skip2LoRAClassifier().partial_fit(x[:1], y[:1], classes=[0, 1, 2])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "ft-all"}, "method is 'ft-all', expected one of skip2-lora, lora-last"),
        ({"capacity": 0}, "capacity is 0, expected a whole number from 1"),
        ({"rank": 0}, "rank is 0, expected a whole number from 1 to "),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 20, "validation": "much"}, "validation is 'much'"),
        ({"optimizer": "lion"}, "optimizer is 'lion'"),
    ],
)
def test_refused_parameters(samples: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Skip2LoRAClassifier(counting(), **options).fit(*samples)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hidden": (8, 0)}, r"width 0 at place 2 of \[9, 8, 0, 3\]"),
        ({"hidden": "wide"}, "expected whole numbers"),
        ({"pretrain_epochs": 0}, "pretrain_epochs is 0"),
        ({"model": "model.onnx"}, "model is str, expected a skip2lora.Backbone"),
    ],
)
def test_refused_models(samples: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Skip2LoRAClassifier(**options).fit(*samples)


def test_one_hidden_layer(samples: Any) -> None:
    assert Skip2LoRAClassifier(hidden=8, **QUICK).fit(*samples).model_.widths == (9, 8, 3)


def test_refused_changes(samples: Any) -> None:
    x, y = samples
    fitted = Skip2LoRAClassifier(counting(), rank=2, **QUICK).fit(x, y)
    with pytest.raises(ParameterError, match="rank is 3, the adapters so far have rank 2"):
        fitted.set_params(rank=3).partial_fit(x, y)
    with pytest.raises(ParameterError, match="y has 1 numbers a sample, the model 3 outputs"):
        Skip2LoRARegressor(counting()).fit(x, x[:, 0])
    numbers = Skip2LoRARegressor(**QUICK).fit(x, x[:, 0])
    with pytest.raises(DataError, match=r"y has shape \(60, 2\), expected \(60,\)"):
        numbers.partial_fit(x, x[:, :2])


def test_batches_may_be_larger_than_the_samples(samples: Any) -> None:
    x, y = samples
    options = {"batch_size": 50, "validation": 0.25, **QUICK}
    fitted = Skip2LoRAClassifier(counting(), **options).partial_fit(x[:20], y[:20])
    assert fitted.adapted_.history.n_batches == 30
    assert fitted.partial_fit(x[20:], y[20:]).adapted_.history.n_batches == 30


def test_what_was_learned_can_be_saved(samples: Any, tmp_path: Path) -> None:
    x, y = samples
    fitted = Skip2LoRAClassifier(counting(), **BARE).fit(x, y)
    fitted.adapted_.save(tmp_path / "adapter")
    for model in (counting(), fitted.model_):  # with its own outputs, and without
        loaded = s2.AdaptedModel.load(model, tmp_path / "adapter")
        assert (loaded.predict(x) == fitted.predict(x)).all()
    with pytest.raises(s2.ModelError, match="was made for the model"):
        s2.AdaptedModel.load(counting(seed=1), tmp_path / "adapter")


def test_without_scikit_learn() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import skip2lora.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "MissingExtraError" in done.stderr
    assert "pip install 'skip2lora[sklearn]'" in done.stderr


def test_better_than_a_linear_model_where_that_is_not_enough() -> None:
    """Rings: the network that is made on the first fit is no ornament."""
    random = np.random.default_rng(0)
    x = random.normal(size=(600, 2))
    y = (np.hypot(*x.T) > 1.2).astype(int)
    ours = cross_val_score(Skip2LoRAClassifier(), x, y, cv=3).mean()
    assert ours > 0.93
    assert ours > cross_val_score(LogisticRegression(), x, y, cv=3).mean() + 0.2


def test_features_that_hardly_move(samples: Any) -> None:
    """The last bit of a large feature does not decide, in the network nor in the adapters."""
    x, y = samples
    x = np.concatenate([x, 1e6 + 0.1 * x], axis=1, dtype=np.float32)
    fitted = Skip2LoRAClassifier(**QUICK).fit(x, y)
    logits, moved = (fitted.adapted_.logits(each) for each in (x, np.nextafter(x, -x)))
    assert np.abs(moved - logits).max() < 1e-4 * np.abs(logits).max()
    assert fitted.score(x, y) > 0.9


class ChecksAlone(NumpyBackbone):
    """A table is checked by the model itself, as of other runtimes."""

    def check(self, X: Any) -> np.ndarray:
        return np.asarray(X, np.float32)


@pytest.mark.parametrize("base", ["none", "table", "named", "check"])
def test_columns_are_matched_by_name(base: str, samples: Any, make_model: Any) -> None:
    """With those of the model, where it has some; in the order of the first fit, as elsewhere."""
    pyarrow = pytest.importorskip("pyarrow")  # scikit-learn looks for libraries it knows

    def frame(values: np.ndarray, names: str) -> Any:
        return pyarrow.table(dict(zip(names, np.ascontiguousarray(values.T), strict=True)))

    x, y = samples
    x, order = x[:, :4], [2, 0, 3, 1]
    model = None if base == "none" else make_model([4, 6, 3])
    if base == "named":
        model = s2.pretrain(model, frame(x, "abcd"), y, epochs=2)
    if base == "check":
        model = ChecksAlone([4, 6, 3], first_tap_is_input=True)
    moved = frame(x[:, order], "cadb")
    for kind, answers in ((Skip2LoRAClassifier, y), (Skip2LoRARegressor, x[:, 0])):
        keep = {} if kind is Skip2LoRAClassifier else {"keep_outputs": False}
        fitted = kind(model, **keep, **QUICK).fit(moved, answers)
        assert [*fitted.feature_names_in_] == ["c", "a", "d", "b"]
        learned = "abcd" if base == "named" else "cadb"
        assert fitted.adapted_.columns.features == tuple(learned)
        own = np.asarray(fitted.adapted_.logits(moved))
        np.testing.assert_array_equal(fitted.adapted_.logits(frame(x, "abcd")), own)
        if base == "named":
            np.testing.assert_array_equal(fitted.adapted_.logits(x), own)
        fitted.partial_fit(moved, answers)
        for call in (fitted.predict, lambda z, f=fitted, a=answers: f.partial_fit(z, a)):
            with pytest.raises(ValueError, match="same order"):
                call(frame(x, "abcd"))
        if base == "named":
            with pytest.raises(DataError, match='no column "d" but "e"'):
                kind(model, **keep, **QUICK).fit(frame(x, "abce"), answers)


# --- the exact solver ----------------------------------------------------------------------------


def test_the_exact_solver(make_samples: Any, make_model: Any) -> None:
    x, y = make_samples(60, 8)
    names = np.array(["ant", "bee", "cat"])[y]
    model = Skip2LoRAClassifier(make_model([8, 6, 3]), solver="exact", keep_outputs=False)
    model.fit(x, names)
    assert model.adapted_.history.solver == "exact"
    assert model.score(x, names) > 0.9
    same = Skip2LoRAClassifier(
        make_model([8, 6, 3]), solver="exact", keep_outputs=False, random_state=5
    )
    assert same.fit(x, names).predict_proba(x).tobytes() == model.predict_proba(x).tobytes()
    penalty = model.adapted_.history.penalty
    model.set_params(penalty=penalty).fit(x[:20], names[:20])
    model.partial_fit(x[20:], names[20:])  # from all rows that are kept
    np.testing.assert_allclose(model.predict_proba(x), same.predict_proba(x), atol=0.01)


@pytest.mark.parametrize("chosen", [{"solver": "exact"}, {"recipe": "auto"}])
@pytest.mark.parametrize("option", [{"epochs": 7}, {"batch_size": 5}, {"standardize": False}])
def test_what_takes_no_steps_refuses_their_options(
    make_samples: Any, make_model: Any, chosen: dict[str, Any], option: dict[str, Any]
) -> None:
    """As adapt does, and as far as they are not the defaults."""
    x, y = make_samples(60, 8)
    model = Skip2LoRAClassifier(make_model([8, 6, 3]), **chosen, **option)
    with pytest.raises(ParameterError, match=f"{next(iter(option))} is "):
        model.fit(x, y)


def test_nothing_set_is_auto_on_a_model(make_samples: Any, make_model: Any) -> None:
    x, y = make_samples(60, 8)
    model = make_model([8, 6, 3])
    for kind, answers in ((Skip2LoRAClassifier, y), (Skip2LoRARegressor, x[:, :3])):
        fitted = kind(model).fit(x, answers)
        assert fitted.adapted_.history.tried
        asked = kind(model, recipe="auto").fit(x, answers)
        assert fitted.predict(x).tobytes() == asked.predict(x).tobytes()
        earlier = kind(model, epochs=50, learning_rate=0.001, optimizer="adam", standardize=True)
        by_steps = kind(model, solver="steps").fit(x, answers)
        assert earlier.fit(x, answers).predict(x).tobytes() == by_steps.predict(x).tobytes()
        assert (by_steps.adapted_.history.tried, by_steps.adapted_.history.n_batches) == ((), 150)


def test_a_network_of_ones_own_has_seen_what_is_held_out(make_samples: Any) -> None:
    """So it is trained by steps, and auto is refused."""
    x, y = make_samples(60, 8)
    options: dict[str, Any] = {"hidden": (4,), "pretrain_epochs": 2}
    for kind in (Skip2LoRAClassifier, Skip2LoRARegressor):
        history = kind(**options).fit(x, y).adapted_.history
        assert (history.tried, history.held_out, len(history.loss)) == ((), None, 50)
        with pytest.raises(ParameterError, match="recipe is auto without a model"):
            kind(**options, recipe="auto").fit(x, y)
        exact = kind(**options, solver="exact").fit(x, y).adapted_.history
        assert exact.penalty is not None
        assert exact.held_out is None


@pytest.mark.parametrize("chosen", [{}, {"solver": "exact", "penalty": 0.01}], ids=str)
@pytest.mark.parametrize("keep_outputs", [True, False])
def test_a_stream_may_begin_with_one_class(
    make_samples: Any, make_model: Any, chosen: dict[str, Any], keep_outputs: bool
) -> None:
    x, y = make_samples(60, 8)
    model, first = make_model([8, 6, 3]), y == 1
    stream = Skip2LoRAClassifier(model, keep_outputs=keep_outputs, **chosen)
    for _ in range(2):
        stream.partial_fit(x[first], y[first], classes=[0, 1, 2])
        assert (stream.predict(x[first]) == 1).mean() > 0.9
    stream.partial_fit(x[~first], y[~first])
    assert stream.score(x, y) > 0.8
    with pytest.raises(DataError, match="one class alone" if keep_outputs else "got 1 class"):
        Skip2LoRAClassifier(model, keep_outputs=keep_outputs, **chosen).fit(x[first], y[first])


def test_the_exact_solver_of_numbers(make_samples: Any, make_model: Any) -> None:
    x, _ = make_samples(60, 8)
    y = x[:, 0] * 40 - 5000
    model = Skip2LoRARegressor(make_model([8, 6, 3]), solver="exact", keep_outputs=False)
    assert model.fit(x[:50], y[:50]).score(x[50:], y[50:]) > 0.95


def test_names_that_are_numbers_in_another_order() -> None:
    """As text they are sorted "10", "2": places are not taken for them."""
    random = np.random.default_rng(0)
    places = random.integers(0, 3, 90)
    x = (3 * np.eye(3, 5)[places] + random.normal(size=(90, 5)) / 9).astype(np.float32)
    labels = np.array(["10", "2", "1"])[places]
    estimator = Skip2LoRAClassifier(hidden=(8,), capacity=90).fit(x, labels)
    assert estimator.score(x, labels) > 0.9
    model = s2.MLP.create([5, 8, 3], class_names=["10", "2", "1"])
    model = s2.pretrain(model, x, places, epochs=300)
    adapted = s2.adapt(model, x, labels.astype(int), epochs=2)
    assert adapted.score(x, labels.astype(int)) == adapted.score(x, labels) > 0.9
