"""The exact solver of the core against its objective in float64 and against scikit-learn."""

import numpy as np
import pytest

from kernels.convex import in_lanes, problem
from skip2lora import _core

PENALTIES = (1.0, 1e-2, 1e-3, 1e-5)
TOLERANCE, EXCESS = 1e-5, 1e-4  # asked for, and what the objective may have above its least


@pytest.fixture(params=_core.kernel_tables(), autouse=True)
def kernels(request, monkeypatch):
    monkeypatch.setenv("SKIP2_KERNELS", request.param)


def path(of, penalties=PENALTIES, tolerance=TOLERANCE):
    """From the strongest penalty, each starting where the one before ended."""
    dual, (coefficients, products, bias) = of.dual(), of.start()
    for penalty in penalties:
        report = dual.solve(penalty, tolerance, coefficients, products, bias)
        assert report.converged
        yield penalty, report, coefficients, products, bias


def check_path(of, penalties=PENALTIES):
    for penalty, report, coefficients, products, bias in path(of, penalties):
        weights = of.weights_of(coefficients)
        value, _, _ = of.objective(weights, bias, penalty)
        least = of.least(penalty, weights, bias)
        assert value - least <= EXCESS * max(least, 1e-3)
        assert report.objective == pytest.approx(value, rel=2e-4, abs=1e-6)
        logits = in_lanes(of.z @ weights)
        np.testing.assert_allclose(products, logits, rtol=0, atol=2e-3 * np.abs(logits).max())
        assert (coefficients[:, in_lanes(of.weights) == 0] == 0).all()


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
@pytest.mark.parametrize("n_outputs", [1, 3, 13])
def test_the_least_objective(loss, n_outputs):
    check_path(problem(loss, n_outputs=n_outputs))


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
def test_weights_offsets_and_smoothing(loss):
    random = np.random.default_rng(1)
    weights, offsets = random.uniform(0.2, 3, 90), random.normal(size=(90, 4)).astype("f4")
    weights[20:45] = 0  # a fold
    check_path(problem(loss, smoothing=0.1, weights=weights, offsets=offsets))
