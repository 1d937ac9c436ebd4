"""The float64 oracle of whole networks: each method against finite differences."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

import oracle
from kernels.differences import STEP, assert_same_gradient, central_difference

LEARNING_RATE = 0.05
RANK = 2
N_ROWS = 7
WIDTHS = {2: (5, 4, 3), 3: (5, 4, 6, 3), 4: (5, 4, 6, 4, 3)}  # depth -> widths
TENSORS = ("weight", "bias", "gamma", "beta", "mean", "var", "lora_a", "lora_b")


@dataclass(frozen=True)
class Method:
    fc: tuple[str, str, str]  # compute types of the first, the middle and the last layer
    lora: tuple[str, str, str]
    bn: str  # of the hidden layers
    trained: tuple[str, str]  # tensors of the hidden layers and of the last
    lora_to_last: bool = False
    cached: bool = False


NO_LORA, OWN_LORA, SKIP_LORA = ("", "", ""), ("yw", "ywx", "ywx"), ("yw", "yw", "yw")
FC_ALL, FC_FROZEN = ("ywb", "ywbx", "ywbx"), ("y", "y", "y")
LORA = "lora_a lora_b"
ALL = ("weight bias gamma beta", "weight bias")
METHODS = {
    "ft-all": Method(FC_ALL, NO_LORA, "sw", ALL),
    "ft-last": Method(("y", "y", "ywb"), NO_LORA, "", ("", "weight bias")),
    "ft-bias": Method(("yb", "ybx", "ybx"), NO_LORA, "s", ("bias", "bias")),
    "ft-all-lora": Method(FC_ALL, OWN_LORA, "sw", (f"{ALL[0]} {LORA}", f"{ALL[1]} {LORA}")),
    "lora-all": Method(("y", "yx", "yx"), OWN_LORA, "s", (LORA, LORA)),
    "lora-last": Method(FC_FROZEN, ("", "", "yw"), "", ("", LORA)),
    "skip-lora": Method(FC_FROZEN, SKIP_LORA, "", (LORA, LORA), lora_to_last=True),
    "skip2-lora": Method(FC_FROZEN, SKIP_LORA, "", (LORA, LORA), lora_to_last=True, cached=True),
}
# The paper's eight, and where it can be done the same rows with the other kind of statistics:
# under those of the batch a hidden bias is subtracted again, so only frozen ones show its gradient
OTHER_STATISTICS = {"": "s", "s": "", "sw": "w"}
CASES = {name: (method, method.bn) for name, method in METHODS.items()} | {
    f"{name}, {'batch' if 's' in bn else 'frozen'} statistics": (method, bn)
    for name, method in METHODS.items()
    if not method.cached
    for bn in (OTHER_STATISTICS[method.bn],)
}
# Not in the paper: skip adapters that send a gradient down, beside a network that trains
FT_ALL_SKIP = Method(FC_ALL, OWN_LORA, "sw", METHODS["ft-all-lora"].trained, lora_to_last=True)
CASES["ft-all, skip-lora"] = (FT_ALL_SKIP, "sw")


def make_rows(method, bn, depth):
    places = [0, *[1] * (depth - 2), 2]
    return [
        {"fc": method.fc[place], "lora": method.lora[place], "bn": bn if place < 2 else ""}
        for place in places
    ]


def make_params(depth, *, lora_to_last):
    """Every tensor random, W_B too: at zero it would hide gW_A."""
    widths, params = WIDTHS[depth], []
    rng = np.random.default_rng([depth, 11])
    for n_inputs, n_outputs in pairwise(widths):
        hidden = len(params) < depth - 1
        params.append(
            {
                "weight": rng.normal(size=(n_inputs, n_outputs)) / np.sqrt(n_inputs),
                "bias": rng.normal(size=n_outputs) / 2,
                "gamma": rng.uniform(0.5, 1.5, n_outputs) if hidden else None,
                "beta": rng.normal(size=n_outputs) / 2 if hidden else None,
                "mean": rng.normal(size=n_outputs) / 2 if hidden else None,
                "var": rng.uniform(0.5, 1.5, n_outputs) if hidden else None,
                "lora_a": rng.normal(size=(n_inputs, RANK)) / np.sqrt(n_inputs),
                "lora_b": rng.normal(size=(RANK, widths[-1] if lora_to_last else n_outputs)) / 2,
            }
        )
    return params


def make_batch(depth, n_rows=N_ROWS):
    rng = np.random.default_rng([depth, 5])
    return rng.normal(size=(n_rows, WIDTHS[depth][0])), rng.integers(0, WIDTHS[depth][-1], n_rows)


def plain_loss(params, rows, x, labels, *, lora_to_last, margins=None):
    """The forward pass again; a layer's own adapter is merged into its weight: W + W_A W_B."""
    tap, skip, logits = x, 0, None
    for layer, row in zip(params, rows, strict=True):
        low_rank = layer["lora_a"] @ layer["lora_b"] if row["lora"] else 0
        skip = skip + (tap @ low_rank if lora_to_last and row["lora"] else 0)
        logits = z = tap @ (layer["weight"] + (0 if lora_to_last else low_rank)) + layer["bias"]
        if layer is not params[-1]:
            mean, var = layer["mean"], layer["var"]
            if "s" in row["bn"]:
                mean, var = z.mean(axis=0), ((z - z.mean(axis=0)) ** 2).mean(axis=0)
            z = (z - mean) / np.sqrt(var + 1e-5) * layer["gamma"] + layer["beta"]
            tap = z * (z > 0)
            if margins is not None:
                margins.append(np.abs(z).min())
    odds = np.exp(logits + skip)
    return -np.log((odds / odds.sum(axis=1, keepdims=True))[np.arange(len(x)), labels]).mean()


