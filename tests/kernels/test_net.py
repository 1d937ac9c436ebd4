"""One step, and many, of the network of every kernel table against the oracle, method by method."""

import numpy as np
import pytest

import oracle
from kernels.cases import COUNTS, TOLERANCE, assert_close, normal
from kernels.core_api import LAYER_TENSORS
from kernels.methods import METHODS, SKIP_LORA, make_params
from kernels.networks import Layout, Network, SkipAdapter
from oracle_losses import weighted

RANK = 3
# Every tail of a tile as an input and as an output, and the paper's two networks' own widths
NETWORKS = [
    (1, 2),
    (9, 3, 2),
    (17, 16, 15, 3),
    (23, 33, 2, 6),
    (7, 24, 25, 8, 17),
    (31, 5, 9, 33, 3),
    (561, 96, 96, 6),
]
SOME_COUNTS = (1, 2, 4, 7, 20, 33)
STEPS, RATE = 30, 0.1


def jittered(params, x):
    """The same, each number off by up to 1e-6 of itself: 16 units in the last place. What this
    does to the oracle's own result is what rounding may do to the core's; under the statistics of
    a few rows, where nearly equal values are scaled up, it is more than TOLERANCE."""
    rng = np.random.default_rng(3)

    def off(array):
        return array * (1 + rng.uniform(-1e-6, 1e-6, array.shape))

    tensors = [{k: None if v is None else off(v) for k, v in layer.items()} for layer in params]
    return tensors, off(x)


def check_tensors(found, before, after, near, rows, what):
    """Trained and updated tensors are the oracle's; all others have the bytes they had.

    near: the oracle's own result from jittered numbers.
    """
    for number, row in enumerate(rows):
        trained = {"weight": "w" in row["fc"], "bias": "b" in row["fc"]}
        trained |= dict.fromkeys(("gamma", "beta"), "w" in row["bn"])
        trained |= dict.fromkeys(("mean", "var"), "s" in row["bn"])
        trained |= dict.fromkeys(("lora_a", "lora_b"), "w" in row["lora"])
        for name in LAYER_TENSORS:
            got, old, want = found[number][name], before[number][name], after[number][name]
            where = f"{name} {number} of {what}"
            if got is None:
                continue
            if not trained[name]:
                assert got.tobytes() == old.tobytes(), f"{where} is frozen"
                continue
            slack = np.abs(near[number][name] - want).max()
            if name == "bias" and "s" in row["bn"]:
                # The mean of the batch takes a bias off again: its gradient is rounding alone
                np.testing.assert_allclose(want, old, rtol=0, atol=1e-6)
                assert_close(got, old, 1, where, 1e-5 + slack)
            else:
                moved = np.abs(want - old).max()
                assert slack < moved / 100, f"{where} depends on rounding alone: other numbers"
                assert_close(got, want, np.abs(old) + moved + slack / TOLERANCE, where)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("widths", NETWORKS, ids=str)
def test_one_step(table, widths, name):
    rows = METHODS[name].rows(len(widths) - 1) if len(widths) > 2 else [last_row(name)]
    for count in SOME_COUNTS:
        if count < 4 and "s" in METHODS[name].bn:
            continue  # two rows are always normalised to -1 and 1: nothing but rounding comes back
        params = make_params(widths, rows, RANK, seed=count)
        x, labels = normal(1, count, widths[0]), np.arange(count) % widths[-1]
        net = Network(table, params)
        loss = net.step(rows, x, labels, 1.0)
        after, want_loss, _ = oracle.net_step(params, rows, x, labels, 1.0)
        near_params, near_x = jittered(params, x)
        near, near_loss, _ = oracle.net_step(near_params, rows, near_x, labels, 1.0)
        what = f"{name}, {count} rows"
        assert_close(loss, want_loss, 1 + want_loss, what, TOLERANCE + abs(near_loss - want_loss))
        check_tensors(net.params, params, after, near, rows, what)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("widths", [(9, 17, 3), (23, 33, 2, 34)], ids=str)
def test_one_weighted_step(table, widths, name):
    """The loss alone is weighted: batch norm counts every row once."""
    rows, count = METHODS[name].rows(len(widths) - 1), 20
    params = make_params(widths, rows, RANK, seed=count)
    x, labels = normal(1, count, widths[0]), np.arange(count) % widths[-1]
    weight = (np.arange(count) / (count - 1) * 2).astype(np.float32)
    net = Network(table, params)
    loss = net.step(rows, x, labels, 1.0, weight)

    def mean_loss(logits, labels):
        return weighted(oracle.softmax_cross_entropy, logits, labels, weight)

    after, want, _ = oracle.net_step(params, rows, x, labels, 1.0, mean_loss=mean_loss)
    near_params, near_x = jittered(params, x)
    near, near_loss, _ = oracle.net_step(
        near_params, rows, near_x, labels, 1.0, mean_loss=mean_loss
    )
    assert_close(loss, want, 1 + want, name, TOLERANCE + abs(near_loss - want))
    check_tensors(net.params, params, after, near, rows, name)


