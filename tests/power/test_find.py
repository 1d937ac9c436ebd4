"""Which sensors this device has: where they are looked for, and which comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_sensors import BOARD, HWMON, RAPL, fill
from skip2lora.errors import ParameterError
from skip2lora.power.find import check_shunt, find_sensors, parse_i2c


def test_what_measures_power_best_comes_first(tmp_path: Path) -> None:
    card = {"class/hwmon/hwmon1/name": "amdgpu", "class/hwmon/hwmon1/power1_average": 9_000_000}
    found = find_sensors(sys_root=fill(tmp_path, RAPL | HWMON | BOARD | card))
    assert [(of.name, of.quantity) for of in found.sensors] == [
        ("hwmon ina219 power1", "power"),
        ("rapl package", "energy"),
        ("hwmon amdgpu power1", "power"),  # of the graphics card
        ("cpu-thermal thermal_zone0", "temperature"),
        ("cpufreq", "clock"),
        ("cpu of this process", "cpu_time"),
    ]


def test_nothing_there(tmp_path: Path) -> None:
    found = find_sensors(sys_root=tmp_path)
    assert [of.quantity for of in found.sensors] == ["cpu_time"]
    for part in ("no INA219", "no hwmon sensor of power", "no RAPL"):
        assert part in found.missing("power")
    assert found.missing("temperature") == "no thermal zone"
    assert found.missing("clock") == "no cpufreq"


@pytest.mark.parametrize("text", ["", "1", "1:", "x:0x40", "1:0x3f", "1:0x50", "-1:0x40", "1:40"])
def test_bad_places(text: str) -> None:
    with pytest.raises(ParameterError, match="expected BUS:ADDRESS such as 1:0x40"):
        find_sensors(i2c=text)


@pytest.mark.parametrize("ohms", [0.0, -0.1, 0.000099, 100.1, float("nan"), float("inf")])
def test_bad_shunts(ohms: float) -> None:
    with pytest.raises(ParameterError, match=r"expected 0.0001 to 100"):
        find_sensors(shunt_ohms=ohms)


@pytest.mark.parametrize("ohms", [0.0001, 0.1, 100.0])
def test_shunts(ohms: float) -> None:
    assert check_shunt(ohms) == ohms


@pytest.mark.parametrize(
    ("text", "place"), [("1:0x40", (1, 0x40)), ("0:65", (0, 65)), ("20:0x4f", (20, 0x4F))]
)
def test_places(text: str, place: tuple[int, int]) -> None:
    assert parse_i2c(text) == place


def test_an_ina219_that_was_named_is_missed(sys_root: Path) -> None:
    """What nobody asked for is absent; what was named is a problem."""
    unasked = find_sensors(sys_root=sys_root)
    assert unasked.problems == []
    assert "no INA219" in unasked.missing("power")
    named = find_sensors(sys_root=sys_root, i2c="1:0x41")
    assert [problem.startswith("no INA219") for problem in named.problems] == [True]
    assert "INA219" not in named.missing("power")
