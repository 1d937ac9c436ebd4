"""The convex objective of skip2_exact.h in float64, its least value, and problems to solve."""

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize

from skip2lora import _core

LOSSES = {"softmax": _core.SOFTMAX, "sigmoid": _core.SIGMOID, "squared": _core.SQUARED}
LANES = _core.SAMPLE_LANES


def lanes_of(n_samples):
    return -(-n_samples // LANES) * LANES


def in_lanes(array):
    """(n, K) or (n,) as the core has it: (K, lanes) or (lanes,), zero beyond the samples."""
    padded = np.zeros((lanes_of(len(array)), *array.shape[1:]), np.float32)
    padded[: len(array)] = array
    return np.ascontiguousarray(padded.T)


def square(gram):
    """The (n, n) matrix of panels (lanes / 32, n, 32)."""
    return gram.transpose(1, 0, 2).reshape(gram.shape[1], -1)[:, : gram.shape[1]]


@dataclass
class Problem:
    """Rows, targets (n, K), weights that sum to 1; ``z``: the standardised columns in float64."""

    rows: np.ndarray
    targets: np.ndarray
    loss: str
    weights: np.ndarray
    offsets: np.ndarray | None = None
    first: int = 0
    width: int = 0
    mean: np.ndarray = field(init=False)
    scale: np.ndarray = field(init=False)

    def __post_init__(self):
        self.width = self.width or self.rows.shape[1] - self.first
        moments = _core.ColumnMoments(self.rows.shape[1])
        moments.add(self.rows)
        mean, var = (np.empty(self.rows.shape[1]) for _ in range(2))
        moments.finish(mean, var)
        of_tap = var[self.first : self.first + self.width]
        scale = 1 / np.sqrt(var + max(1e-3 * of_tap.mean(), 1e-12))
        self.mean, self.scale = mean.astype(np.float32), scale.astype(np.float32)
        gram = self.gram()
        self.factor = len(self.rows) / (_core.gram_trace(gram) or len(self.rows))
        self.panels = gram
        _core.gram_finish(gram, self.factor)

    def gram(self):
        """The lower half of the products, not finished."""
        n = len(self.rows)
        gram = np.zeros((lanes_of(n) // LANES, n, LANES), np.float32)
        _core.gram_add(self.rows, self.first, self.width, self.mean, self.scale, gram)
        return gram

    @property
    def z(self):
        part = slice(self.first, self.first + self.width)
        z = (self.rows[:, part].astype(np.float64) - self.mean[part]) * self.scale[part]
        return z * np.sqrt(self.factor)

    @property
    def n_outputs(self):
        return self.targets.shape[1]

    def dual(self):
        offsets = None if self.offsets is None else in_lanes(self.offsets)
        return _core.DualProblem(
            self.panels, LOSSES[self.loss], in_lanes(self.targets), in_lanes(self.weights), offsets
        )

    def start(self):
        shape = self.n_outputs, lanes_of(len(self.rows))
        return np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape[0], "f4")

    def weights_of(self, coefficients):
        """W (width, K) on ``z``."""
        weights = np.empty((self.width, self.n_outputs), np.float32)
        _core.column_weights(
            self.rows, self.first, self.width, self.mean, self.scale, coefficients, weights
        )
        return weights.astype(np.float64) * np.sqrt(self.factor)

    def objective(self, weights, bias, penalty):
        """Value and gradient by weights and bias."""
        logits = self.z @ weights + bias + (0 if self.offsets is None else self.offsets)
        losses, grad = LOSS[self.loss](logits, self.targets)
        value = self.weights @ losses + penalty / 2 * (weights**2).sum()
        grad = self.weights[:, None] * grad
        return value, self.z.T @ grad + penalty * weights, grad.sum(axis=0)

    def least(self, penalty, weights, bias):
        """The least objective, found from there, in coordinates in which it is round."""
        _, sizes, basis = np.linalg.svd(self.z, full_matrices=False)
        curved = np.sqrt(0.1 * sizes**2 / len(self.z) + penalty)[:, None]
        start = (basis @ weights) * curved

        def flat(v):
            part = v[: start.size].reshape(start.shape) / curved
            value, by_weights, by_bias = self.objective(basis.T @ part, v[start.size :], penalty)
            return value, np.concatenate([(basis @ by_weights / curved).ravel(), by_bias])

        options = {"maxiter": 3000, "maxfun": 3000, "ftol": 1e-12, "gtol": 1e-9, "maxcor": 30}
        at = np.concatenate([start.ravel(), bias]).astype(np.float64)
        return minimize(flat, at, jac=True, method="L-BFGS-B", options=options).fun


def softmax(logits, targets):
    off = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(off).sum(axis=1, keepdims=True))
    return (targets * (log_sum - off)).sum(axis=1), np.exp(off - log_sum) - targets


def sigmoid(logits, targets):
    losses = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    return losses.sum(axis=1), 1 / (1 + np.exp(-logits)) - targets


def squared(outputs, targets):
    off = outputs - targets
    return (off**2).sum(axis=1) / 2, off


LOSS = {"softmax": softmax, "sigmoid": sigmoid, "squared": squared}


def problem(loss="softmax", n=90, width=70, n_outputs=4, *, seed=0, smoothing=0.0, **changed):
    """Columns of unequal size that share a few causes, answers that follow some of these."""
    random = np.random.default_rng([seed, n, width, n_outputs])
    causes = random.normal(size=(n, 6))
    columns = causes @ random.normal(size=(6, width)) + 0.3 * random.normal(size=(n, width))
    rows = (columns * np.exp(random.normal(size=width)) + random.normal(size=width)).astype("f4")
    answers = causes @ random.normal(size=(6, n_outputs)) + random.normal(size=(n, n_outputs))
    if loss == "softmax":
        one_hot = np.eye(n_outputs)[answers.argmax(axis=1)]
        answers = (1 - smoothing) * one_hot + smoothing / n_outputs
    elif loss == "sigmoid":
        answers = (answers > 0).astype(float)
    weights = changed.pop("weights", np.ones(n))
    return Problem(rows, answers, loss, np.asarray(weights) / np.sum(weights), **changed)
