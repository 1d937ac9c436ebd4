"""``adapt`` with weights of samples and classes, as its users pass them."""

from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.backbones.mlp import MLP
from skip2lora.errors import DataError, ParameterError
from skip2lora.methods import METHODS
from skip2lora.tasks.labels import encode
from skip2lora.tasks.task import TASKS, Outputs
from skip2lora.training.pretraining import pretrain

NAMES = ("normal", "damaged", "blocked")
WIDTHS = (6, 12, 8, 3)
N_SAMPLES = 45


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(N_SAMPLES, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def y() -> np.ndarray:
    return np.repeat([0, 1, 2], [30, 10, 5])[np.random.default_rng(2).permutation(N_SAMPLES)]


@pytest.fixture(scope="module")
def model(x: np.ndarray, y: np.ndarray) -> MLP:
    return pretrain(MLP.create(WIDTHS, class_names=NAMES), x[::2], y[::2], epochs=3)


@pytest.fixture(scope="module")
def some() -> np.ndarray:
    """Weights of which some are 0; of few digits, so that products are exact."""
    weights = np.random.default_rng(3).integers(1, 32, N_SAMPLES) / 8
    weights[[0, 7, 20, 44]] = 0
    return weights


def same(one: s2.AdaptedModel, two: s2.AdaptedModel) -> bool:
    a, b = one.adapters.tensors(), two.adapters.tensors()
    return list(a) == list(b) and all(a[name].tobytes() == b[name].tobytes() for name in a)


def adapted(model: MLP, x: Any, y: Any, **options: Any) -> s2.AdaptedModel:
    return s2.adapt(model, x, y, **{"epochs": 4, "learning_rate": 0.02} | options)


@pytest.mark.parametrize("validation", [0.0, 0.2], ids=["", "validated"])
@pytest.mark.parametrize("method", METHODS)
def test_a_weight_of_0_changes_nothing(model, x, y, some, method: str, validation: float) -> None:
    options = {"method": method, "validation": validation}
    stay = some > 0
    with_all = adapted(model, x, y, sample_weight=some, **options)
    without = adapted(model, x[stay], y[stay], sample_weight=some[stay], **options)
    assert same(with_all, without)
    assert with_all.history == without.history
    assert not same(with_all, adapted(model, x, y, **options))


@pytest.mark.parametrize("standardize", [True, False], ids=["standardized", ""])
@pytest.mark.parametrize("task", TASKS)
def test_nor_for_another_task(model, x, y, some, task: str, standardize: bool) -> None:
    answers = {"classification": y, "multi-label": x[:, :3] > 0, "regression": x[:, 3:] * 7}[task]
    options = {"task": task, "standardize": standardize, "learning_rate": 1e-3}
    stay = some > 0
    with_all = adapted(model, x, answers.tolist(), sample_weight=some.tolist(), **options)
    without = adapted(model, x[stay], answers[stay], sample_weight=some[stay], **options)
    assert same(with_all, without)


def test_a_class_without_weight_is_no_output(model, x, y, some) -> None:
    labels = np.where(some > 0, np.array(NAMES)[y], "dust")
    for options in ({"new_classes": True}, {"keep_outputs": False}):
        result = adapted(model, x, labels, sample_weight=some, **options)
        assert sorted(result.class_names) == sorted(NAMES)
    encoded = encode(TASKS["classification"], y, N_SAMPLES, Outputs(range(3), NAMES))
    one, two = (adapted(model, x, labels, sample_weight=some) for labels in (encoded, y))
    assert same(one, two)


def test_one_class_alone_is_told(model, x, y) -> None:
    with pytest.raises(DataError, match="y has the label 0 alone"):
        adapted(model, x, y, keep_outputs=False, sample_weight=y == 0)


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_classes_are_those_of_their_samples(model, x, y, method: str) -> None:
    balanced = adapted(model, x, y, class_weight="balanced", method=method)
    own = N_SAMPLES / (3 * np.bincount(y))[y]
    assert same(balanced, adapted(model, x, y, sample_weight=own * 17, method=method))
    named = {"normal": 0.5, "damaged": 1.5, "blocked": 3}  # 45 / (3 * 30), ...
    assert same(balanced, adapted(model, x, y, class_weight=named, method=method))
    assert not same(balanced, adapted(model, x, y, method=method))


def test_both_are_multiplied(model, x, y, some) -> None:
    both = adapted(model, x, y, sample_weight=some, class_weight={"blocked": 4})
    assert same(both, adapted(model, x, y, sample_weight=some * np.where(y == 2, 4, 1)))


def test_a_class_of_weight_0_is_left_out(model, x, y) -> None:
    none = adapted(model, x, y, class_weight={"blocked": 0}, new_classes=True)
    assert none.class_names == NAMES
    assert none.fit.n_measured == 40
    with pytest.warns(s2.errors.ForgettingWarning):
        assert same(none, adapted(model, x[y != 2], y[y != 2]))


def test_it_learns_rare_classes(x, y) -> None:
    """Of classes that overlap, weights find the rare ones; what is balanced, on average all."""
    far = x + np.eye(3, 6)[y].astype(np.float32)
    model = pretrain(MLP.create(WIDTHS), far, y, epochs=1, seed=1)
    plain, balanced = (
        adapted(model, far, y, epochs=60, class_weight=of).fit.after.parts
        for of in (None, "balanced")
    )
    recall = [np.mean([part["accuracy"] for part in parts]) for parts in (plain, balanced)]
    assert recall[1] > recall[0] + 0.1


def test_the_loss_is_pytorchs(model, x, y) -> None:
    """Which divides by the weights of the batch: with all samples in it, as here."""
    torch = pytest.importorskip("torch")
    reports: list[tuple[float, Any]] = []
    weights = (1.0, 2.0, 5.0)
    done = s2.adapt(
        model, x, y, method="lora-last", epochs=6, learning_rate=0.3, batch_size=N_SAMPLES,
        class_weight=dict(enumerate(weights)),
        callback=lambda report: reports.append((report.loss, report.result())),
    )  # fmt: skip
    given = model.forward(x)
    tap, base = torch.tensor(given.taps[-1].copy()), torch.tensor(given.base_logits.copy())
    start = reports[0][1]
    a, b = (torch.tensor(of[-1].copy(), requires_grad=True) for of in (start.lora_a, start.lora_b))
    loss_of = torch.nn.CrossEntropyLoss(weight=torch.tensor(weights))
    optimizer = torch.optim.SGD([a, b], lr=0.3)
    for loss, _ in reports[1:]:
        optimizer.zero_grad()
        value = loss_of(base + tap @ a @ b, torch.tensor(y))
        assert loss == pytest.approx(value.item(), rel=1e-5)
        value.backward()
        optimizer.step()
    np.testing.assert_allclose(done.adapters.lora_b[-1], b.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_pretraining_weighs_too(x, y, some) -> None:
    model, stay = MLP.create(WIDTHS, class_names=NAMES), some > 0
    given = {"epochs": 3, "class_weight": {"damaged": 3}}
    weighted = pretrain(model, x, y, sample_weight=some, **given)
    without = pretrain(model, x[stay], y[stay], sample_weight=some[stay], **given)
    assert weighted.fingerprint == without.fingerprint
    assert weighted.fingerprint != pretrain(model, x, y, **given).fingerprint
    own = some * np.where(y == 1, 3, 1)
    assert weighted.fingerprint == pretrain(model, x, y, sample_weight=own, epochs=3).fingerprint


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_pretraining_scales_features_as_they_are_weighted(x, y, task: str) -> None:
    """Without batch norm, all samples in a batch: a sample of weight 2 is there twice."""
    model = MLP.create(WIDTHS, batch_norm=False, task=task)
    times = np.arange(N_SAMPLES) % 3 + 1
    answers = y if task == "classification" else x[:, :3] * 100 + 7
    some, twice = x * 3 + 5, np.repeat(np.arange(N_SAMPLES), times)
    given = {"epochs": 3, "learning_rate": 0.05}
    one = pretrain(model, some, answers, sample_weight=times, batch_size=N_SAMPLES, **given)
    two = pretrain(model, some[twice], answers[twice], batch_size=len(twice), **given)
    np.testing.assert_allclose(one.logits(some), two.logits(some), rtol=1e-4, atol=1e-4)
    plain = pretrain(model, some, answers, batch_size=N_SAMPLES, **given)
    assert np.abs(plain.logits(some) - two.logits(some)).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_weight": np.ones(3)}, r"sample_weight has shape \(3,\), expected \(45,\)"),
        ({"sample_weight": np.zeros(45)}, "sample_weight is zero for all 45 samples"),
        ({"class_weight": {"dust": 1}}, "names the class 'dust', expected one of normal, damaged"),
    ],
    ids=str,
)
def test_bad_weights_are_refused(model, x, y, options: Any, message: str) -> None:
    for call in (adapted, pretrain):
        with pytest.raises((DataError, ParameterError), match=message):
            call(model, x, y, **options)