def same_bytes(before, after):
    if before is None or after is None:
        return before is after
    return before.dtype == after.dtype and before.tobytes() == after.tobytes()


def copy_of(params):
    return [{k: None if v is None else v.copy() for k, v in layer.items()} for layer in params]


def take_step(method, params, rows, x, labels):
    """One step of the oracle, from the cache where the method has one."""
    options = {"lora_to_last": method.lora_to_last}
    if method.cached:
        taps, base_logits, _ = oracle.net_forward(params, rows, x, **options)
        options |= {"cached": (taps, base_logits)}
        x = None
    return oracle.net_step(params, rows, x, labels, LEARNING_RATE, **options)


@pytest.mark.parametrize("depth", WIDTHS, ids="depth {}".format)
@pytest.mark.parametrize(("method", "bn"), CASES.values(), ids=CASES)
def test_net_step_matches_finite_differences(method, bn, depth):
    rows = make_rows(method, bn, depth)
    params = make_params(depth, lora_to_last=method.lora_to_last)
    x, labels = make_batch(depth)

    def loss_with(index, name, value, **extra):
        changed = [
            layer | ({name: value} if at == index else {}) for at, layer in enumerate(params)
        ]
        return plain_loss(changed, rows, x, labels, lora_to_last=method.lora_to_last, **extra)

    margins = []
    expected_loss = loss_with(None, None, None, margins=margins)
    assert min(margins) > 100 * STEP, "a ReLU so near its kink spoils the differences: other seed"
    before = copy_of(params)
    after, loss, grads = take_step(method, params, rows, x, labels)
    assert loss == pytest.approx(expected_loss, rel=1e-12)

    for index, layer in enumerate(before):
        last = index == depth - 1
        trained = set(method.trained[last].split())
        if not last and bn != method.bn:
            trained = (trained - {"gamma", "beta"}) | ({"gamma", "beta"} if "w" in bn else set())
        updated = {"mean", "var"} if "s" in bn and not last else set()
        assert set(grads[index]) == trained
        for name in TENSORS:
            assert same_bytes(layer[name], params[index][name]), "the caller's array was written to"
            if name in trained:
                step = (layer[name] - after[index][name]) / LEARNING_RATE
                numeric = central_difference(
                    lambda value, at=(index, name): loss_with(*at, value), layer[name]
                )
                cancelled = name == "bias" and "s" in bn and not last
                assert_same_gradient(grads[index][name], numeric, zero=cancelled)
                np.testing.assert_allclose(step, grads[index][name], rtol=1e-9, atol=1e-12)
            elif name not in updated:
                assert same_bytes(layer[name], after[index][name])


@pytest.mark.parametrize("depth", WIDTHS, ids="depth {}".format)
@pytest.mark.parametrize("name", [name for name in METHODS if "s" in METHODS[name].bn])
def test_running_statistics_are_those_of_what_batch_norm_saw(name, depth):
    method = METHODS[name]
    rows, params = make_rows(method, method.bn, depth), make_params(depth, lora_to_last=False)
    x, labels = make_batch(depth)
    after, _, _ = take_step(method, params, rows, x, labels)
    layer, z = params[0], x @ params[0]["weight"] + params[0]["bias"]
    if rows[0]["lora"]:
        z = z + x @ layer["lora_a"] @ layer["lora_b"]
    variance = ((z - z.mean(axis=0)) ** 2).sum(axis=0) / (len(z) - 1)
    expected_mean = 0.9 * layer["mean"] + 0.1 * z.mean(axis=0)
    np.testing.assert_allclose(after[0]["mean"], expected_mean, rtol=1e-12)
    np.testing.assert_allclose(after[0]["var"], 0.9 * layer["var"] + 0.1 * variance, rtol=1e-12)
    for old, new in zip(params[:-1], after[:-1], strict=True):
        assert not same_bytes(old["mean"], new["mean"])
        assert not same_bytes(old["var"], new["var"])
    assert after[-1]["mean"] is None


