"""The fused step with a bias and with each loss, of every kernel table against the oracle."""

import numpy as np
import pytest

import oracle
from kernels import core_api
from kernels.cases import assert_close, normal
from kernels.differences import assert_same_gradient, central_difference
from kernels.networks import Layout, Samples, SkipAdapter
from oracle_losses import LOSSES, weighted

CODES = {
    "softmax": core_api.SOFTMAX,
    "sigmoid": core_api.SIGMOID,
    "squared": core_api.SQUARED,
}
OUTPUTS = (1, 2, 3, 7, 8, 15, 16, 17, 32, 33, 100)
WIDTHS = (9, 17)


def make(table, loss, n_outputs, count, *, bias, rank=3):
    taps = [normal(20 + number, count, width) for number, width in enumerate(WIDTHS)]
    params = [
        {
            "lora_a": normal(number, width, rank, scale=1 / np.sqrt(width)),
            "lora_b": normal(10 + number, rank, n_outputs, scale=1 / np.sqrt(rank)),
        }
        for number, width in enumerate(WIDTHS)
    ]
    start = normal(40, n_outputs) if bias else None
    layout = Layout(table.core, WIDTHS, n_outputs)
    adapter = SkipAdapter(table, layout, params, CODES[loss], start)
    base = normal(30, count, n_outputs)
    return adapter, layout.rows(taps, base), taps, base, params, start


def answers_of(loss, count, n_outputs):
    """What the oracle and the core are given: labels, or targets."""
    if loss == "softmax":
        return np.arange(count) % n_outputs
    random = np.random.default_rng([count, n_outputs])
    if loss == "sigmoid":
        return random.integers(0, 2, (count, n_outputs)).astype(np.float32)
    return random.normal(size=(count, n_outputs)).astype(np.float32)


