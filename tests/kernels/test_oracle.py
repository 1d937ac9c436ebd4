"""The oracle against finite differences, and against the paper's forward pass written plainly."""

import numpy as np
import pytest

import oracle
from kernels.differences import STEP, assert_same_gradient, central_difference, normal

RANK = 2
FC_TYPES = ("y", "ywbx", "ywb", "ybx", "yb", "yx")  # Table 1, upper half
LORA_TYPES = ("ywx", "yw")  # Table 1, lower half


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