def test_taps_follow_batch_norm_and_relu():
    params, (x, _) = make_params(3, lora_to_last=True), make_batch(3)
    rows = make_rows(METHODS["skip-lora"], "", 3)
    taps, base_logits, _ = oracle.net_forward(params, rows, x, lora_to_last=True)
    assert [tap.shape for tap in taps] == [(N_ROWS, width) for width in WIDTHS[3][:-1]]
    np.testing.assert_array_equal(taps[0], x)
    for (tap, next_tap), layer in zip(pairwise(taps), params[:-1], strict=True):
        scale = layer["gamma"] / np.sqrt(layer["var"] + 1e-5)  # batch norm folded into the layer
        bias = (layer["bias"] - layer["mean"]) * scale + layer["beta"]
        folded = tap @ (layer["weight"] * scale) + bias
        np.testing.assert_allclose(next_tap, np.maximum(folded, 0), rtol=1e-12, atol=1e-14)
        assert (next_tap == 0).any()
        assert (next_tap > 0).any()
    expected_logits = taps[-1] @ params[-1]["weight"] + params[-1]["bias"]  # no adapter in c^n
    np.testing.assert_allclose(base_logits, expected_logits, rtol=1e-12)


def test_skip2_lora_trains_as_skip_lora():
    depth, n_samples, batch_size = 3, 11, 4  # the last batch of an epoch is short
    x, labels = make_batch(depth, n_samples)
    rows = make_rows(METHODS["skip-lora"], "", depth)
    start = plain = from_cache = make_params(depth, lora_to_last=True)
    taps, base_logits, _ = oracle.net_forward(start, rows, x, lora_to_last=True)  # filled once
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(n_samples)
        for batch in np.split(order, range(batch_size, n_samples, batch_size)):
            rest, skip = (labels[batch], LEARNING_RATE), {"lora_to_last": True}
            cached = [tap[batch] for tap in taps], base_logits[batch]
            plain, loss, _ = oracle.net_step(plain, rows, x[batch], *rest, **skip)
            from_cache, same, _ = oracle.net_step(
                from_cache, rows, None, *rest, cached=cached, **skip
            )
            assert same == pytest.approx(loss, rel=1e-12)
    for first, trained, other in zip(start, plain, from_cache, strict=True):
        for name in ("lora_a", "lora_b"):
            assert np.abs(trained[name] - first[name]).max() > 1e-3
            np.testing.assert_allclose(other[name], trained[name], rtol=1e-10, atol=1e-12)


def test_lora_last_is_skip_lora_with_one_adapter():
    params, (x, labels) = make_params(3, lora_to_last=False), make_batch(3)
    rows = make_rows(METHODS["lora-last"], "", 3)
    own = oracle.net_step(params, rows, x, labels, LEARNING_RATE)
    to_last = oracle.net_step(params, rows, x, labels, LEARNING_RATE, lora_to_last=True)
    assert own[1] == to_last[1]
    assert all(same_bytes(own[0][-1][name], to_last[0][-1][name]) for name in TENSORS)


def test_zero_adapters_leave_the_loss_of_the_network():
    x, labels = make_batch(3)
    for name, lora_to_last in (("lora-all", False), ("skip-lora", True)):
        params = make_params(3, lora_to_last=lora_to_last)
        for layer in params:
            layer["lora_b"] = np.zeros_like(layer["lora_b"])
        rows = make_rows(METHODS[name], "", 3)
        bare = [row | {"lora": ""} for row in rows]
        assert (
            oracle.net_step(params, rows, x, labels, 0.0, lora_to_last=lora_to_last)[1]
            == oracle.net_step(params, bare, x, labels, 0.0)[1]
        )


def test_hidden_layer_without_batch_norm():
    params, (x, labels) = make_params(2, lora_to_last=False), make_batch(2)
    params[0] |= dict.fromkeys(("gamma", "beta", "mean", "var"))
    for layer in params:
        layer |= {"lora_a": None, "lora_b": None}
    rows = make_rows(METHODS["ft-all"], "", 2)
    after, loss, grads = oracle.net_step(params, rows, x, labels, LEARNING_RATE)
    y = oracle.relu_forward(x @ params[0]["weight"] + params[0]["bias"])
    logits = y @ params[1]["weight"] + params[1]["bias"]
    assert loss == oracle.softmax_cross_entropy(logits, labels)[0]

    def loss_with(weight):
        return oracle.net_step([params[0] | {"weight": weight}, params[1]], rows, x, labels, 0.0)[1]

    assert_same_gradient(grads[0]["weight"], central_difference(loss_with, params[0]["weight"]))
    assert after[0]["mean"] is after[0]["gamma"] is after[0]["lora_a"] is None


@pytest.mark.parametrize(
    ("asked", "value"), [("fc", "yb"), ("lora", "yw"), ("bn", "w")], ids=["fc", "lora", "bn"]
)
def test_a_gradient_that_never_arrives_is_refused(asked, value):
    params, (x, labels) = make_params(2, lora_to_last=False), make_batch(2)
    rows = make_rows(METHODS["ft-last"], "", 2)
    rows[0][asked] = value
    with pytest.raises(AssertionError, match="gets no gradient"):
        oracle.net_step(params, rows, x, labels, LEARNING_RATE)