def weights_of(count):
    """Of a wide range, one of them 0, and with mean 1."""
    weight = 10.0 ** np.random.default_rng(count).uniform(-3, 2, count)
    weight[count // 2] *= count < 2
    return (weight / weight.mean()).astype(np.float32)


def step(adapter, taps, rows, loss, answers, rate, weight=None):
    if loss == "softmax":
        return adapter.step(taps[0], rows, answers, rate, weight=weight)
    return adapter.step(taps[0], rows, [], rate, targets=answers, weight=weight)


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("n_outputs", OUTPUTS)
@pytest.mark.parametrize("loss", CODES)
def test_step(table, loss, n_outputs, bias):
    for count in (1, 2, 7, 20, 33):
        adapter, rows, taps, base, params, start = make(table, loss, n_outputs, count, bias=bias)
        answers = answers_of(loss, count, n_outputs)
        logits = base.astype(np.float64) + (0 if start is None else start)
        for tap, layer in zip(taps, params, strict=True):
            logits += oracle.lora_forward(tap, layer["lora_a"], layer["lora_b"])[1]
        size = np.abs(logits).max()
        assert_close(adapter.forward(taps[0], rows), logits, size, "logits")

        want, grad = LOSSES[loss](logits, answers)
        assert_close(step(adapter, taps, rows, loss, answers, 1.0), want, 1 + want, "loss")
        for (got_a, got_b), tap, layer in zip(adapter.tensors(), taps, params, strict=True):
            wa, wb = layer["lora_a"], layer["lora_b"]
            grads = oracle.lora_backward(
                "yw", tap, oracle.lora_forward(tap, wa, wb)[0], grad, wa, wb
            )
            for got, old, g in ((got_a, wa, grads["a"]), (got_b, wb, grads["b"])):
                assert_close(got, old - g, np.abs(g).max() + np.abs(old) + 1, "adapters")
        if bias:
            assert_close(adapter.bias, start - grad.sum(axis=0), 1 + np.abs(start), "bias")


@pytest.mark.parametrize("n_outputs", OUTPUTS)
@pytest.mark.parametrize("loss", CODES)
def test_a_weighted_step(table, loss, n_outputs):
    for count in (1, 2, 7, 20, 33):
        adapter, rows, taps, base, params, start = make(table, loss, n_outputs, count, bias=True)
        answers, weight = answers_of(loss, count, n_outputs), weights_of(count)
        logits = base.astype(np.float64) + start
        for tap, layer in zip(taps, params, strict=True):
            logits += oracle.lora_forward(tap, layer["lora_a"], layer["lora_b"])[1]
        want, grad = weighted(LOSSES[loss], logits, answers, weight)
        got = step(adapter, taps, rows, loss, answers, 1.0, weight)
        assert_close(got, want, weight.max() + want, "loss")
        for (got_a, got_b), tap, layer in zip(adapter.tensors(), taps, params, strict=True):
            wa, wb = layer["lora_a"], layer["lora_b"]
            grads = oracle.lora_backward(
                "yw", tap, oracle.lora_forward(tap, wa, wb)[0], grad, wa, wb
            )
            for got, old, g in ((got_a, wa, grads["a"]), (got_b, wb, grads["b"])):
                assert_close(got, old - g, np.abs(g).max() + np.abs(old) + 1, "adapters")
        assert_close(adapter.bias, start - grad.sum(axis=0), 1 + np.abs(start), "bias")


@pytest.mark.parametrize("n_outputs", [3, 32, 33])
@pytest.mark.parametrize("loss", CODES)
def test_weights_of_1_change_no_bit(table, loss, n_outputs):
    for count in (1, 7, 20):
        ends = []
        for weight in (None, np.ones(count, np.float32)):
            adapter, rows, taps, *_ = make(table, loss, n_outputs, count, bias=True)
            answers = answers_of(loss, count, n_outputs)
            ends.append((step(adapter, taps, rows, loss, answers, 0.1, weight), adapter.packed))
        assert ends[0][0] == ends[1][0]
        np.testing.assert_array_equal(ends[0][1], ends[1][1])


@pytest.mark.parametrize("loss", CODES)
def test_the_weighted_oracle_matches_finite_differences(loss):
    logits, weight = normal(3, 5, 3).astype(np.float64), weights_of(5)
    answers = answers_of(loss, 5, 3)
    _, grad = weighted(LOSSES[loss], logits, answers, weight)
    numeric = central_difference(lambda v: weighted(LOSSES[loss], v, answers, weight)[0], logits)
    assert_same_gradient(grad, numeric)
    same = weighted(LOSSES[loss], logits, answers, np.ones(5))
    for got, want in zip(same, LOSSES[loss](logits, answers), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("loss", CODES)
def test_a_weight_of_2_is_the_sample_twice(table, loss):
    """And one of 0 is none: weight 2 of 3 where the mean weight is 1."""
    which, weight = [0, 0, 1, 3], np.float32([2, 1, 0, 1])
    adapter, rows, taps, *_ = make(table, loss, 5, 4, bias=True)
    other, *_ = make(table, loss, 5, 4, bias=True)
    answers = answers_of(loss, 4, 5)
    one = step(adapter, taps, rows, loss, answers, 0.1, weight)
    two = step(other, [tap[which] for tap in taps], rows[which], loss, answers[which], 0.1)
    assert_close(one, two, two, "loss")
    assert_close(adapter.packed, other.packed, np.abs(other.packed) + 0.1, "adapters")


@pytest.mark.parametrize("n_outputs", [1, 5, 40])
def test_correct_is_every_class_on_its_side(table, n_outputs):
    adapter, rows, taps, *_ = make(table, "sigmoid", n_outputs, 6, bias=False)
    logits = adapter.forward(taps[0], rows)
    targets = (logits > 0).astype(np.float32)
    targets[2, 0] = 1 - targets[2, 0]
    targets[4, -1] = 1 - targets[4, -1]
    assert adapter.correct(taps[0], rows, targets) == 4


def test_large_logits_do_not_overflow(table):
    """exp(1000) is infinite; the loss is 1000 where the answer is wrong and 0 where it is right."""
    adapter, rows, taps, _, _, _ = make(table, "sigmoid", 4, 1, bias=True)
    adapter.bias[...] += [1000, 1000, -1000, -1000] - adapter.forward(taps[0], rows)[0]
    loss = step(adapter, taps, rows, "sigmoid", np.float32([[0, 1, 0, 1]]), 0.0)
    assert_close(loss, 2000, 2000, "loss")


@pytest.mark.parametrize("loss", CODES)
def test_a_loss_without_its_answers_is_refused(table, loss):
    adapter, rows, taps, *_ = make(table, loss, 3, 2, bias=True)
    other = "squared" if loss == "softmax" else "softmax"
    answers = answers_of(other, 2, 3)
    given = (answers, []) if other == "softmax" else ([], answers)
    before = adapter.packed.copy()
    status, _ = adapter.run(Samples(taps[0], rows, *given), 0.1)
    assert status == core_api.BAD_VALUE
    np.testing.assert_array_equal(adapter.packed, before)
