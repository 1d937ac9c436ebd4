"""scikit-learn's linear models on rows: on all taps, and on the last one.

Columns are standardised, scaled so that a sample has a mean square norm of 1, and turned onto the
principal axes of the samples to adapt to: L2 penalties do not see that, and n columns do for any
number. Strengths are those that `adapt` tries, 1 to 1e-6, by 4 folds or leave-one-out.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

PENALTIES = 10.0 ** -np.arange(7)


def axes(
    train: NDArray[np.float32], tests: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standardised columns of both on the principal axes of ``train``, (samples, axes)."""
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    deviation[deviation < 1e-6 * (np.abs(mean) + deviation.max())] = np.inf  # rounding alone
    z, z_tests = ((of - mean) / deviation for of in (train, tests))
    size = np.sqrt((z**2).sum(axis=1).mean())
    values, vectors = np.linalg.eigh(z @ z.T / size**2)
    there = values > 1e-7 * values[-1]
    turned = vectors[:, there] / np.sqrt(values[there])
    return (z @ z.T / size**2) @ turned, (z_tests @ z.T / size**2) @ turned


def logistic(
    train: NDArray[Any], y: NDArray[Any], tests: NDArray[Any], test_y: NDArray[Any]
) -> float:
    """Accuracy of multinomial logistic regression, its C by 4 folds."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegressionCV

    strengths = 1 / (len(y) * PENALTIES)
    folds = min(4, int(np.unique(y, return_counts=True)[1].min()))
    peer = LogisticRegressionCV(
        Cs=strengths, cv=max(2, folds), max_iter=2000, scoring="neg_log_loss", l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float((peer.fit(train, y).predict(tests) == test_y).mean())


def ridge(train: NDArray[Any], y: NDArray[Any], tests: NDArray[Any], test_y: NDArray[Any]) -> float:
    """Accuracy of ridge classification, its penalty by leave-one-out."""
    from sklearn.linear_model import RidgeClassifierCV

    peer = RidgeClassifierCV(alphas=len(y) * PENALTIES)
    return float((peer.fit(train, y).predict(tests) == test_y).mean())
