"""The recipe auto: what is tried, mixed and held out, and what it leaves to nobody to set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import oracle_exact
import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.recipe import ANY_MODEL
from skip2lora.errors import DataError, ForgettingWarning, ParameterError
from skip2lora.tasks.evaluation import wilson_interval
from skip2lora.tasks.task import TASKS, Task, measure, sample_losses
from skip2lora.training import auto
from skip2lora.training.auto import Tried
from skip2lora.training.folds import block_folds, folds_for
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.options import Options, resolve_options
from skip2lora.training.skip_job import Scaling

WIDTHS = [9, 16, 5, 3]
LAST, RIDGE, ALL = "last tap", "all taps, ridge", "all taps"
HALF = "all taps beside half the model's own logits"
Refused = Callable[..., str]


@pytest.fixture
def backbone() -> NumpyBackbone:
    return NumpyBackbone(WIDTHS, first_tap_is_input=True)


def drifted(backbone: NumpyBackbone, n_samples: int, *, seed: int = 0) -> tuple[Any, Any]:
    """Samples of which the model is right of some, and more is to be learned of its inputs."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n_samples, 9)).astype(np.float32)
    noise = random.normal(size=(n_samples, 3))
    scores = 3 * backbone.forward(x).base_logits + 2 * x[:, :3] + noise
    return x, scores.argmax(axis=1).astype(np.int32)


def columns(backbone: NumpyBackbone, x: np.ndarray, taps: slice) -> tuple[Any, Any]:
    """Columns z as the solver defines them, in float64, and the base logits."""
    rows_of = RowFormat.of(backbone, copy_input=True)
    rows = rows_of.empty(len(x))
    rows_of.compute(backbone, x, rows)
    scaling = Scaling.of(rows_of, [rows])
    scaled = (rows.astype(np.float64) - scaling.mean) * scaling.scale
    places = list(zip(rows_of.layout.tap_offsets, rows_of.tap_widths, strict=True))[taps]
    z = np.concatenate([scaled[:, at : at + width] for at, width in places], axis=1)
    first = rows_of.layout.logits_offset
    return z / np.sqrt((z**2).sum(axis=1).mean()), rows[:, first : first + 3]


def options_of(backbone: NumpyBackbone, n_samples: int) -> Options:
    return resolve_options(ANY_MODEL, backbone.tap_widths, n_samples, recipe="auto")


def solved(
    backbone: NumpyBackbone, x: np.ndarray, y: np.ndarray, of: Tried, rows: np.ndarray
) -> np.ndarray:
    """Logits of a candidate for all samples, by the oracle, from ``rows`` of them."""
    z, base = columns(backbone, x, slice(-1, None) if of.name == LAST else slice(None))
    loss = "squared" if of.name == RIDGE else "softmax"
    offsets = (0.5 if of.name == HALF else 0) * base
    targets = np.eye(3)[y] - (0.5 if of.name == RIDGE else 0)
    weight = np.full(rows.sum(), 1 / rows.sum())
    w, b, _ = oracle_exact.solve(loss, z[rows], targets[rows], weight, of.penalty, offsets[rows])
    return offsets + z @ w + b


def factor_of(backbone: NumpyBackbone, x: np.ndarray, y: np.ndarray, of: Tried) -> float:
    """What makes logits of scores: by held-out loss, for those of least squares."""
    if of.name != RIDGE:
        return 1.0
    folds, scores = block_folds(y, n_folds=folds_for(len(y))), np.zeros((len(y), 3))
    for fold in range(folds.count):
        at = folds.of == fold
        scores[at] = solved(backbone, x, y, of, ~at)[at]
    return float(
        minimize_scalar(
            lambda by: sample_losses(TASKS["classification"], by * scores, y).mean(),
            bounds=(0, 100), method="bounded",
        ).x
    )  # fmt: skip


def test_the_result_is_the_mix_of_the_oracles_solutions(backbone: NumpyBackbone) -> None:
    x, y = drifted(backbone, 60, seed=2)
    adapted = s2.adapt(backbone, x, y, recipe="auto")
    tried = adapted.history.tried
    assert [each.name for each in tried] == [LAST, RIDGE, HALF]
    assert sum(each.weight for each in tried) == pytest.approx(1)
    assert sum(each.weight > 0.05 for each in tried) > 1  # else the sum below is none
    mix = np.zeros((60, 3))
    for each in tried:
        factor = factor_of(backbone, x, y, each)
        mix += each.weight * factor * solved(backbone, x, y, each, np.ones(60, bool))
    np.testing.assert_allclose(adapted.logits(x), mix, atol=0.03 * np.abs(mix).max())


