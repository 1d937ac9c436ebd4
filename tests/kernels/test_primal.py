"""The solver in the columns against its objective in float64 and against the one in the samples."""

import numpy as np
import pytest

from kernels.convex import LOSSES, in_lanes, problem
from skip2lora import _core

PENALTIES = (1.0, 1e-3, 1e-5)
TOLERANCE, EXCESS = 1e-5, 1e-4  # asked for, and what the objective may have above its least


@pytest.fixture(params=_core.kernel_tables(), autouse=True)
def kernels(request, monkeypatch):
    monkeypatch.setenv("SKIP2_KERNELS", request.param)


def primal_of(of, taps=None, **changed):
    scale = (of.scale * np.sqrt(of.factor)).astype("f4")
    offsets = None if of.offsets is None else in_lanes(of.offsets)
    given = {
        "rows": of.rows,
        "taps": [(of.first, of.width)] if taps is None else taps,
        "mean": of.mean,
        "scale": scale,
        "loss": LOSSES[of.loss],
        "targets": in_lanes(of.targets),
        "weights": in_lanes(of.weights),
        "offsets": offsets,
    }
    return _core.PrimalProblem(**{**given, **changed})


def start(of):
    _, products, bias = of.start()
    return np.zeros((of.n_outputs, of.width), np.float32), products, bias


def path(of, subset=None, penalties=PENALTIES, tolerance=TOLERANCE):
    """From the strongest penalty, each starting where the one before ended."""
    primal, solution = primal_of(of), start(of)
    metric = _core.Metric(primal, subset)
    for penalty in penalties:
        metric.factorize(primal, penalty, *solution)
        report = metric.solve(primal, penalty, tolerance, *solution)
        assert report.converged
        yield penalty, report, *solution


LEAST = {}  # the same for every table, and slow


def least_of(of, penalty, weights, bias):
    arrays = (of.rows, of.targets, of.weights, np.zeros(0) if of.offsets is None else of.offsets)
    key = (of.loss, penalty, *(array.tobytes() for array in arrays))
    if key not in LEAST:
        LEAST[key] = of.least(penalty, weights, bias)
    return LEAST[key]


