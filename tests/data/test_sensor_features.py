"""Statistics and spectra of windows, against NumPy by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sensor_data import motion
from skip2lora.data.sensor_features import FEATURES, features_of, n_features


@pytest.mark.parametrize("names", [("statistics",), ("spectrum",), ("statistics", "spectrum")])
@pytest.mark.parametrize(("rows", "channels"), [(128, 3), (7, 2), (1, 1), (2, 1)])
def test_as_many_as_is_said(names: tuple[str, ...], rows: int, channels: int) -> None:
    x = np.random.default_rng(0).normal(size=(5, rows, channels)).astype(np.float32)
    values = features_of(names, x)
    assert (values.shape, values.dtype) == ((5, n_features(names, rows, channels)), np.float32)
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(features_of(names, x[2:3])[0], values[2])


def test_statistics() -> None:
    x = motion("walk", 100)[None]
    values = features_of(("statistics",), x)[0]
    first = x[0, :, 0].astype(np.float64)
    centred = first - first.mean()
    steps = np.diff(first)
    expected = [
        first.mean(), first.std(), first.min(), first.max(), *np.quantile(first, [0.25, 0.5, 0.75]),
        np.sqrt((first**2).mean()), np.abs(steps).mean(),
        (centred[1:] * centred[:-1] < 0).mean(), (centred**3).mean() / first.std() ** 3,
        (centred**4).mean() / first.std() ** 4 - 3,
    ]  # fmt: skip
    np.testing.assert_allclose(values[:12], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        values[36:], np.corrcoef(x[0].T)[np.triu_indices(3, 1)], rtol=1e-4, atol=1e-5
    )


def test_a_channel_that_stands_still_has_no_shape() -> None:
    x = np.full((1, 20, 2), 3e4, np.float32)
    x[0, :, 1] = np.arange(20)
    values = features_of(("statistics",), x)[0]
    assert values[1] == 0
    assert values[9:12].tolist() == [0, 0, 0]
    assert values[24] == 0  # its correlation


def test_a_tone_stands_in_its_band() -> None:
    """The mean is the first number of a channel; a tone of 2 Hz at 50 is in band 5 of 128 rows."""
    times = np.arange(128) / 50
    tone = (7 + np.sin(2 * np.pi * 2.0 * times)).astype(np.float32)[None, :, None]
    values = features_of(("spectrum",), tone)[0]
    assert values[0] == pytest.approx(7, abs=0.05)
    band = int(np.argmax(values[1:]))
    assert band == (2.0 * 128 / 50 - 1) // 2
    assert values[1:][band] > values[1:][band + 4 :].max() + 2  # decades


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 40, 64, 65, 66, 128])
def test_bands_are_sums_over_frequencies_by_hand(rows: int) -> None:
    """Each frequency but the first is in one band, up to 32 of as equal widths as may be."""
    x = np.random.default_rng(rows).normal(size=rows) + 3
    values = features_of(("spectrum",), x.astype(np.float32)[None, :, None])[0]
    assert values[0] == pytest.approx(x.mean(), rel=1e-5)
    times, n_frequencies = np.arange(rows), rows // 2
    taper = np.sin(np.pi * (times + 1) / (rows + 1)) ** 2  # of Hann, without its zeros
    tapered = (x - x.mean()) * taper / np.sqrt((taper**2).sum())
    power = [
        abs(sum(tapered * np.exp(-2j * np.pi * number * times / rows))) ** 2
        for number in range(1, n_frequencies + 1)
    ]
    n_bands = min(32, n_frequencies)
    assert len(values) == 1 + n_bands
    ends = [round(n_frequencies * at / n_bands) for at in range(n_bands + 1)] if n_bands else []
    for at in range(n_bands):
        band = float(np.mean(power[ends[at] : ends[at + 1]]))
        assert values[1 + at] == pytest.approx(math.log10(max(band, 1e-12)), abs=1e-3)


def test_silence_is_the_least_power() -> None:
    values = features_of(("spectrum",), np.full((1, 64, 1), 5, np.float32))[0]
    np.testing.assert_allclose(values, [5] + [-12] * 32)


def test_the_mean_changes_no_band() -> None:
    x = motion("run", 128)[None]
    offset = features_of(("spectrum",), x + np.float32(10)).reshape(3, 33)
    np.testing.assert_allclose(
        offset[:, 1:], features_of(("spectrum",), x).reshape(3, 33)[:, 1:], atol=1e-4
    )


def test_words() -> None:
    assert FEATURES == ("statistics", "spectrum")