def test_few_columns_of_the_last_tap_are_the_coordinates(backbone: NumpyBackbone) -> None:
    """The same solution either way, from 8 samples a column on by the quicker one."""
    logits = []
    for n_samples, few in ((39, False), (40, True)):
        part = CheckedSamples(*drifted(backbone, n_samples))
        job = auto.AutoJob(backbone, part, options_of(backbone, n_samples))
        list(job.candidates())
        assert [of.solution.design.gram is None for of in job.points] == [few, False, False]
    x, y = drifted(backbone, 60, seed=1)
    for from_here in (8, 100):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(auto, "_NARROW", from_here)
            logits.append(s2.adapt(backbone, x, y, recipe="auto").logits(x))
    np.testing.assert_allclose(*logits, atol=0.02 * np.abs(logits[0]).max())


def test_what_is_held_out_was_not_trained_on(backbone: NumpyBackbone) -> None:
    """Labels by chance are learned, and not foretold."""
    x, _ = drifted(backbone, 120)
    y = np.random.default_rng(5).integers(0, 3, 120).astype(np.int32)
    adapted = s2.adapt(backbone, x, y, recipe="auto")
    held_out = adapted.history.held_out
    assert (held_out.measure, held_out.n_folds, held_out.n_samples) == ("accuracy", 8, 120)
    assert held_out.value < 0.5
    assert (held_out.low, held_out.high) == wilson_interval(round(120 * held_out.value), 120)
    assert adapted.fit.held_out
    assert adapted.fit.after.overall["accuracy"] == pytest.approx(held_out.value)
    assert adapted.fit.before.overall["accuracy"] == pytest.approx(
        float((backbone.forward(x).base_logits.argmax(axis=1) == y).mean())
    )
    assert adapted.fit.on_all.overall["accuracy"] == adapted.score(x, y)


def test_held_out_answers_are_those_of_another_run_without_the_fold(
    backbone: NumpyBackbone,
) -> None:
    """One fold apart, at the penalties and the mix of the whole: few answers depend on these."""
    x, y = drifted(backbone, 80)
    whole = s2.adapt(backbone, x, y, recipe="auto")
    right = 0
    folds = block_folds(y, n_folds=folds_for(len(y)))
    for fold in range(folds.count):
        logits = np.zeros((80, 3))
        for each in whole.history.tried:
            factor = factor_of(backbone, x, y, each)
            logits += each.weight * factor * solved(backbone, x, y, each, folds.trained(fold))
        right += int((logits.argmax(axis=1) == y)[folds.of == fold].sum())
    assert whole.history.held_out.value == pytest.approx(right / 80, abs=2.5 / 80)