def last_row(name):
    return METHODS[name].rows(2)[-1]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("widths", [(9, 17, 3), (9, 17, 8, 6), (5, 12, 7, 9, 3)], ids=str)
def test_many_steps(table, widths, name):
    """30 batches, the last of each five short, over three epochs of other orders."""
    rows = METHODS[name].rows(len(widths) - 1)
    follow(table, make_params(widths, rows, RANK), rows, widths, name)


def follow(table, before, rows, widths, what):
    x, labels = samples(widths)
    after, (near, near_x) = before, jittered(before, x)
    net = Network(table, before)
    for batch in batches(len(x), 10, STEPS):
        given = labels[batch], RATE
        loss = net.step(rows, x[batch], *given)
        after, want, _ = oracle.net_step(after, rows, x[batch], *given)
        near, near_loss, _ = oracle.net_step(near, rows, near_x[batch], *given)
        assert_close(loss, want, 1 + want, what, TOLERANCE + abs(near_loss - want))
    check_tensors(net.params, before, after, near, rows, what)


def samples(widths, n_samples=47):
    return normal(1, n_samples, widths[0]), np.arange(n_samples) % widths[-1]


@pytest.mark.parametrize("widths", [(9, 17, 3), (9, 17, 8, 6), (5, 12, 7, 9, 3)], ids=str)
def test_many_steps_of_skip_lora(table, widths):
    """Rows once from s2_net_forward, then only s2_adapter_step: Skip2-LoRA."""
    rows = SKIP_LORA.rows(len(widths) - 1)
    before = after = make_params(widths, rows, RANK, lora_to_last=True)
    no_lora = [layer | {"lora_a": None, "lora_b": None} for layer in before]
    layout = Layout(table.core, widths[:-1], widths[-1])
    x, labels = samples(widths)
    cached = Network(table, no_lora).forward(x, layout)
    adapter = SkipAdapter(table, layout, before)
    for batch in batches(len(x), 10, STEPS):
        loss = adapter.step(x[batch], cached[batch], labels[batch], RATE)
        given = rows, x[batch], labels[batch], RATE
        after, want_loss, _ = oracle.net_step(after, *given, lora_to_last=True)
        assert_close(loss, want_loss, 1 + want_loss, "loss")
    for pair, new, old in zip(adapter.tensors(), after, before, strict=True):
        for name, got in zip(("lora_a", "lora_b"), pair, strict=True):
            moved = np.abs(new[name] - old[name]).max()
            assert moved > 0.01
            assert_close(got, new[name], np.abs(old[name]) + moved, name)


def batches(n_samples, batch_size, n_steps):
    order = np.random.default_rng(5)
    while n_steps > 0:
        whole = order.permutation(n_samples)
        for start in range(0, n_samples, batch_size):
            yield whole[start : start + batch_size]
            n_steps -= 1
            if n_steps == 0:
                return


@pytest.mark.parametrize("widths", NETWORKS, ids=str)
@pytest.mark.parametrize("lora", [False, True], ids=["no lora", "lora"])
def test_forward(table, widths, lora):
    """Taps and base logits, by the frozen statistics, for every first tap."""
    depth = len(widths) - 1
    rows = [{"fc": "y", "lora": "yw" if lora else "", "bn": ""}] * depth
    params = make_params(widths, rows, RANK)
    for count in COUNTS:
        x = normal(1, count, widths[0])
        taps, logits, _ = oracle.net_forward(params, rows, x)
        for first_tap in range(depth):
            layout = Layout(table.core, widths[first_tap:-1], widths[-1], first_is_x=first_tap == 0)
            found = Network(table, params).forward(x, layout, first_tap)
            want = layout.rows(taps[first_tap:], logits)
            padding = np.isnan(want)
            assert np.isnan(found[padding]).all()
            size = np.abs(want[~padding]).max()
            assert_close(found[~padding], want[~padding], size, f"{count} rows")


def test_without_batch_norm(table):
    """Hidden layers of FC, LoRA and ReLU alone."""
    widths = (9, 17, 8, 6)
    rows = [row | {"bn": ""} for row in METHODS["ft-all-lora"].rows(3)]
    params = make_params(widths, rows, RANK, batch_norm=False)
    follow(table, params, rows, widths, "no batch norm")