def test_regression_has_no_classes(model, x) -> None:
    for call in (adapted, pretrain):
        with pytest.raises(ParameterError, match="class_weight is set with task regression"):
            call(model, x, x[:, :3], task="regression", class_weight="balanced")


@pytest.mark.parametrize("task", TASKS)
def test_a_weight_of_2_is_the_sample_twice_when_solved_exactly(model, x, y, task: str) -> None:
    answers = {"classification": y, "multi-label": x[:, :3] > 0, "regression": x[:, 3:] * 7}[task]
    times = np.arange(N_SAMPLES) % 3
    twice = np.repeat(np.arange(N_SAMPLES), times)
    options = {"solver": "exact", "penalty": 1e-3, "task": task}
    one = s2.adapt(model, x, answers, sample_weight=times, **options).logits(x)
    two = s2.adapt(model, x[twice], answers[twice], **options).logits(x)
    # Each is within 1e-4 of the least objective.
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3 * np.abs(two).max())
    plain = s2.adapt(model, x, answers, **options).logits(x)
    assert np.abs(one - plain).max() > 1e-2 * np.abs(two).max()


def test_weights_of_classes_count_when_solved_exactly(model, x, y, some) -> None:
    options = {"solver": "exact", "penalty": 1e-2}
    one = s2.adapt(model, x, y, class_weight={2: 4}, sample_weight=some, **options)
    two = s2.adapt(model, x, y, sample_weight=some * np.where(y == 2, 4, 1), **options)
    assert same(one, two)
    recall = s2.adapt(model, x, y, class_weight="balanced", **options).fit.after.parts
    plain = s2.adapt(model, x, y, **options).fit.after.parts
    assert recall[2]["accuracy"] > plain[2]["accuracy"]


