"""The recorder: phases, gaps, the thread and its end."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest

from skip2lora.errors import ParameterError, SensorError
from skip2lora.power.recording import Phase, Recording, record
from skip2lora.power.sensors import Sensor


class Ticks:
    """A clock that goes on by one with each look at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def recorded(*sensors: Sensor) -> Recording:
    return Recording(sensors, interval_s=1.0, clock=Ticks())


def test_readings_have_the_middle_of_their_time() -> None:
    recording = recorded(Sensor("a", "power", lambda: 7.0))
    recording.sample()
    recording.sample()
    series = recording.series["a"]
    assert list(series.times_s) == [1.5, 3.5]
    assert list(series.values) == [7.0, 7.0]


def test_slow_sensors_are_read_every_fifth_time() -> None:
    recording = recorded(Sensor("p", "power", lambda: 1.0), Sensor("t", "temperature", lambda: 2.0))
    for _ in range(11):
        recording.sample()
    assert [len(of.values) for of in recording.series.values()] == [11, 3]


def test_counters_are_read_closest_to_the_phase() -> None:
    order: list[str] = []

    def reading(name: str) -> Callable[[], float]:
        return lambda: order.append(name) or 0.0

    names = (("rapl", "energy"), ("chip", "power"), ("zone", "temperature"))
    recording = recorded(*(Sensor(name, quantity, reading(name)) for name, quantity in names))
    with recording.phase("adapt"):
        order.append("-")
    assert order == ["chip", "zone", "rapl", "-", "rapl", "zone", "chip"]
    (phase,) = recording.phases
    assert phase == Phase("adapt", 7.0, 8.0)  # two looks at the clock for each reading before
    times = recording.series["rapl"].times_s
    assert (phase.start_s - times[0], times[1] - phase.end_s) == (1.5, 1.5)


def test_a_failure_is_told_once_and_leaves_a_gap() -> None:
    answers = iter([1.0, None, None, 4.0, None])

    def read() -> float:
        answer = next(answers)
        if answer is None:
            raise OSError(121, "Remote I/O error")
        return answer

    recording = recorded(Sensor("ina219", "power", read), Sensor("cpu", "cpu_time", lambda: 0.0))
    for _ in range(5):
        recording.sample()
    values = recording.series["ina219"].values
    assert [math.isnan(value) for value in values] == [False, True, True, False, True]
    assert recording.failures == ["ina219: Remote I/O error: its series has a gap"]
    assert len(recording.series["cpu"].values) == 5


def test_our_own_errors_are_told_too() -> None:
    def read() -> float:
        raise SensorError("it stopped to convert")

    recording = recorded(Sensor("ina219", "power", read))
    recording.sample()
    assert recording.failures == ["ina219: it stopped to convert: its series has a gap"]


def recorders() -> list[str]:
    return [of.name for of in threading.enumerate() if of.name == "skip2lora-power"]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, RuntimeError])
def test_the_thread_ends_and_sensors_are_closed(error: type[BaseException] | None) -> None:
    read_often, closed = threading.Event(), []
    count = [0]

    def read() -> float:
        count[0] += 1
        if count[0] >= 5:
            read_often.set()
        return 1.0

    def run() -> None:
        with record([Sensor("a", "power", read, lambda: closed.append("a"))], interval_s=0.005):
            assert recorders() == ["skip2lora-power"]
            assert read_often.wait(30)  # by the thread: nobody else reads
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(error):
            run()
    assert recorders() == []
    assert closed == ["a"]


def test_a_phase_ends_with_its_error() -> None:
    recording = recorded(Sensor("a", "power", lambda: 1.0))
    with pytest.raises(KeyboardInterrupt), recording.phase("adapt"):
        raise KeyboardInterrupt
    assert [of.name for of in recording.phases] == ["adapt"]
    assert len(recording.series["a"].values) == 2


@pytest.mark.parametrize("interval_s", [0.005, 60.0])
def test_the_shortest_and_the_longest_interval(interval_s: float) -> None:
    with record([Sensor("a", "power", lambda: 1.0)], interval_s=interval_s) as recording:
        assert recording.interval_s == interval_s


@pytest.mark.parametrize("interval_s", [0.0, -1.0, 0.0049, 60.1, float("nan")])
def test_bad_intervals(interval_s: float) -> None:
    with pytest.raises(ParameterError, match=r"expected 0.005 to 60 seconds"):
        record([], interval_s=interval_s).__enter__()
