"""Weights of samples: one of 2 is the sample twice, for every method, task and scaling."""

from dataclasses import replace

import numpy as np
import pytest

from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.recipe import PAPER
from skip2lora.methods import METHODS
from skip2lora.tasks.task import PLAIN, TASKS, Goal, sample_losses
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import Trained, stratified_split, train
from skip2lora.training.options import resolve_options

WIDTHS = (7, 12, 9, 3)
TIMES = np.array([1, 2, 3, 1, 1, 2, 1, 4, 1, 1, 2, 1])  # how often each sample is there
TWICE = np.repeat(np.arange(len(TIMES)), TIMES)
BATCH_STATISTICS = [name for name, method in METHODS.items() if method.batch_statistics]


@pytest.fixture(scope="module")
def model() -> MLP:
    """Batch norm of running statistics, and labels of other places than the random ones."""
    return MLP.create(WIDTHS, seed=1)


@pytest.fixture(scope="module")
def part() -> CheckedSamples:
    random = np.random.default_rng(2)
    x = (random.normal(size=(len(TIMES), WIDTHS[0])) * 3 + 5).astype(np.float32)
    return CheckedSamples(x, random.integers(0, 3, len(TIMES)).astype(np.int32))


def trained(model: MLP, part: CheckedSamples, method: str, goal: Goal = PLAIN, **asked) -> Trained:
    asked = {"epochs": 5, "learning_rate": 0.02, "batch_size": len(part.x)} | asked
    options = resolve_options(PAPER, model.tap_widths, len(part.x), method=method, **asked)
    return train(model, part, options, goal=goal)


def assert_same(one: Trained, two: Trained, rtol: float = 2e-4) -> None:
    np.testing.assert_allclose(one.history.loss, two.history.loss, rtol=1e-5)
    others = two.adapters.tensors()
    for name, tensor in one.adapters.tensors().items():
        np.testing.assert_allclose(
            tensor, others[name], rtol=rtol, atol=rtol * np.abs(others[name]).max(), err_msg=name
        )


@pytest.mark.parametrize("method", [name for name in METHODS if name not in BATCH_STATISTICS])
def test_a_weight_of_2_is_the_sample_twice(model: MLP, part: CheckedSamples, method: str) -> None:
    weighted = trained(model, replace(part, weight=TIMES.astype(np.float32) * 0.3), method)
    assert_same(weighted, trained(model, part[TWICE], method))
    assert trained(model, part, method).history.loss != weighted.history.loss


@pytest.mark.parametrize("standardize", [True, False], ids=["standardized", ""])
@pytest.mark.parametrize("task", TASKS)
def test_it_is_for_every_task(
    model: MLP, part: CheckedSamples, task: str, standardize: bool
) -> None:
    if task != "classification":
        answers = part.x[:, :3] * 2 + 1 if task == "regression" else part.x[:, :3] > 5
        part = replace(part, y=answers.astype(np.float32))
    goal = Goal(TASKS[task])
    asked = {"standardize": standardize, "learning_rate": 1e-3}
    weighted = replace(part, weight=TIMES.astype(np.float32))
    one = trained(model, weighted, "skip2-lora", goal, **asked)
    two = trained(model, part[TWICE], "skip2-lora", goal, **asked)
    assert_same(one, two)
    plain = trained(model, part, "skip2-lora", goal, **asked)
    assert plain.history.loss != pytest.approx(one.history.loss, rel=1e-4)


@pytest.mark.parametrize("method", BATCH_STATISTICS)
def test_batch_norm_counts_every_sample_once(model: MLP, part: CheckedSamples, method: str) -> None:
    """The statistics of a batch are those without weights; the loss is weighted."""
    weighted = trained(model, replace(part, weight=TIMES.astype(np.float32)), method, epochs=1)
    plain = trained(model, part, method, epochs=1)
    assert weighted.history.loss[0] != plain.history.loss[0]
    one, two = weighted.adapters.tensors(), plain.adapters.tensors()
    running = [name for name in one if "running" in name or "mean" in name]
    assert [one[name].tobytes() for name in running] == [two[name].tobytes() for name in running]


@pytest.mark.parametrize("method", METHODS)
def test_equal_weights_change_no_bit(model: MLP, part: CheckedSamples, method: str) -> None:
    plain = trained(model, part, method, batch_size=5)
    same = np.full(len(TIMES), 0.3, np.float32)
    equal = trained(model, replace(part, weight=same), method, batch_size=5)
    assert equal.history == plain.history
    one, two = equal.adapters.tensors(), plain.adapters.tensors()
    assert {name: of.tobytes() for name, of in one.items()} == {
        name: of.tobytes() for name, of in two.items()
    }


@pytest.mark.parametrize("standardize", [True, False], ids=["standardized", ""])
@pytest.mark.parametrize("method", ["skip2-lora", "lora-all", "ft-last"])
def test_the_validation_loss_is_weighted(
    model: MLP, part: CheckedSamples, method: str, standardize: bool
) -> None:
    if standardize and not METHODS[method].skip:
        return
    thrice = part[np.repeat(np.arange(len(TIMES)), 3)]
    thrice = replace(thrice, weight=np.arange(1, 37, dtype=np.float32))
    asked = {"batch_size": 3, "validation": 0.3, "standardize": standardize}
    done = trained(model, thrice, method, **asked)
    _, held = stratified_split(
        thrice, resolve_options(PAPER, model.tap_widths, 36, method=method, **asked)
    )
    assert held is not None
    losses = sample_losses(PLAIN.task, done.adapters.logits(model, held.x), held.y)
    best = done.history.validation_loss[done.history.best_epoch - 1]
    assert best == pytest.approx(losses @ held.weight / held.weight.sum(), rel=1e-5)
    assert best != pytest.approx(losses.mean(), rel=1e-3)
