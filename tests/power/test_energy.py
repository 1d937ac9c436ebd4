"""Joules and milliwatts of made-up series, worked by hand."""

from __future__ import annotations

import math
from array import array

import numpy as np
import pytest

from skip2lora.power.energy import energy_of, in_phase, points, summarise
from skip2lora.power.recording import Phase, Recording, Series
from skip2lora.power.sensors import Sensor

NAN = math.nan


def series(quantity: str, times: list[float], values: list[float], name: str = "s") -> Series:
    return Series(Sensor(name, quantity, lambda: 0.0), array("d", times), array("d", values))


def recording(*of: Series, phases: list[Phase]) -> Recording:
    made = Recording([], interval_s=0.5, clock=lambda: 0.0)
    made.series = {each.sensor.name: each for each in of}
    made.phases = phases
    return made


def test_constant_power() -> None:
    used = energy_of(series("power", [0, 1, 2, 3], [1500] * 4), Phase("adapt", 0.5, 2.5))
    assert used is not None
    assert (used.joules, used.covered_s, used.n_samples, used.mean_mw) == (3.0, 2.0, 2, 1500)


def test_a_ramp_is_cut_at_the_phase() -> None:
    """Power 1000 t mW from 0.5 to 2.5 s: (2.5^2 - 0.5^2) / 2 = 3 J."""
    used = energy_of(series("power", [0, 1, 2, 3], [0, 1000, 2000, 3000]), Phase("a", 0.5, 2.5))
    assert used is not None
    assert used.joules == pytest.approx(3.0, abs=1e-12)


def test_a_phase_between_two_samples() -> None:
    """20 ms out of a second: the straight line there, and no sample of its own."""
    used = energy_of(series("power", [0, 1], [1000, 2000]), Phase("a", 0.49, 0.51))
    assert used is not None
    assert used.joules == pytest.approx(0.02 * 1.5)
    assert used.n_samples == 0


def test_negative_power_is_given_back() -> None:
    used = energy_of(series("power", [0, 1, 2], [1000, -1000, -1000]), Phase("a", 0, 2))
    assert used is not None
    assert used.joules == pytest.approx(-1.0)


def test_a_gap_is_not_covered() -> None:
    of = series("power", [0, 1, 2, 3, 4], [1000, 1000, NAN, 3000, 3000])
    used = energy_of(of, Phase("a", 0, 4))
    assert used is not None
    assert (used.joules, used.covered_s, used.n_samples) == (4.0, 2.0, 4)
    assert energy_of(series("power", [0, 1], [NAN, NAN]), Phase("a", 0, 1)) is None
    assert energy_of(series("power", [], []), Phase("a", 0, 1)) is None


def test_a_counter_is_exact_whatever_lies_between() -> None:
    of = series("energy", [0, 1, 1.2, 2, 3], [10, 11, NAN, 17, 18])
    used = energy_of(of, Phase("a", 1, 2))
    assert used is not None
    assert (used.joules, used.covered_s) == (6.0, 1.0)
    assert used.mean_mw == 6000
    assert energy_of(series("energy", [0], [10]), Phase("a", 0, 1)) is None


def test_a_counter_that_ends_early_covers_less() -> None:
    used = energy_of(series("energy", [0, 1, 2], [0, 2, NAN]), Phase("a", 0, 2))
    assert used is not None
    assert (used.joules, used.covered_s) == (2.0, 1.0)


def test_points_of_counters_are_rates() -> None:
    times, values = points(series("energy", [0, 1, 1.001, 2], [0, 1, 1.5, 4]), 0.5)
    np.testing.assert_allclose(times, [1, 2])
    np.testing.assert_allclose(values, [1000, 3000])  # that after a millisecond is merged
    _, percent = points(series("cpu_time", [0, 2], [0, 1]), 0.5)
    np.testing.assert_allclose(percent, [50])


def test_values_of_a_short_phase_are_those_at_its_ends() -> None:
    of = series("temperature", [0, 1, 2, 3], [40, 41, 42, 43])
    np.testing.assert_array_equal(in_phase(of, Phase("a", 1.2, 1.4), 1.0), [41, 42])


def test_summary() -> None:
    power = series("power", [0, 1, 2, 3, 4, 5], [600, 600, 600, 1400, 1400, 600], "ina219")
    heat = series("temperature", [0, 2, 4], [43.0, 44.0, 44.5], "zone")
    busy = series("cpu_time", [0, 2, 3, 4], [0, 0, 0.9, 1.9], "cpu")
    phases = [Phase("idle", 0, 2), Phase("adapt", 2, 4)]
    facts = summarise(recording(power, heat, busy, phases=phases), "adapt", idle="idle")
    assert facts["source"] == "ina219"
    assert facts["energy_j"] == pytest.approx(1.0 + 1.4)
    assert facts["mean_mw"] == pytest.approx(1200)
    assert facts["peak_mw"] == 1400
    assert facts["idle_mw"] == pytest.approx(600)
    assert facts["energy_above_idle_j"] == pytest.approx(2.4 - 1.2)
    assert (facts["duration_ms"], facts["covered_ms"], facts["n_samples"]) == (2000, 2000, 3)
    told = {of["name"]: (of["unit"], of["min"], of["max"]) for of in facts["sensors"]}
    assert told["zone"] == ("degC", 44.0, 44.5)
    assert told["cpu"] == ("%", pytest.approx(90), pytest.approx(100))
    assert facts["sensors"][2]["mean"] == pytest.approx(95)


def test_summary_without_power() -> None:
    heat = series("temperature", [0, 1], [NAN, NAN], "zone")
    facts = summarise(recording(heat, phases=[Phase("adapt", 0, 1)]), "adapt", idle="idle")
    for name in ("source", "mean_mw", "peak_mw", "energy_j", "idle_mw", "energy_above_idle_j"):
        assert facts[name] is None
    assert facts["sensors"][0]["mean"] is None
    assert (facts["n_samples"], facts["interval_ms"]) == (0, 500)


def test_summary_of_a_sensor_that_never_answered() -> None:
    power = series("power", [0, 1], [NAN, NAN], "ina219")
    facts = summarise(recording(power, phases=[Phase("adapt", 0, 1)]), "adapt")
    assert (facts["source"], facts["energy_j"], facts["mean_mw"]) == ("ina219", None, None)


def test_values_of_a_phase_that_reaches_beyond_the_readings() -> None:
    of = series("temperature", [1, 2, 3], [41, 42, 43])
    np.testing.assert_array_equal(in_phase(of, Phase("a", 0, 1.5), 1.0), [41, 42])
    np.testing.assert_array_equal(in_phase(of, Phase("a", 2.5, 9), 1.0), [42, 43])


def test_readings_closer_than_half_an_interval_are_merged() -> None:
    of = series("energy", [0, 1, 1.24, 1.5, 2.5], [0, 1, 9, 2, 4])
    times, values = points(of, 0.5)  # 0.24 s apart is less than half, 0.5 s is not
    np.testing.assert_allclose(times, [1, 1.5, 2.5])
    np.testing.assert_allclose(values, [1000, 2000, 2000])
    assert points(of, 5.0)[0].tolist() == [2.5]


def test_the_mean_of_a_counter_is_that_of_the_phase() -> None:
    """2 J of 4 s, whatever the rate of each piece is."""
    of = series("energy", [0, 1, 4, 5], [0, 1, 2, 9])
    facts = summarise(recording(of, phases=[Phase("adapt", 0, 4)]), "adapt")
    assert facts["sensors"][0]["mean"] == 500
    assert (facts["interval_ms"], facts["n_samples"], facts["failures"]) == (500, 3, [])
