"""RAPL, hwmon, thermal zones and cpufreq in a tree like /sys; psutil in their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_sensors import BOARD, HWMON, RAPL, fill
from skip2lora.errors import SensorError
from skip2lora.power import sysfs


def test_rapl_counts_joules_from_its_start(tmp_path: Path) -> None:
    fill(tmp_path, RAPL)
    found = sysfs.find_rapl(tmp_path)
    assert [(of.name, of.quantity) for of in found.sensors] == [("rapl package", "energy")]
    read = found.sensors[0].read
    assert read() == 0
    fill(tmp_path, {"class/powercap/intel-rapl:0/energy_uj": 3_500_000})
    assert read() == 2.5  # the core is inside the package and not added


def test_rapl_wraps(tmp_path: Path) -> None:
    fill(tmp_path, RAPL | {"class/powercap/intel-rapl:0/max_energy_range_uj": 5_999_999})
    read = sysfs.find_rapl(tmp_path).sensors[0].read
    energy = "class/powercap/intel-rapl:0/energy_uj"
    fill(tmp_path, {energy: 5_500_000})
    assert read() == 4.5
    fill(tmp_path, {energy: 250_000})  # 500,000 to its end and over it, and 250,000 more
    assert read() == 5.25
    fill(tmp_path, {energy: 0})
    assert read() == 11.0


def test_rapl_of_two_packages_and_memory(tmp_path: Path) -> None:
    second = {name.replace("rapl:0", "rapl:1"): value for name, value in RAPL.items()}
    memory = {name.replace("rapl:0:0", "rapl:0:1"): value for name, value in RAPL.items()}
    memory["class/powercap/intel-rapl:0:1/name"] = "dram"
    again = {name.replace("intel-rapl", "intel-rapl-mmio"): value for name, value in RAPL.items()}
    fill(tmp_path, RAPL | second | memory | again)
    found = sysfs.find_rapl(tmp_path)
    assert [of.name for of in found.sensors] == ["rapl package", "rapl dram"]
    fill(tmp_path, {f"class/powercap/intel-rapl:{n}/energy_uj": 2_000_000 for n in (0, 1)})
    fill(tmp_path, {"class/powercap/intel-rapl-mmio:0/energy_uj": 9_000_000})
    assert [of.read() for of in found.sensors] == [2.0, 0.0]


def test_rapl_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux has it so since 5.10."""
    fill(tmp_path, RAPL)
    real = Path.read_text

    def refuse(file: Path, *args: object, **options: object) -> str:
        if file.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *args, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    found = sysfs.find_rapl(tmp_path)
    assert found.sensors == []
    assert len(found.problems) == 1
    assert "may be read by root alone: sudo chmod a+r" in found.problems[0]
    assert "intel-rapl:0/energy_uj" in found.problems[0]


def test_hwmon_power(tmp_path: Path) -> None:
    fill(tmp_path, HWMON | {"class/hwmon/hwmon4/name": "meter"})
    fill(tmp_path, {"class/hwmon/hwmon4/power2_average": 20_000_000})
    fill(tmp_path, {"class/hwmon/hwmon4/power2_label": "board"})
    sensors = sysfs.find_hwmon_power(tmp_path).sensors
    assert [(of.name, of.read()) for of in sensors] == [
        ("hwmon ina219 power1", 1455.0),
        ("hwmon meter board", 20000.0),
    ]


def test_hwmon_current_and_voltage(tmp_path: Path) -> None:
    files = {name: value for name, value in HWMON.items() if "power1" not in name}
    fill(tmp_path, files)
    (sensor,) = sysfs.find_hwmon_power(tmp_path).sensors
    assert (sensor.name, sensor.read()) == ("hwmon ina219", 291 * 5.0)
    fill(tmp_path, {"class/hwmon/hwmon3/in2_input": 3300})  # which of the two is it?
    found = sysfs.find_hwmon_power(tmp_path)
    assert (found.sensors, found.missing("power")) == ([], "no hwmon sensor of power")


def test_temperatures_and_clock(tmp_path: Path) -> None:
    fill(tmp_path, BOARD)
    (zone,) = sysfs.find_temperatures(tmp_path).sensors
    assert (zone.name, zone.unit, zone.read()) == ("cpu-thermal thermal_zone0", "degC", 44.5)
    (clock,) = sysfs.find_clock(tmp_path).sensors
    assert (clock.unit, clock.read()) == ("MHz", 1000.0)
    fill(tmp_path, {"devices/system/cpu/cpufreq/policy0/scaling_cur_freq": 1400000})
    assert clock.read() == 1400.0


def test_hwmon_temperatures_where_there_is_no_zone(tmp_path: Path) -> None:
    fill(tmp_path, {"class/hwmon/hwmon0/name": "k10temp", "class/hwmon/hwmon0/temp1_input": 51000})
    fill(tmp_path, {"class/hwmon/hwmon1/name": "k10temp", "class/hwmon/hwmon1/temp1_input": 52000})
    sensors = sysfs.find_temperatures(tmp_path).sensors
    assert [(of.name, of.read()) for of in sensors] == [
        ("k10temp temp1", 51.0),
        ("k10temp temp1 #2", 52.0),
    ]
    fill(tmp_path, {"class/hwmon/hwmon2/name": "k10temp", "class/hwmon/hwmon2/temp1_input": 53000})
    sensors = sysfs.find_temperatures(tmp_path).sensors
    assert [of.name for of in sensors][1:] == ["k10temp temp1 #2", "k10temp temp1 #3"]


def test_a_file_without_a_number(tmp_path: Path) -> None:
    fill(tmp_path, BOARD | {"class/thermal/thermal_zone0/temp": "hot"})
    found = sysfs.find_temperatures(tmp_path)
    assert found.sensors == []
    assert "holds 'hot', expected a number" in found.problems[0]
    with pytest.raises(SensorError):
        sysfs.number(tmp_path / "class/thermal/thermal_zone0/temp")


def test_a_counter_that_cannot_be_read(tmp_path: Path) -> None:
    fill(tmp_path, RAPL)
    (tmp_path / "class/powercap/intel-rapl:0/energy_uj").unlink()
    instruments = sysfs.find_rapl(tmp_path)
    assert instruments.sensors == []
    assert "No such file" in instruments.problems[0]
