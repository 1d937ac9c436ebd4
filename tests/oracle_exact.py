"""The convex fit of all columns at once in float64 NumPy and SciPy; see oracle.py.

The objective is sum_i weight_i loss(offset_i + z_i W + bias, target_i) + penalty / 2 |W|^2.
"""

import numpy as np

import oracle


def losses(loss, logits, targets):
    """The loss of each sample, and its gradient; all (n, outputs) but the loss, (n,)."""
    if loss == "softmax":
        top = logits.max(axis=1, keepdims=True)
        sums = np.exp(logits - top).sum(axis=1, keepdims=True)
        normal = top + np.log(sums)
        grad = np.exp(logits - normal) * targets.sum(axis=1, keepdims=True) - targets
        return (normal * targets - logits * targets).sum(axis=1), grad
    if loss == "sigmoid":
        value = (np.logaddexp(0, logits) - logits * targets).sum(axis=1)
        return value, 0.5 + 0.5 * np.tanh(0.5 * logits) - targets
    return 0.5 * ((logits - targets) ** 2).sum(axis=1), logits - targets


def objective(loss, z, targets, weight, penalty, weights, bias, offsets=0.0):
    """The objective and its gradients by ``weights``, (columns, outputs), and ``bias``."""
    value, grad = losses(loss, offsets + z @ weights + bias, targets)
    grad = grad * weight[:, None]
    total = weight @ value + penalty / 2 * (weights**2).sum()
    return total, z.T @ grad + penalty * weights, grad.sum(axis=0)


def solve(loss, z, targets, weight, penalty, offsets=None):
    """The best ``weights`` and ``bias``, and the objective.

    It is solved along the principal axes of the samples, in which |W| stays as it is.
    """
    from scipy.optimize import minimize

    z, targets, weight = oracle.wide(z, targets, weight)
    offsets = np.zeros_like(targets) if offsets is None else np.asarray(offsets, np.float64)
    left, sizes, axes = np.linalg.svd(z, full_matrices=False)
    keep = sizes > 1e-12 * max(sizes.max(), 1e-300)
    features, axes = left[:, keep] * sizes[keep], axes[keep]
    shape = (features.shape[1] + 1, targets.shape[1])

    def value(flat):
        both = flat.reshape(shape)
        total, by_weights, by_bias = objective(
            loss, features, targets, weight, penalty, both[:-1], both[-1], offsets
        )
        return total, np.concatenate([by_weights, by_bias[None]]).ravel()

    options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-15, "gtol": 1e-11, "maxcor": 30}
    best = minimize(value, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options)
    both = best.x.reshape(shape)
    return axes.T @ both[:-1], both[-1], float(best.fun)
