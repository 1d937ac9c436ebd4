"""The oracle against finite differences, and against the paper's forward pass written plainly."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

import oracle

STEP = 1e-6  # of the central differences
TOLERANCE = 1e-7  # absolute, where the largest gradient is between 0.001 and 100
LEARNING_RATE = 0.05
RANK = 2
N_ROWS = 7
WIDTHS = {2: (5, 4, 3), 3: (5, 4, 6, 3), 4: (5, 4, 6, 4, 3)}  # depth -> widths
TENSORS = ("weight", "bias", "gamma", "beta", "mean", "var", "lora_a", "lora_b")
FC_TYPES = ("y", "ywbx", "ywb", "ybx", "yb", "yx")  # Table 1, upper half
LORA_TYPES = ("ywx", "yw")  # Table 1, lower half


def central_difference(scalar, array):
    """d scalar(array) / d array, element by element."""
    gradient = np.empty_like(array)
    for place in np.ndindex(array.shape):
        above, below = array.copy(), array.copy()
        above[place] += STEP
        below[place] -= STEP
        gradient[place] = (scalar(above) - scalar(below)) / (2 * STEP)
    return gradient


def assert_same_gradient(actual, expected, *, zero=False):
    """Close to the finite difference, which must not be trivially zero (or must be, if asked)."""
    assert actual.shape == expected.shape
    assert actual.dtype == np.float64
    if zero:
        assert np.abs(expected).max() < TOLERANCE
        np.testing.assert_allclose(actual, 0, atol=1e-12, equal_nan=False)
    else:
        assert 1e-3 < np.abs(expected).max() < 100
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE, equal_nan=False)


def normal(seed, *shape):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


# One function at a time


@pytest.mark.parametrize("types", FC_TYPES)
def test_fc_backward_matches_finite_differences(types):
    tensors = {"x": normal(1, 4, 5), "w": normal(2, 5, 3), "b": normal(3, 3)}
    gy = normal(4, 4, 3)

    def scalar(**changed):
        at = tensors | changed
        return (oracle.fc_forward(at["x"], at["w"], at["b"]) * gy).sum()

    grads = oracle.fc_backward(types, tensors["x"], gy, tensors["w"])
    assert set(grads) == set(types) - {"y"}
    for name, grad in grads.items():
        numeric = central_difference(
            lambda value, name=name: scalar(**{name: value}), tensors[name]
        )
        assert_same_gradient(grad, numeric)


@pytest.mark.parametrize("types", LORA_TYPES)
def test_lora_backward_matches_finite_differences(types):
    tensors = {"x": normal(1, 4, 5), "a": normal(2, 5, RANK), "b": normal(3, RANK, 3)}
    gy = normal(4, 4, 3)

    def scalar(**changed):
        at = tensors | changed
        return (oracle.lora_forward(at["x"], at["a"], at["b"])[1] * gy).sum()

    hidden, _ = oracle.lora_forward(*tensors.values())
    grads = oracle.lora_backward(types, tensors["x"], hidden, gy, tensors["a"], tensors["b"])
    assert set(grads) == {"gh", "a", "b"} | ({"x"} & set(types))
    gh = grads.pop("gh")
    assert_same_gradient(gh, central_difference(lambda h: (h @ tensors["b"] * gy).sum(), hidden))
    for name, grad in grads.items():
        numeric = central_difference(
            lambda value, name=name: scalar(**{name: value}), tensors[name]
        )
        assert_same_gradient(grad, numeric)


@pytest.mark.parametrize("batch_statistics", [True, False], ids=["batch", "frozen"])
def test_bn_backward_matches_finite_differences(batch_statistics):
    tensors = {"z": 2 * normal(1, 6, 4) + 1, "gamma": normal(2, 4), "beta": normal(3, 4)}
    mean, var, gy = normal(4, 4), normal(5, 4) ** 2 + 0.5, normal(6, 6, 4)

    def forward(**changed):
        at = (tensors | changed).values()
        if batch_statistics:
            return oracle.bn_forward_batch(*at, 1e-5)
        return oracle.bn_forward_frozen(*at, mean, var, 1e-5)

    cache = forward()[1]
    grads = oracle.bn_backward(gy, tensors["gamma"], cache, batch_statistics=batch_statistics)
    for (name, value), grad in zip(tensors.items(), grads, strict=True):
        numeric = central_difference(
            lambda value, name=name: (forward(**{name: value})[0] * gy).sum(), value
        )
        assert_same_gradient(grad, numeric)


def test_relu_backward_matches_finite_differences():
    z, gy = normal(1, 6, 4), normal(2, 6, 4)
    assert np.abs(z).min() > 10 * STEP
    assert (z > 0).any()
    assert (z < 0).any()
    numeric = central_difference(lambda value: (oracle.relu_forward(value) * gy).sum(), z)
    assert_same_gradient(oracle.relu_backward(gy, z), numeric)


@pytest.mark.parametrize("n_rows", [1, 2, 7])
def test_softmax_cross_entropy_matches_finite_differences(n_rows):
    logits, labels = 2 * normal(1, n_rows, 3), np.arange(n_rows) % 3
    loss, grad = oracle.softmax_cross_entropy(logits, labels)
    numeric = central_difference(lambda v: oracle.softmax_cross_entropy(v, labels)[0], logits)
    assert_same_gradient(grad, numeric)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert loss == pytest.approx(-np.log(softmax[np.arange(n_rows), labels]).mean(), rel=1e-12)


# What finite differences cannot see: the forward pass itself


def test_fc_forward_is_the_scalar_loop_of_algorithm_2():
    x, weight, bias = normal(1, 4, 5), normal(2, 5, 3), normal(3, 3)
    y = np.empty((4, 3))
    for row, column in np.ndindex(y.shape):
        y[row, column] = bias[column]
        for k in range(5):
            y[row, column] += x[row, k] * weight[k, column]
    np.testing.assert_allclose(oracle.fc_forward(x, weight, bias), y, rtol=1e-13)


def test_lora_forward_is_a_low_rank_weight():
    x, wa, wb = normal(1, 4, 5), normal(2, 5, RANK), normal(3, RANK, 3)
    hidden, y_b = oracle.lora_forward(x, wa, wb)
    np.testing.assert_allclose(hidden, oracle.fc_forward(x, wa, np.zeros(RANK)), rtol=1e-13)
    np.testing.assert_allclose(y_b, x @ (wa @ wb), rtol=1e-12)


def test_bn_forward_batch_by_hand():
    z, gamma, beta = np.array([[1.0, 5], [3, 5]]), np.array([2.0, 2]), np.array([10.0, 20])
    y, (z_hat, inverse_std) = oracle.bn_forward_batch(z, gamma, beta, 0.25)
    np.testing.assert_allclose(inverse_std, [1 / np.sqrt(1.25), 2], rtol=1e-14)  # variances 1, 0
    np.testing.assert_allclose(z_hat, [[-1 / np.sqrt(1.25), 0], [1 / np.sqrt(1.25), 0]], rtol=1e-14)
    np.testing.assert_allclose(y, gamma * z_hat + beta, rtol=1e-14)


def test_bn_forward_frozen_by_hand():
    z, gamma, beta = np.array([[1.0], [3]]), np.array([2.0]), np.array([10.0])
    y, (z_hat, inverse_std) = oracle.bn_forward_frozen(z, gamma, beta, [2.0], [3.75], 0.25)
    np.testing.assert_allclose(inverse_std, [0.5], rtol=1e-14)
    np.testing.assert_allclose(z_hat, [[-0.5], [0.5]], rtol=1e-14)
    np.testing.assert_allclose(y, [[9], [11]], rtol=1e-14)


def test_bn_eps_is_1e_5_unless_told():
    z, ones, zeros = normal(1, 6, 4), np.ones(4), np.zeros(4)
    for forward, rest in ((oracle.bn_forward_batch, ()), (oracle.bn_forward_frozen, (zeros, ones))):
        told = forward(z, ones, zeros, *rest, 1e-5)[0]
        np.testing.assert_array_equal(forward(z, ones, zeros, *rest)[0], told)


def test_bn_running_takes_a_tenth_of_the_unbiased_variance():
    mean, var = oracle.bn_running(np.array([[1.0], [3]]), [7.0], [4.0])  # unbiased 2, biased 1
    np.testing.assert_allclose([mean, var], [[0.9 * 7 + 0.1 * 2], [0.9 * 4 + 0.1 * 2]], rtol=1e-14)
    mean, var = oracle.bn_running(np.array([[1.0], [3]]), [7.0], [4.0], momentum=1.0)
    np.testing.assert_allclose([mean, var], [[2], [2]], rtol=1e-14)


def test_batch_statistics_refuse_one_row():
    with pytest.raises(AssertionError, match="2 rows"):
        oracle.bn_forward_batch(np.ones((1, 4)), np.ones(4), np.zeros(4), 1e-5)


def test_relu_at_zero():
    z = np.array([-2.0, -0.0, 0.0, 3.0])
    np.testing.assert_array_equal(oracle.relu_forward(z), [0, 0, 0, 3])
    np.testing.assert_array_equal(oracle.relu_backward(np.full(4, 5.0), z), [0, 0, 0, 5])


def test_softmax_cross_entropy_by_hand():
    loss, grad = oracle.softmax_cross_entropy([[0.0, 0, 0], [np.log(2), 0, 0]], [2, 0])
    assert loss == pytest.approx((np.log(3) + np.log(2)) / 2, rel=1e-14)
    np.testing.assert_allclose(grad, [[1 / 6, 1 / 6, -1 / 3], [-1 / 4, 1 / 8, 1 / 8]], rtol=1e-14)


def test_softmax_cross_entropy_does_not_overflow():
    loss, grad = oracle.softmax_cross_entropy([[1000.0, 0, -1000]], [1])
    assert loss == 1000
    np.testing.assert_array_equal(grad, [[1, -1, 0]])


def test_float32_in_float64_out():
    shapes = ((4, 5), (5, 3), (4, 3), (3,), (5, 2), (2, 3), (4, 2))
    singles = [normal(1, *shape).astype(np.float32) for shape in shapes]

    def everything(x, weight, gy, bias, wa, wb, hidden):
        y, cache = oracle.bn_forward_batch(gy, bias, bias)
        y_frozen, frozen_cache = oracle.bn_forward_frozen(gy, bias, bias, bias, np.abs(bias))
        return [
            *(oracle.fc_forward(x, weight, bias), *oracle.lora_forward(x, wa, wb), y, y_frozen),
            *(*cache, *frozen_cache, *oracle.bn_running(gy, bias, bias)),
            *oracle.bn_backward(gy, bias, (gy, bias), batch_statistics=True),
            *oracle.fc_backward("ywbx", x, gy, weight).values(),
            *oracle.lora_backward("ywx", x, hidden, gy, wa, wb).values(),
            *(oracle.relu_forward(gy), oracle.relu_backward(gy, gy)),
            *oracle.softmax_cross_entropy(gy, [0, 1, 2, 0]),
        ]

    found, exact = everything(*singles), everything(*(s.astype(np.float64) for s in singles))
    assert {array.dtype for array in found} == {np.dtype(np.float64)}
    for array, same in zip(found, exact, strict=True):
        np.testing.assert_array_equal(array, same)


# The whole network, method by method


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