def test_weights_need_no_whole_cache(model, x, y, some) -> None:
    """Rows that are computed anew each epoch have the weights of their samples."""
    options = {"standardize": True, "sample_weight": some}
    assert same(adapted(model, x, y, **options), adapted(model, x, y, cache=False, **options))


@pytest.mark.parametrize(
    ("options", "least"),
    [({"epochs": 3}, 1e-4), ({"recipe": "auto"}, 0.02), ({"method": "ft-last"}, 1e-4)],
)
def test_samples_for_validation_have_weights_too(model, x, y, options: dict, least: float) -> None:
    """A whole weight is so many times the sample, in the loss that judges.

    How much auto trusts the mix that they choose goes by their number, whatever the weights.
    """
    weight = np.arange(30) % 3
    given, repeated = (x[:30], y[:30], weight), np.repeat(np.arange(30), weight)
    one = s2.adapt(model, x[30:], y[30:], validation_data=given, **options)
    other = s2.adapt(model, x[30:], y[30:], validation_data=(x[repeated], y[repeated]), **options)
    assert one.history.validation_loss == pytest.approx(other.history.validation_loss, rel=least)
    plain = s2.adapt(model, x[30:], y[30:], validation_data=(x[:30], y[:30]), **options)
    assert one.history.validation_loss != pytest.approx(
        plain.history.validation_loss, rel=2 * least
    )
    with pytest.raises(DataError, match="validation_data: sample_weight has shape"):
        s2.adapt(model, x[30:], y[30:], validation_data=(x[:30], y[:30], [1]), **options)
