"""The exact solver at work on samples: what it keeps, chooses, and refuses before any work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora import _core
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.recipe import ANY_MODEL
from skip2lora.errors import DataError
from skip2lora.limits import VARIABLE
from skip2lora.tasks.task import CLASSIFICATION, PLAIN, TASKS, Goal, mean_loss
from skip2lora.training.exact_job import ExactJob, folds_of
from skip2lora.training.exact_memory import ExactMemory, exact_memory
from skip2lora.training.folds import block_folds
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import EpochReport, train
from skip2lora.training.options import Options, resolve_options
from skip2lora.training.watch import Watch

WIDTHS = [9, 16, 5, 3]


@pytest.fixture
def backbone() -> NumpyBackbone:
    return NumpyBackbone(WIDTHS, first_tap_is_input=True)


@pytest.fixture
def part(make_samples: Any) -> CheckedSamples:
    x, y = make_samples(60, 9)
    return CheckedSamples(x * np.float32(5) + 3, y.astype(np.int32))


def options(**asked: Any) -> Options:
    return resolve_options(ANY_MODEL, (9, 16, 5), 60, solver="exact", **asked)


def test_history_says_what_was_tried(backbone: NumpyBackbone, part: CheckedSamples) -> None:
    reports: list[EpochReport] = []
    done = train(backbone, part, options(), watch=Watch(reports.append))
    history = done.history
    assert history.solver == "exact"
    assert history.penalties == tuple(10.0**-k for k in range(len(history.penalties)))
    assert [(report.epoch, report.epochs) for report in reports] == [
        (number + 1, 7) for number in range(len(history.penalties))
    ]
    assert [report.loss for report in reports] == list(history.loss)
    assert [report.accuracy for report in reports] == list(history.accuracy)
    assert [report.validation_loss for report in reports] == list(history.validation_loss)
    assert history.validation_loss.index(min(history.validation_loss)) + 1 == history.best_epoch
    assert history.penalty == history.penalties[history.best_epoch - 1]
    assert list(history.loss) == sorted(history.loss, reverse=True)  # the weaker, the closer
    assert (history.n_batches, history.n_forwards, history.rank_loss) == (0, 60, None)
    assert history.iterations >= len(history.penalties)
    held_out = history.held_out
    assert held_out is not None
    assert (held_out.measure, held_out.n_samples, held_out.n_folds) == ("accuracy", 60, 10)
    assert held_out.low < held_out.value < held_out.high
    assert held_out.loss == pytest.approx(min(history.validation_loss))
    last = reports[-1].result().tensors()
    assert {name: array.tobytes() for name, array in last.items()} == {
        name: array.tobytes() for name, array in done.adapters.tensors().items()
    }


def test_the_path_ends_two_penalties_after_the_best(
    backbone: NumpyBackbone, part: CheckedSamples
) -> None:
    y = np.random.default_rng(5).integers(0, 3, 60).astype(np.int32)  # nothing can be learned
    history = train(backbone, CheckedSamples(part.x, y), options()).history
    assert len(history.penalties) == history.best_epoch + 2 < 7


def test_held_out_accuracy_is_that_of_other_samples(
    backbone: NumpyBackbone, part: CheckedSamples
) -> None:
    """Each sample by an adapter that was made without its fold, at the same penalty."""
    history = train(backbone, part, options()).history
    folds, n_right = block_folds(part.y, n_folds=10), 0
    for fold in range(folds.count):
        rest = part[folds.trained(fold)]
        made = train(backbone, rest, options(penalty=history.penalty)).adapters
        held = part[folds.of == fold]
        n_right += (made.logits(backbone, held.x).argmax(axis=1) == held.y).sum()
    # Means and deviations are those of all samples, here of three folds: that moves a few answers.
    assert abs(n_right - 60 * history.held_out.value) <= 4
    assert n_right <= 50  # of the samples trained on, all are right


def test_each_sample_passes_the_model_once(backbone: NumpyBackbone, part: CheckedSamples) -> None:
    done = train(backbone, part, options(validation=0.25))
    fit = done.measure(("a", "b", "c"), True)
    assert sum(backbone.batches) == done.history.n_forwards == 60
    assert done.cache_bytes == 60 * RowFormat.of(backbone, copy_input=True).payload_bytes
    assert (fit.held_out, fit.n_measured) == (True, 15)
    held_out = done.history.held_out
    assert (held_out.n_samples, held_out.n_folds) == (15, 1)
    assert fit.after.overall["accuracy"] == held_out.value


def test_rank_loss_is_what_a_smaller_rank_costs(
    backbone: NumpyBackbone, part: CheckedSamples
) -> None:
    full, cut = (train(backbone, part, options(penalty=1e-4, rank=rank)) for rank in (7, 1))
    assert (full.adapters.rank, cut.adapters.rank) == (3, 1)
    assert full.history.rank_loss is None
    losses = [
        mean_loss(PLAIN.task, done.adapters.logits(backbone, part.x), part.y)
        for done in (full, cut)
    ]
    assert losses[0] == pytest.approx(full.history.loss[0], rel=1e-3)
    assert cut.history.rank_loss == pytest.approx(losses[1] - losses[0], rel=1e-2)
    assert cut.history.rank_loss > 0.01


def test_a_sample_of_weight_2_is_there_twice(backbone: NumpyBackbone, part: CheckedSamples) -> None:
    counts = 1 + (np.arange(60) < 12).astype(np.int64)  # other statistics, too
    weighed = CheckedSamples(part.x, part.y, counts.astype(np.float32))
    twice = CheckedSamples(np.repeat(part.x, counts, axis=0), np.repeat(part.y, counts))
    one, two = (train(backbone, each, options(penalty=0.01)) for each in (weighed, twice))
    assert one.history.loss[0] == pytest.approx(two.history.loss[0], rel=1e-4)
    outputs = [done.adapters.logits(backbone, part.x) for done in (one, two)]
    np.testing.assert_allclose(outputs[0], outputs[1], atol=0.02)


def test_samples_of_weight_0_are_in_no_fold(backbone: NumpyBackbone, part: CheckedSamples) -> None:
    weight = np.ones(60, np.float32)
    weight[::3] = 0
    done = train(backbone, CheckedSamples(part.x, part.y, weight), options())
    assert done.history.held_out.n_samples == 40


def test_old_samples_are_in_every_fold_and_not_in_what_is_said(
    backbone: NumpyBackbone, part: CheckedSamples
) -> None:
    """A class of the old domain alone is learned, and held-out answers are those of new ones."""
    old = np.arange(60) >= 40
    y = np.where(old, 2, part.y % 2).astype(np.int32)
    job = ExactJob(backbone, CheckedSamples(part.x, y, None, old), options())
    assert np.bincount(job.folds.of[old]).tolist() == [2] * 10
    both = ExactJob(backbone, CheckedSamples(part.x, part.y, None, old), options())
    for domain in (old, ~old):
        counts = np.bincount(both.folds.of[domain])
        assert counts.max() - counts.min() <= 3  # one a class
    new = np.bincount(job.folds.of[~old])
    assert new.max() - new.min() <= 2
    list(job.path())
    assert job.points[0].solution.problem.learned.tolist() == [0, 1, 2]
    assert job.held_out().n_samples == 40
    wrong = CheckedSamples(part.x, np.where(old, 1 - y % 2, y).astype(np.int32), None, old)
    assert train(backbone, wrong, options()).history.held_out.n_samples == 40


def test_labels_that_nobody_has_are_right_when_held_out(
    backbone: NumpyBackbone, part: CheckedSamples
) -> None:
    y = np.stack([part.y == 0, part.y < 9, part.y > 9], axis=1).astype(np.float32)
    goal = Goal(TASKS["multi-label"])
    done = train(backbone, CheckedSamples(part.x, y), options(), goal=goal)
    predicted = done.adapters.logits(backbone, part.x) > 0
    assert (predicted[:, 1:] == [True, False]).mean() > 0.95
    assert done.history.held_out.value > 0.5
    assert done.history.accuracy[done.history.best_epoch - 1] == (predicted == y).all(axis=1).mean()


def test_numbers_of_any_unit(backbone: NumpyBackbone, part: CheckedSamples) -> None:
    y = (part.x[:, :3] * 40 - 5000).astype(np.float32)
    done = train(backbone, CheckedSamples(part.x, y), options(), goal=Goal(TASKS["regression"]))
    assert done.history.held_out.measure == "r2"
    assert done.history.held_out.value > 0.99
    assert np.abs(done.adapters.logits(backbone, part.x) - y).max() < 0.05 * y.std()


def test_samples_for_validation_choose_the_penalty_alone(
    backbone: NumpyBackbone, part: CheckedSamples
) -> None:
    """Neither the statistics of the taps nor the unit of the columns are theirs."""
    results = []
    for unit in (1, 100):
        beside = CheckedSamples(part.x[:20] * np.float32(unit), part.y[:20])
        rest = replace(part[np.arange(60) >= 20], validation=beside)
        done = train(backbone, rest, options(penalty=0.01))
        results.append(done.adapters.logits(backbone, part.x))
    np.testing.assert_array_equal(*results)


# --- refused -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_one_class_alone(backbone: NumpyBackbone, part: CheckedSamples, refused: Any) -> None:
    message = refused(DataError, s2.adapt, backbone, part.x, [2] * 60, solver="exact")
    assert "got one class alone in all 60 samples, expected others too" in message
    assert backbone.n_forwards == 0


def test_nothing_that_could_be_held_out(
    backbone: NumpyBackbone, part: CheckedSamples, refused: Any
) -> None:
    samples = CheckedSamples(part.x[:3], np.arange(3, dtype=np.int32))
    message = refused(DataError, train, backbone, samples, options())
    assert "none of the 3 samples can be held out to choose the penalty" in message
    assert "collect them, or pass penalty=0.001" in message
    assert backbone.n_forwards == 0
    history = train(backbone, samples, options(penalty=0.001)).history
    assert (history.held_out, history.validation_loss, history.penalty) == (None, (), 0.001)


def test_what_does_not_fit_says_what_would(
    backbone: NumpyBackbone, part: CheckedSamples, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = RowFormat.of(backbone, copy_input=True)
    monkeypatch.setenv(VARIABLE, str(60 * rows.row_bytes))
    message = refused(DataError, train, backbone, part, options())
    assert message == refused(DataError, exact_memory, rows, 60, 3)
    assert backbone.n_forwards == 0


def test_the_quickest_way_that_fits_is_taken(
    backbone: NumpyBackbone, make_samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three give the same adapters, up to what is left of the objective."""
    x, y = make_samples(400, 9)
    part, results = CheckedSamples(x, y.astype(np.int32)), []
    for solver in (_core.SOLVE_DUAL, _core.SOLVE_PRIMAL, _core.SOLVE_SUBSET):
        monkeypatch.setattr(
            "skip2lora.training.exact_memory._quickest",
            lambda rows, n, m, *_, solver=solver: ExactMemory.of(solver, rows, n, m),
        )
        done = train(backbone, part, options())
        results.append((done.adapters.logits(backbone, x), done.history))
    for logits, history in results[1:]:
        assert history.penalty == results[0][1].penalty
        assert history.held_out.value == pytest.approx(results[0][1].held_out.value, abs=0.01)
        assert history.loss == pytest.approx(results[0][1].loss, rel=0.01)
        np.testing.assert_allclose(logits, results[0][0], atol=0.5)


def test_a_copy_of_what_is_always_trained_on_is_never_held_out(part: CheckedSamples) -> None:
    """The one sample of its class: its copy among the old samples would judge what it taught."""
    y = np.int32([0] * 9 + [1] * 9 + [2] + [0] * 3)
    old = np.arange(len(y)) >= 19
    copies = np.arange(len(y))
    copies[-1] = 18
    whole = replace(part, x=part.x[: len(y)], y=y, old=old)
    assert folds_of(CLASSIFICATION, whole, None).of[-1] >= 0
    folds = folds_of(CLASSIFICATION, whole, None, copies=copies)
    assert folds.of[[18, -1]].tolist() == [-1, -1]
    assert (folds.of[:18] >= 0).all()
