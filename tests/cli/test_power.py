"""``adapt --power`` where power can be read, and where nothing can."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from desk import digests
from fake_sensors import BOARD, HWMON, RAPL, FakeBus, fill
from skip2lora.cli import power as cli_power
from skip2lora.power import find, host, ina219

ADAPT = ("adapt", "model.safetensors", "field.npz", "--epochs", 20, "-o", "new", "--power")


@pytest.fixture
def board(tmp_path, monkeypatch):
    """A /sys and a /dev with nothing in them; the second at rest is short."""
    for name in ("sys", "dev"):
        (tmp_path / "board" / name).mkdir(parents=True)
    monkeypatch.setattr(host, "SYS_ROOT", tmp_path / "board" / "sys")
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(find, "DEV_ROOT", tmp_path / "board" / "dev")
    monkeypatch.setattr(cli_power, "IDLE_S", 0.05)
    return tmp_path / "board"


def test_nothing_can_be_read(board, desk, type_in):
    answer = type_in(*ADAPT)
    assert answer.code == 0
    said = [line for line in answer.out.splitlines() if line.startswith("power")]
    assert len(said) == 1
    assert "nothing measures it here: no INA219" in said[0]
    assert "docs/power.md" in said[0]
    assert "no temperature: no thermal zone" in answer.out
    facts = type_in(*ADAPT, "--force", "--json").json
    assert facts["accuracy"] > 0
    assert facts["power"]["source"] is None
    assert facts["power"]["energy_j"] is None
    assert "no RAPL" in facts["power"]["absent"]["power"]


def test_the_result_is_the_same_with_and_without(board, desk, type_in):
    assert type_in(*ADAPT).code == 0
    assert type_in(*ADAPT[:-1], "--force", "-o", "plain").code == 0
    assert digests(desk / "new") == digests(desk / "plain")


def test_an_ina219(board, desk, type_in, monkeypatch):
    (board / "dev/i2c-1").touch()
    fill(board / "sys", BOARD)
    bus = FakeBus()
    bus.supply(current_ma=291)
    real = bus.read_word_data

    def convert_and_read(address, register):
        if register == 2:
            bus.convert()
        return real(address, register)

    bus.read_word_data = convert_and_read
    monkeypatch.setattr(ina219, "open_bus", lambda _: bus)
    answer = type_in(*ADAPT)
    assert answer.code == 0
    for part in (
        "power (ina219 1:0x40): mean 1,453 mW, peak 1,453 mW", "above idle at 1,453 mW",
        "temperature (cpu-thermal thermal_zone0) 44.5 to 44.5 degC",
        "clock (cpufreq) 1,000 to 1,000 MHz",
    ):  # fmt: skip
        assert part in answer.out
    facts = type_in(*ADAPT, "--force", "--json").json["power"]
    assert facts["mean_mw"] == pytest.approx(1453.2, abs=0.1)
    assert facts["energy_j"] == pytest.approx(1.4532 * facts["duration_ms"] / 1000, rel=1e-3)
    assert facts["energy_above_idle_j"] == pytest.approx(0, abs=1e-9)
    assert bus.closed


def test_a_sensor_that_fails_midway(board, desk, type_in, monkeypatch):
    """The adapter is written; the failure is said once."""
    (board / "dev/i2c-1").touch()
    bus = FakeBus()
    bus.supply(current_ma=291)
    monkeypatch.setattr(ina219, "open_bus", lambda _: bus)
    real, count = bus.read_word_data, [0]

    def read_then_fail(address, register):
        bus.convert()
        count[0] += 1
        bus.broken = 5 if count[0] > 20 else None
        return real(address, register)

    bus.read_word_data = read_then_fail
    answer = type_in(*ADAPT)
    assert answer.code == 0
    assert answer.out.count("its series has a gap") == 1
    assert "it could not be read while adapting" in answer.out
    assert Path("new/adapter_config.json").is_file()


def test_rapl_and_its_refusal(board, desk, type_in, monkeypatch):
    fill(board / "sys", RAPL)
    facts = type_in(*ADAPT, "--json").json["power"]
    assert (facts["source"], facts["energy_j"]) == ("rapl package", 0.0)
    real = Path.read_text

    def refuse(file, *args, **options):
        if file.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *args, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    answer = type_in(*ADAPT, "--force")
    assert answer.code == 0
    assert "note: RAPL" in answer.out
    assert "may be read by root alone: sudo chmod a+r" in answer.out


def test_hwmon(board, desk, type_in):
    fill(board / "sys", HWMON)
    facts = type_in(*ADAPT, "--json").json["power"]
    assert facts["source"] == "hwmon ina219 power1"
    assert facts["mean_mw"] == pytest.approx(1455)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--i2c", "1:0x40"], ["--i2c is 1:0x40", "expected --power"]),
        (["--shunt-ohms", "0.1"], ["--shunt-ohms is 0.1", "expected --power"]),
        (["--power", "--i2c", "64"], ["'64'", "BUS:ADDRESS", "1:0x40"]),
        (["--power", "--shunt-ohms", "0"], ["shunt_ohms is 0", "0.0001 to 100"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_words(board, desk, type_in, words, parts):
    before = digests(desk)
    answer = type_in(*ADAPT[:-1], *words)
    assert answer.code == 2
    assert (answer.out, answer.err.count("\n")) == ("", 1)
    for part in parts:
        assert part in answer.err
    assert digests(desk) == before


def test_without_the_option_there_is_no_power(board, desk, type_in):
    facts = type_in(*ADAPT[:-1], "--json").json
    assert "power" not in facts
