"""Gradients by finite differences."""

import numpy as np

STEP = 1e-6  # of the central differences
TOLERANCE = 1e-7  # absolute, where the largest gradient is between 0.001 and 100


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
