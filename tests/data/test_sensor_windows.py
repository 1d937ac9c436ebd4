"""Windows of streams are cut where they are needed, in the shape that a model takes."""

from __future__ import annotations

import numpy as np

from sensor_data import motion
from skip2lora.data.sensor_features import features_of
from skip2lora.data.sensor_files import Part, SensorFile
from skip2lora.data.sensor_options import Form, Sensors
from skip2lora.data.sensor_streams import Streams
from skip2lora.data.sensor_windows import SensorWindows, shaped

X = motion("walk", 40)


def windows(sensors: Sensors, form: Form, start: list[float]) -> SensorWindows:
    streams = Streams(3)
    times = np.arange(40) / 50
    streams.add(0, SensorFile(("a", "b", "c"), iter([Part(X, times)]), "t"), Sensors(time="t:s"))
    first = np.array([0, 7, 20])
    return SensorWindows(streams, sensors, form, first, first + 10, np.array(start))


def test_rows_of_a_stream() -> None:
    source = windows(Sensors(window=10, rate=50.0), Form("tc", (1, 10, 3)), [np.nan] * 3)
    assert source.shape == (3, 1, 10, 3)
    x = source.read(np.array([2, 0]))
    np.testing.assert_array_equal(x[:, 0], [X[20:30], X[:10]])
    assert source.digests(np.array([2, 0])) == source.digests(np.array([0, 2]))[::-1]


def test_rows_that_features_are_of_are_not_all_in_memory() -> None:
    import tracemalloc

    streams, x = Streams(1), np.random.default_rng(0).normal(size=(1 << 16, 1)).astype(np.float32)
    streams.add(0, SensorFile(("a",), iter([Part(x)])), Sensors())
    first = np.arange(0, 1 << 15, 8)
    sensors, form = Sensors(window=1024, features=("statistics",)), Form("features", (12,))
    source = SensorWindows(streams, sensors, form, first, first + 1024, np.full(len(first), np.nan))
    tracemalloc.start()
    values = source.read(np.arange(len(first)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert values.shape == (4096, 12)
    assert peak < 6 << 20  # the rows of all windows have 16 MiB


def test_rows_at_another_rate() -> None:
    """Half the rate: means of two rows, and a half of those beside."""
    sensors = Sensors(window=4, rate=25.0)
    x = windows(sensors, Form("tc", (4, 3)), [np.nan, 8 / 50, 21 / 50]).read(np.array([1]))
    rows = X[7:17].astype(np.float64)
    means = [rows[at - 1] / 4 + rows[at] / 2 + rows[at + 1] / 4 for at in (1, 3, 5, 7)]
    np.testing.assert_allclose(x[0], means, rtol=1e-5)


def test_shapes() -> None:
    x = X[:20].reshape(2, 10, 3)
    np.testing.assert_array_equal(shaped(x, Sensors(), Form("ct", (3, 10)))[1], X[10:20].T)
    np.testing.assert_array_equal(shaped(x, Sensors(), Form("flat", (30,)))[1], X[10:20].ravel())
    of_features = shaped(x, Sensors(features=("statistics",)), Form("features", (39,)))
    np.testing.assert_array_equal(of_features, features_of(("statistics",), x))
