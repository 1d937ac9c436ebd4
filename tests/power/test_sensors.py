"""What a sensor is, and what was found."""

from __future__ import annotations

from skip2lora.power.sensors import COUNTERS, UNITS, Found, Sensor


def test_units_and_counters() -> None:
    sensors = {name: Sensor("s", name, lambda: 1.0) for name in UNITS}
    assert {name: of.unit for name, of in sensors.items()} == UNITS
    assert {name for name, of in sensors.items() if of.is_counter} == set(COUNTERS)
    assert sensors["power"].close() is None  # most have nothing to close


def test_what_was_found_is_added_up() -> None:
    first, second = Sensor("a", "power", lambda: 1.0), Sensor("b", "clock", lambda: 2.0)
    found = Found([first], [("power", "no RAPL"), ("clock", "no cpufreq")], ["broken"])
    found.add(Found([second], [("power", "no hwmon")], ["refused"]))
    assert found.sensors == [first, second]
    assert found.problems == ["broken", "refused"]
    assert found.missing("power") == "no RAPL, no hwmon"
    assert found.missing("temperature") == ""
