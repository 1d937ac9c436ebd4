"""Features of a window: statistics and spectrum of each channel, for models that take no rows.

All are of one window alone, so that a window has the same numbers whatever is beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_N_STATISTICS = 12
_MOST_BANDS = 32
_LEAST = 1e-12  # of power, below which its logarithm tells nothing

Numbers = NDArray[np.float64]


def _pairs(n_channels: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(n_channels, 1)


def _statistics(windows: Numbers) -> Numbers:
    """Of (windows, rows, channels): 12 a channel, then correlations of channels.

    Mean, deviation, least, largest, quartiles and median, root mean square, mean step, crossings of
    the mean, skewness and excess kurtosis; the last two are 0 of a channel that stands still.
    """
    mean, std = windows.mean(axis=1), windows.std(axis=1)
    centred = windows - mean[:, None]
    still = std <= 1e-9 * np.maximum(1.0, np.abs(mean))
    scale = np.where(still, np.inf, std)
    low, median, high = np.quantile(windows, (0.25, 0.5, 0.75), axis=1)
    steps = np.diff(windows, axis=1)
    n_steps = max(1, steps.shape[1])
    crossings = (np.diff(np.signbit(centred), axis=1)).sum(axis=1) / n_steps
    shape = [((centred / scale[:, None]) ** power).mean(axis=1) for power in (3, 4)]
    of_each = np.stack(
        [
            mean, std, windows.min(axis=1), windows.max(axis=1), low, median, high,
            np.sqrt((windows * windows).mean(axis=1)), np.abs(steps).sum(axis=1) / n_steps,
            np.where(still, 0.0, crossings), shape[0], np.where(still, 0.0, shape[1] - 3),
        ], axis=2,
    )  # fmt: skip
    first, second = _pairs(windows.shape[2])
    together = (centred[:, :, first] * centred[:, :, second]).mean(axis=1)
    related = together / (scale[:, first] * scale[:, second])
    return np.concatenate([of_each.reshape(len(windows), -1), related], axis=1)


def _n_statistics(rows: int, n_channels: int) -> int:
    del rows
    return n_channels * _N_STATISTICS + n_channels * (n_channels - 1) // 2


def _bands(rows: int) -> NDArray[np.intp]:
    """Where bands of frequencies begin and end: places in the spectrum without its first."""
    n_frequencies = rows // 2
    n_bands = min(_MOST_BANDS, n_frequencies)
    return np.rint(np.linspace(0, n_frequencies, n_bands + 1)).astype(np.intp)


def _spectrum(windows: Numbers) -> Numbers:
    """Of (windows, rows, channels): the mean, then decades of power in bands up to half the rate.

    The mean is taken off and a Hann window laid over the rows before.
    """
    n_windows, rows = windows.shape[:2]
    mean: Numbers = windows.mean(axis=1)
    ends = _bands(rows)
    if len(ends) < 2:
        return mean
    taper = np.hanning(rows + 2)[1:-1]
    taper /= np.sqrt((taper * taper).sum())
    power = np.abs(np.fft.rfft((windows - mean[:, None]) * taper[:, None], axis=1)[:, 1:]) ** 2
    sums = np.add.reduceat(power, ends[:-1], axis=1) / np.diff(ends)[:, None]
    decades = np.log10(np.maximum(sums, _LEAST))
    both = np.concatenate([mean[:, None], decades], axis=1)  # (windows, 1 + bands, channels)
    return both.transpose(0, 2, 1).reshape(n_windows, -1)


def _n_spectrum(rows: int, n_channels: int) -> int:
    return n_channels * len(_bands(rows))


_COMPUTED: dict[str, tuple[Callable[[Numbers], Numbers], Callable[[int, int], int]]] = {
    "statistics": (_statistics, _n_statistics), "spectrum": (_spectrum, _n_spectrum),
}  # fmt: skip
#: What can be computed of a window.
FEATURES = tuple(_COMPUTED)


def n_features(names: Sequence[str], rows: int, n_channels: int) -> int:
    """How many numbers a window of so many rows and channels gives."""
    return sum(_COMPUTED[name][1](rows, n_channels) for name in names)


def features_of(names: Sequence[str], windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features of that name, side by side: (windows, rows, channels) to (windows, n)."""
    values = windows.astype(np.float64)
    computed = [_COMPUTED[name][0](values) for name in names]
    return np.concatenate(computed, axis=1).astype(np.float32)