def test_no_sample_chooses_its_own_answer(
    backbone: NumpyBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Penalties and the mix are chosen once more for each fold, without it."""
    x, y = drifted(backbone, 80)
    seen: list[int] = []

    def stack(task: Task, logits: np.ndarray, answers: np.ndarray, weight: Any) -> np.ndarray:
        seen.append(len(answers))
        return np.eye(len(logits))[len(seen) % len(logits)]

    monkeypatch.setattr(auto, "stack_weights", stack)
    monkeypatch.setattr(auto, "_EQUAL", 0)
    job = auto.AutoJob(backbone, CheckedSamples(x, y), options_of(backbone, 80))
    list(job.candidates())
    folds = block_folds(y, n_folds=folds_for(len(y)))
    assert seen == [80, *(80 - np.bincount(folds.of)).tolist()]
    assert [of.weight for of in job.tried] == [0, 1, 0]
    answered = job.held_out_logits()
    for fold in range(folds.count):
        rest, at = folds.of != fold, folds.of == fold
        of = job.judged_candidates[(fold + 2) % 3]
        losses = np.nanmean(np.where(rest, of.losses, np.nan), axis=1)
        np.testing.assert_array_equal(answered[at], of.held_out[losses.argmin()][at])


def test_it_is_kept_and_read_again(backbone: NumpyBackbone, tmp_path: Path) -> None:
    x, y = drifted(backbone, 60)
    adapted = s2.adapt(backbone, x, y, recipe="auto")
    adapted.save(tmp_path / "a")
    s2.adapt(backbone, x, y, recipe="auto").save(tmp_path / "b")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    again = s2.AdaptedModel.load(NumpyBackbone(WIDTHS, first_tap_is_input=True), tmp_path / "a")
    np.testing.assert_array_equal(again.logits(x), adapted.logits(x))
    assert len(adapted.adapters.lora_a) == 4  # the logits are a tap: they count less


class Logits(NumpyBackbone):
    """A model whose outputs are said to be for several labels at once."""

    task = "multi-label"


@pytest.mark.parametrize(
    ("n_outputs", "task"), [(1, "classification"), (3, "multi-label"), (3, "regression")]
)
def test_logits_that_count_less_are_kept_of_every_kind_of_output(
    n_outputs: int, task: str, tmp_path: Path
) -> None:
    """One logit for two classes, and outputs that learn another task than they are for."""
    backbone = Logits([9, 16, n_outputs], first_tap_is_input=True)
    x = np.random.default_rng(0).normal(size=(80, 9)).astype(np.float32)
    logits = backbone.forward(x).base_logits
    y: Any = 3 * logits + 2 * x[:, :n_outputs]
    if task == "regression":  # what half the logits explain, and nothing else does as well
        y = 0.5 * logits + 0.1 * np.random.default_rng(1).normal(size=logits.shape)
    else:
        y = (y > 0).astype(np.float32)
    y = y[:, 0].astype(int) if n_outputs == 1 else y
    adapted = s2.adapt(backbone, x, y, recipe="auto", task=task)
    assert [len(a) for a in adapted.adapters.lora_a] == [n_outputs, 9, 16]
    adapted.save(tmp_path / "a")
    again = s2.AdaptedModel.load(backbone, tmp_path / "a")
    np.testing.assert_array_equal(again.logits(x), adapted.logits(x))
    names = ["0", "1", "2"][: adapted.n_outputs]
    expected = measure(
        TASKS[task], again.logits(x), y.astype(np.int32 if y.ndim == 1 else "f"), names
    )
    assert adapted.fit.on_all.overall == pytest.approx(expected.overall, abs=1e-5)


def test_outputs_may_be_more_than_the_widest_tap_is_wide() -> None:
    narrow = NumpyBackbone((5, 4, 6), first_tap_is_input=True)
    random = np.random.default_rng(0)
    x = random.normal(size=(120, 5)).astype(np.float32)
    y = narrow.forward(x).base_logits.argmax(axis=1)
    y[::7] = random.integers(0, 6, len(y[::7]))
    adapted = s2.adapt(narrow, x, y)
    assert adapted.adapters.rank == len(np.unique(y))
    assert adapted.fit.on_all.overall["accuracy"] == pytest.approx(adapted.score(x, y), abs=1e-6)


def test_every_sample_passes_the_model_once(backbone: NumpyBackbone) -> None:
    x, y = drifted(backbone, 60)
    backbone.batches.clear()
    assert s2.adapt(backbone, x, y, recipe="auto").history.n_forwards == 60
    assert backbone.n_forwards == 60


def test_iterations_are_those_of_folds_and_of_the_final_fits(backbone: NumpyBackbone) -> None:
    x, y = drifted(backbone, 60)
    options = resolve_options(ANY_MODEL, backbone.tap_widths, 60, recipe="auto")
    job = auto.AutoJob(backbone, CheckedSamples(x, y), options)
    ended = [point.iterations for _, point in job.candidates()]
    folds = [each.iterations for each in job.judged_candidates]
    assert min(*ended, *folds) >= 0
    assert job.iterations == sum(ended) + sum(folds) > max(*ended, *folds)


def test_new_classes_have_no_logits_to_count(backbone: NumpyBackbone) -> None:
    x, y = drifted(backbone, 60)
    adapted = s2.adapt(backbone, x, y, recipe="auto", keep_outputs=False)
    assert [each.name for each in adapted.history.tried] == [LAST, RIDGE, ALL]
    assert adapted.n_outputs == 3
    assert adapted.score(x, y) > 0.8
    more = s2.adapt(backbone, x, np.where(y == 2, 3, y), recipe="auto", new_classes=True)
    assert more.n_outputs == 4
    assert more.score(x, np.where(y == 2, 3, y)) > 0.8


def test_one_tap_is_tried_once() -> None:
    backbone = NumpyBackbone([9, 3], first_tap_is_input=True)
    x, y = drifted(backbone, 60)
    tried = s2.adapt(backbone, x, y, recipe="auto").history.tried
    assert [each.name for each in tried] == [RIDGE, HALF]


@pytest.mark.parametrize("keep_outputs", [True, False])
def test_numbers(backbone: NumpyBackbone, keep_outputs: bool) -> None:
    """Of very different units, which count alike."""
    x, _ = drifted(backbone, 80)
    y = (backbone.forward(x).base_logits + x[:, :3]) * np.float32([1, 1000, 0.001]) + 5
    adapted = s2.adapt(backbone, x, y, task="regression", recipe="auto", keep_outputs=keep_outputs)
    own = ["all taps beside the model's own outputs"] if keep_outputs else []
    assert [each.name for each in adapted.history.tried] == [LAST, ALL, *own]
    assert adapted.history.held_out.measure == "r2"
    assert adapted.history.held_out.value > 0.99
    np.testing.assert_allclose((adapted.predict(x) - y).std(axis=0) / y.std(axis=0), 0, atol=0.05)


def test_the_mix_is_the_same_in_other_units(backbone: NumpyBackbone) -> None:
    x, _ = drifted(backbone, 80)
    noise = np.random.default_rng(0).normal(size=(80, 3)) * [0.5, 3, 1]
    y = 2 * backbone.forward(x).base_logits + x[:, :3] + noise
    plain, scaled = (
        s2.adapt(backbone, x, y * units, task="regression", recipe="auto", keep_outputs=False)
        for units in (np.ones(3), np.array([1, 1000, 0.001]))
    )
    for one, other in zip(plain.history.tried, scaled.history.tried, strict=True):
        assert one.penalty == other.penalty
        assert one.weight == pytest.approx(other.weight, abs=0.01)
    assert 0.02 < plain.history.tried[0].weight < 0.98  # else this shows nothing


@pytest.mark.parametrize("same", [0.1, 1e6])
def test_a_number_that_is_the_same_everywhere_does_not_decide(
    backbone: NumpyBackbone, same: float
) -> None:
    x, _ = drifted(backbone, 80)
    y = x[:, :2].copy()
    alone, both = (
        s2.adapt(backbone, x, of, task="regression", recipe="auto", keep_outputs=False)
        for of in (y, np.c_[y, np.full(80, same, np.float32)])
    )
    for one, other in zip(alone.history.tried, both.history.tried, strict=True):
        assert one.weight == pytest.approx(other.weight, abs=0.01)
    np.testing.assert_allclose(both.predict(x)[:, 2], same, rtol=1e-6)


def test_few_samples_leave_weights_near_equal_ones_of_all_taps(
    backbone: NumpyBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As 40 samples more would, which say that both candidates of all taps count alike."""
    monkeypatch.setattr(auto, "stack_weights", lambda *_: np.array([0.1, 0.2, 0.7]))
    for n_samples in (20, 60):
        x, y = drifted(backbone, n_samples)
        weights = [each.weight for each in s2.adapt(backbone, x, y, recipe="auto").history.tried]
        expected = (n_samples * np.array([0.1, 0.2, 0.7]) + [0, 20, 20]) / (n_samples + 40)
        assert weights == pytest.approx(expected)


def test_what_hardly_counts_is_left_out(
    backbone: NumpyBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _ = drifted(backbone, 60)
    monkeypatch.setattr(auto, "stack_weights", lambda *_: np.array([0.009, 0.2, 0.791]))
    adapted = s2.adapt(backbone, x, x[:, :3], task="regression", recipe="auto")
    weights = [each.weight for each in adapted.history.tried]
    assert weights == pytest.approx([0, 0.2 / 0.991, 0.791 / 0.991])


def test_several_labels(backbone: NumpyBackbone) -> None:
    x, _ = drifted(backbone, 80)
    y = (backbone.forward(x).base_logits + x[:, :3] > 0).astype(np.float32)
    adapted = s2.adapt(backbone, x, y, task="multi-label", recipe="auto")
    assert adapted.history.held_out.measure == "exact_match"
    assert adapted.history.held_out.value > 0.6
    assert adapted.fit.on_all.overall["exact_match"] > 0.9


def test_groups_are_held_out_whole() -> None:
    """Each group has its own label and its own place: neighbours tell it, other groups do not."""
    random = np.random.default_rng(0)
    groups = np.arange(120) % 12
    places = random.normal(size=(12, 9))
    x = (places[groups] + 0.01 * random.normal(size=(120, 9))).astype(np.float32)
    y = random.permutation(np.arange(12) % 2)[groups].astype(np.int32)
    backbone = NumpyBackbone([9, 16, 2], first_tap_is_input=True)
    by_rows = s2.adapt(backbone, x, y, recipe="auto").history.held_out
    by_groups = s2.adapt(backbone, x, y, recipe="auto", groups=[f"p{g}" for g in groups])
    assert by_rows.value == 1.0
    assert by_groups.history.held_out.value < 0.8
    exact = s2.adapt(backbone, x, y, solver="exact", groups=groups)
    assert exact.history.held_out.value < 0.8


def test_samples_for_validation_are_judged_by_and_not_trained_on(backbone: NumpyBackbone) -> None:
    x, y = drifted(backbone, 90)
    given = (x[60:], np.array(["a", "b", "c"])[y[60:]])
    named = np.array(["a", "b", "c"])[y[:60]]
    adapted = s2.adapt(
        backbone, x[:60], named, recipe="auto", keep_outputs=False, validation_data=given
    )
    held_out = adapted.history.held_out
    assert (held_out.n_samples, held_out.n_folds) == (30, 1)
    assert held_out.value == pytest.approx(adapted.score(*given))
    assert adapted.fit.after.overall["accuracy"] == pytest.approx(held_out.value)
    other = s2.adapt(
        backbone, x[:60], named, recipe="auto", keep_outputs=False,
        validation_data=(x[60:] + 3, given[1]),
    )  # fmt: skip
    for name, of in zip(adapted.history.tried, other.history.tried, strict=True):
        if name.penalty == of.penalty:  # what it is trained on is the same
            assert adapted.history.loss[0] == other.history.loss[0]


def test_steps_take_samples_for_validation_too(backbone: NumpyBackbone) -> None:
    x, y = drifted(backbone, 90)
    adapted = s2.adapt(backbone, x[:60], y[:60], epochs=5, validation_data=(x[60:], y[60:]))
    assert len(adapted.history.validation_loss) == 5
    assert adapted.fit.n_measured == 30
    assert adapted.fit.after.overall["accuracy"] == pytest.approx(adapted.score(x[60:], y[60:]))


def test_training_by_steps_stops_by_them(backbone: NumpyBackbone) -> None:
    x, y = drifted(backbone, 60)
    options: dict[str, Any] = {"epochs": 50, "learning_rate": 0.5, "patience": 1}
    history = s2.adapt(
        backbone, x, y, validation_data=(x[:20], (y[:20] + 1) % 3), **options
    ).history
    assert len(history.loss) < 50
    assert history.best_epoch == len(history.loss) - 1


def test_where_nothing_can_be_held_out(backbone: NumpyBackbone) -> None:
    x, _ = drifted(backbone, 3)
    adapted = s2.adapt(backbone, x, [0, 1, 2], recipe="auto")
    assert adapted.history.held_out is None
    assert not adapted.fit.held_out
    assert adapted.score(x, [0, 1, 2]) == 1.0


def test_a_callback_sees_each_candidate(backbone: NumpyBackbone) -> None:
    x, y = drifted(backbone, 60)
    seen: list[s2.EpochReport] = []
    s2.adapt(backbone, x, y, recipe="auto", callback=seen.append)
    assert [(of.epoch, of.epochs) for of in seen] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 2}, "rank is 2 with recipe='auto', which chooses it"),
        ({"epochs": 3}, "epochs is 3 with recipe='auto'"),
        ({"standardize": False}, "standardize is False with recipe='auto'"),
        ({"solver": "exact"}, "solver is exact with recipe='auto'"),
        ({"method": "lora-last"}, "recipe is auto with method lora-last"),
    ],
)
def test_what_is_chosen_is_not_set(
    backbone: NumpyBackbone, refused: Refused, options: dict, words: str
) -> None:
    x, y = drifted(backbone, 20)
    with pytest.raises(ParameterError) as raised:
        s2.adapt(backbone, x, y, recipe="auto", **options)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": "best"}, "recipe is 'best', expected one of auto, paper"),
        (
            {"groups": [0, 1] * 10, "epochs": 3},
            "nothing is held out by groups in training by steps",
        ),
        ({"groups": [0] * 20, "recipe": "auto"}, "groups has 1 group"),
        ({"groups": [0, 1], "recipe": "auto"}, "groups has shape (2,), expected (20,)"),
        (
            {"groups": [0, 1] * 10, "recipe": "auto", "validation": 0.2},
            "groups= is set beside samples for validation",
        ),
        (
            {"validation_data": ([[0.0] * 9], [1]), "validation": 0.2},
            "validation=0.2 is set beside validation_data=",
        ),
        ({"validation_data": [[0.0] * 9]}, "validation_data is list, expected samples and labels"),
        ({"validation_data": ([[0.0] * 8], [1])}, "validation_data: X has 8 columns"),
        ({"validation_data": ([[0.0] * 9], [7])}, "validation_data: the model has 3 outputs"),
    ],
)
def test_what_does_not_go_together(backbone: NumpyBackbone, options: dict, words: str) -> None:
    x, y = drifted(backbone, 20)
    with pytest.raises((DataError, ParameterError)) as raised:
        s2.adapt(backbone, x, y, **options)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("error")