def check_path(of, subset=None, penalties=PENALTIES):
    for penalty, report, weights, products, bias in path(of, subset, penalties):
        wide = weights.T.astype(np.float64)
        value, _, _ = of.objective(wide, bias, penalty)
        least = least_of(of, penalty, wide, bias)
        assert value - least <= EXCESS * max(least, 1e-3)
        assert report.objective == pytest.approx(value, rel=1e-5, abs=1e-6)
        logits = in_lanes(of.z @ wide)
        np.testing.assert_allclose(products, logits, rtol=0, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
@pytest.mark.parametrize("n_outputs", [1, 3, 17])
def test_the_least_objective(loss, n_outputs):
    check_path(problem(loss, n=100, width=24, n_outputs=n_outputs))


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
def test_the_least_objective_with_a_subset(loss):
    of = problem(loss, n=150, width=40, n_outputs=3)
    check_path(of, np.random.default_rng(0).choice(150, 70, replace=False).astype(np.uint32))


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
@pytest.mark.parametrize("n_subset", [0, 50])
def test_weights_offsets_and_smoothing(loss, n_subset):
    random = np.random.default_rng(1)
    weights, offsets = random.uniform(0.2, 3, 130), random.normal(size=(130, 4)).astype("f4")
    weights[20:45] = 0  # a fold
    subset = np.arange(n_subset, dtype=np.uint32) if n_subset else None
    check_path(problem(loss, n=130, smoothing=0.1, weights=weights, offsets=offsets), subset)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
@pytest.mark.parametrize("n", [60, 150])  # fewer samples than columns, and more
def test_the_solution_is_that_of_the_other_solver(loss, n):
    of = problem(loss, n=n, width=80)
    dual, (coefficients, other_products, other_bias) = of.dual(), of.start()
    for penalty, _, weights, products, bias in path(of, penalties=(1.0, 1e-2), tolerance=1e-8):
        dual.solve(penalty, 1e-8, coefficients, other_products, other_bias)
        other = of.weights_of(coefficients).T
        np.testing.assert_allclose(weights, other, rtol=0, atol=2e-3 * np.abs(other).max())
        np.testing.assert_allclose(products, other_products, rtol=0, atol=5e-3)
        np.testing.assert_allclose(bias, other_bias, rtol=0, atol=2e-3)


def test_folds_share_a_metric():
    weights = np.ones(100)
    weights[30:60] = 0
    whole, fold = problem(n=100, width=24), problem(n=100, width=24, weights=weights)
    metric, solution = _core.Metric(primal_of(whole)), start(fold)
    for penalty in PENALTIES:
        metric.factorize(primal_of(fold), penalty, *solution)
        assert metric.solve(primal_of(fold), penalty, TOLERANCE, *solution).converged
        wide = solution[0].T.astype(np.float64)
        value, _, _ = fold.objective(wide, solution[2], penalty)
        least = least_of(fold, penalty, wide, solution[2])
        assert value - least <= EXCESS * max(least, 1e-3)


def test_taps_stand_side_by_side():
    of = problem(n=100, width=40)
    gone = of.rows.copy()
    gone[:, 10:15] = np.nan  # nobody reads what is between them
    taps = [(20, 20), (0, 10)]
    some = primal_of(of, taps, rows=gone)
    order = [*range(20, 40), *range(10)]
    together = primal_of(
        of,
        [(0, 30)],
        rows=np.ascontiguousarray(of.rows[:, order]),
        mean=of.mean[order].copy(),
        scale=(of.scale * np.sqrt(of.factor)).astype("f4")[order].copy(),
    )
    assert some.width == together.width == 30
    results = []
    for primal in (some, together):
        solution = np.zeros((4, 30), np.float32), *start(of)[1:]
        metric = _core.Metric(primal)
        metric.factorize(primal, 1e-2, *solution)
        metric.solve(primal, 1e-2, TOLERANCE, *solution)
        results.append(solution)
    for got, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_scikit_learn_finds_no_better():
    linear_model = pytest.importorskip("sklearn.linear_model")
    of = problem(n=100, width=30, n_outputs=3)
    for penalty, report, *_ in path(of, penalties=(1e-2,)):
        peer = linear_model.LogisticRegression(C=1 / (100 * penalty), tol=1e-8, max_iter=5000)
        peer.fit(of.z, of.targets.argmax(axis=1))
        value, _, _ = of.objective(peer.coef_.T, peer.intercept_, penalty)
        assert report.objective <= value * (1 + EXCESS)


def test_more_than_a_block_of_columns():
    """Blocks are half as high from 4,097 columns on."""
    of = problem(n=70, width=4100, n_outputs=2)
    subset = np.arange(0, 70, 2, dtype=np.uint32)
    for penalty, report, weights, _, bias in path(of, subset, penalties=(1e-1,)):
        value, *grad = of.objective(weights.T.astype(np.float64), bias, penalty)
        assert report.objective == pytest.approx(value, rel=1e-5)
        assert np.abs(grad[1]).max() < 1e-3  # the bias is free


def test_which_solver():
    choose, memory = _core.exact_choose, 10**9
    dual, primal, subset = _core.SOLVE_DUAL, _core.SOLVE_PRIMAL, _core.SOLVE_SUBSET
    assert choose(300, 34_480, 10, memory) == dual
    assert choose(2_000, 20_000, 10, memory) == dual
    assert choose(350, 100, 3, memory) == dual
    assert choose(351, 100, 3, memory) == primal
    assert choose(100_000, 448, 3, memory) == primal
    assert choose(100_000, 34_480, 10, memory) == subset
    assert choose(100_000, 34_480, 10, 10**6) == _core.SOLVE_NONE
    assert choose(2**31 - 1, 2**24, 1000, 2**63) == primal
    for n, width in ((300, 34_480), (100_000, 448), (100_000, 34_480)):
        bytes_needed = _core.solver_bytes(choose(n, width, 10, memory), n, width, 10)
        assert choose(n, width, 10, bytes_needed) == choose(n, width, 10, memory)
        assert choose(n, width, 10, bytes_needed - 1) != choose(n, width, 10, memory)


def test_what_a_solver_needs():
    """The matrices make most of it."""
    assert 4 * 2000**2 < _core.solver_bytes(_core.SOLVE_DUAL, 2000, 10, 3) < 5 * 2000**2
    assert 8 * 4000**2 < _core.solver_bytes(_core.SOLVE_PRIMAL, 9000, 4000, 3) < 9 * 4000**2
    assert _core.solver_bytes(_core.SOLVE_DUAL, 2**31 - 1, 1, 1) > 2**63
    assert _core.subset_size(100) == 100
    assert _core.subset_size(5000) == 312
    assert _core.subset_size(10**6) == 2000


def bad_problems():
    """Name, what is changed of a sound problem, a part of the message."""
    of = problem()
    nan = in_lanes(of.targets)
    nan[0, 0] = np.nan
    return {
        "no taps": ({"taps": []}, "taps"),
        "beyond": ({"taps": [(0, 71)]}, "columns"),
        "empty": ({"taps": [(3, 0)]}, "columns"),
        "mean": ({"mean": of.mean[1:].copy()}, "mean"),
        "loss": ({"loss": 3}, "loss"),
        "targets": ({"targets": nan[:, :32].copy()}, "targets"),
        "nan": ({"targets": nan}, "out of its range"),
        "weights": ({"weights": -in_lanes(of.weights)}, "out of its range"),
        "none": ({"weights": 0 * in_lanes(of.weights)}, "out of its range"),
        "offsets": ({"offsets": nan[1:].copy()}, "offsets"),
        "wide": ({"taps": [(0, 70)] * 250_000}, "columns"),
    }


@pytest.mark.parametrize("name", bad_problems())
def test_a_problem_that_is_none(name):
    changed, words = bad_problems()[name]
    with pytest.raises(ValueError, match=words):
        primal_of(problem(), changed.pop("taps", None), **changed)


def bad_calls():
    """Name, what is called with a metric, its problem and a solution, a part of the message."""
    some = np.array([90], np.uint32)
    other = primal_of(problem(n=91))
    return {
        "no factor": (lambda m, p, s: _core.Metric(p).solve(p, 1, 1e-5, *s), "no factor"),
        "subset": (lambda m, p, s: _core.Metric(p, some), "not there"),
        "no subset": (lambda m, p, s: _core.Metric(p, some[:0]), "no samples"),
        "penalty": (lambda m, p, s: m.factorize(p, -1, *s), "penalty"),
        "nan": (lambda m, p, s: m.solve(p, np.nan, 1e-5, *s), "penalty"),
        "tolerance": (lambda m, p, s: m.solve(p, 1, -1, *s), "tolerance"),
        "other rows": (lambda m, p, s: m.solve(other, 1, 1e-5, *s), "other rows"),
        "weights": (lambda m, p, s: m.solve(p, 1, 1e-5, s[0][1:], *s[1:]), "weights"),
        "products": (lambda m, p, s: m.solve(p, 1, 1e-5, s[0], s[1][:, :32], s[2]), "products"),
        "bias": (lambda m, p, s: m.factorize(p, 1, *s[:2], s[2][1:]), "bias"),
    }


@pytest.mark.parametrize("name", bad_calls())
def test_a_call_that_is_none(name):
    call, words = bad_calls()[name]
    primal, solution = primal_of(problem()), start(problem())
    metric = _core.Metric(primal)
    metric.factorize(primal, 1, *solution)
    with pytest.raises((ValueError, TypeError), match=words):
        call(metric, primal, solution)


def test_columns_that_are_not_finite():
    of = problem()
    of.rows[3, 3] = np.nan
    primal, solution = primal_of(of), start(of)
    metric = _core.Metric(primal)
    with pytest.raises(ValueError, match="not finite"):
        metric.factorize(primal, 1, *solution)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "squared"])
@pytest.mark.parametrize("n_subset", [0, 60])
def test_a_metric_of_everything_needs_few_passes(loss, n_subset):
    """A wrong one would lead to the same end, later."""
    of = problem(loss, n=60, width=80)
    subset = np.arange(n_subset, dtype=np.uint32) if n_subset else None
    passes = [report.iterations for _, report, *_ in path(of, subset, penalties=(1.0, 1e-1))]
    assert max(passes) <= 5