def test_one_class_alone_is_refused(backbone: NumpyBackbone) -> None:
    x, y = drifted(backbone, 20)
    zeros = np.zeros(20, int)
    with pytest.raises(DataError, match="one class alone"):
        s2.adapt(backbone, x, zeros)
    for options in ({"solver": "steps"}, {"keep": (x, np.minimum(y, 1))}):
        with pytest.warns(ForgettingWarning):
            s2.adapt(backbone, x, zeros, **options)


def test_it_is_the_default(backbone: NumpyBackbone) -> None:
    x, y = drifted(backbone, 40)
    plain, asked = s2.adapt(backbone, x, y), s2.adapt(backbone, x, y, recipe="auto")
    assert [each.weight for each in plain.history.tried] == pytest.approx(
        [each.weight for each in asked.history.tried], abs=0
    )
    for name, array in plain.adapters.tensors().items():
        assert array.tobytes() == asked.adapters.tensors()[name].tobytes()


def test_the_recipe_of_the_paper_is_that_of_an_mlp_for_any_model(
    make_model: Callable[..., s2.MLP], make_samples: Callable[..., Any]
) -> None:
    x, y = make_samples(40, 9)
    model = make_model(WIDTHS)
    plain = s2.adapt(model, x, y, solver="steps")
    asked = s2.adapt(model, x, y, recipe="paper")
    for name, array in plain.adapters.tensors().items():
        assert array.tobytes() == asked.adapters.tensors()[name].tobytes()
    other = NumpyBackbone(WIDTHS, first_tap_is_input=True)
    assert len(s2.adapt(other, x, y, recipe="paper").history.loss) == 300
    assert len(s2.adapt(other, x, y, recipe="paper", epochs=7).history.loss) == 7


@pytest.mark.parametrize(
    ("n_taps", "own", "numbers", "want"),
    [
        (2, False, False, [("last", 0.0, False), ("all", 0.0, True), ("all", 0.0, False)]),
        (1, False, False, [("all", 0.0, True), ("all", 0.0, False)]),
        (2, True, False, [("last", 0.0, False), ("all", 0.0, True), ("all", 0.5, False)]),
        (2, True, True, [("last", 0.0, False), ("all", 0.0, False), ("all", 1.0, False)]),
        (1, False, True, [("all", 0.0, False)]),
    ],
)
def test_what_is_tried(n_taps: int, own: bool, numbers: bool, want: Any) -> None:
    """Of which taps, with how much of the base logits, and whether by the squared loss."""
    several = auto._candidates(n_taps, own, numbers)
    assert [("last" if of.last else "all", of.base_factor, of.squared) for of in several] == want
    assert len({of.name for of in several}) == len(several)
