"""The INA219 driver on a bus that is faked at its registers, and nothing above them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_sensors import FakeBus
from skip2lora.errors import MissingExtraError, SensorError
from skip2lora.power import find, ina219
from skip2lora.power.find import find_sensors


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
def header(bus: FakeBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """``header()`` looks for sensors on a board that has this bus and nothing else."""
    (tmp_path / "i2c-1").touch()
    monkeypatch.setattr(find, "DEV_ROOT", tmp_path)
    monkeypatch.setattr(ina219, "open_bus", lambda number: bus if number == 1 else None)
    return lambda **options: find_sensors(sys_root=tmp_path, **options)


def test_words_are_swapped(bus: FakeBus) -> None:
    """SMBus takes the first byte for the low one, the chip sends the high one first."""
    assert bus.read_word_data(0x40, 0) == 0x9F39
    assert ina219.swapped(0x9F39) == 0x399F
    assert ina219.INA219(bus, 0x40, 0.1).register(0) == 0x399F


def test_setup_writes_configuration_and_calibration(bus: FakeBus) -> None:
    ina219.setup(bus, 0x40)
    # 32 V, gain 1/8, bus 12 bit, shunt mean of 4, both continuously: data sheet, figure 19
    assert bus.written == [(5, 4194), (0, 0x39D7)]
    ina219.setup(bus, 0x40)  # what an earlier run left is known as an INA219's


@pytest.mark.parametrize("shunt_ohms", [0.1, 0.01, 0.05])
@pytest.mark.parametrize("current_ma", [291.0, 120.0, 2900.0, -291.0, -20.0, 0.0])
def test_current_and_power(bus: FakeBus, shunt_ohms: float, current_ma: float) -> None:
    chip = ina219.setup(bus, 0x40, shunt_ohms=shunt_ohms)
    bus.supply(current_ma=current_ma, bus_mv=5004, shunt_ohms=shunt_ohms)
    reading = chip.read()
    step_ma = 320 / shunt_ohms / 32768
    assert reading.bus_mv == 5004
    assert reading.shunt_uv == pytest.approx(1000 * current_ma * shunt_ohms, abs=5)
    assert reading.current_ma == pytest.approx(current_ma, abs=1.1 * step_ma)
    assert reading.power_mw == pytest.approx(current_ma * 5.004, abs=20 * step_ma * 1.1)
    assert (reading.power_mw < 0) == (current_ma < 0)


def test_the_papers_peak(bus: FakeBus) -> None:
    """1,455 mW at 5 V, worked by hand: 2,910 steps of 10 uV, current 2,979, power 744."""
    chip = ina219.setup(bus, 0x40)
    bus.supply(current_ma=291)
    assert [chip.register(number) for number in (1, 4, 3)] == [2910, 2979, 744]
    assert chip.read().power_mw == pytest.approx(744 * 20 * 40.96 / 419.4)


def test_a_conversion_is_new_once(bus: FakeBus) -> None:
    chip = ina219.setup(bus, 0x40)
    assert chip.read().is_new
    assert not chip.read().is_new
    bus.convert()
    assert chip.read().is_new


@pytest.mark.parametrize("current_ma", [3300, -3300])
def test_the_end_of_the_range(bus: FakeBus, current_ma: float) -> None:
    chip = ina219.setup(bus, 0x40)
    bus.supply(current_ma=current_ma)
    with pytest.raises(SensorError, match=r"over 3,200 mA, the end of its range with 0\.1 ohm"):
        chip.read()


def test_the_overflow_bit(bus: FakeBus) -> None:
    chip = ina219.setup(bus, 0x40)
    bus.supply(current_ma=100)
    bus.registers[2] |= 1
    with pytest.raises(SensorError, match="end of its range"):
        chip.read()


def test_a_lost_calibration(bus: FakeBus) -> None:
    """After an interruption of its power the chip would tell 0 mW for ever."""
    chip = ina219.setup(bus, 0x40)
    bus.registers |= {0: 0x399F, 5: 0}
    bus.supply(current_ma=291)
    with pytest.raises(SensorError, match="lost its calibration"):
        chip.read()


def test_a_chip_that_stops(bus: FakeBus) -> None:
    now = [0.0]
    chip = ina219.setup(bus, 0x40)
    bus.supply(current_ma=100)
    sensor = ina219.sensor(chip, "ina219", clock=lambda: now[0])
    first = sensor.read()
    now[0] = 0.05
    assert sensor.read() == first  # between two conversions: the same again
    now[0] = 0.2
    with pytest.raises(SensorError, match="stopped to convert"):
        sensor.read()


@pytest.mark.parametrize(("shunt", "lost"), [(0, False), (1, False), (-1, False), (-2, True)])
def test_no_current_of_a_step_is_no_lost_calibration(bus: FakeBus, shunt: int, lost: bool) -> None:
    chip = ina219.setup(bus, 0x40)
    bus.registers |= {1: shunt & 0xFFFF, 4: 0}
    if lost:
        with pytest.raises(SensorError, match="lost its calibration"):
            chip.read()
    else:
        assert chip.read().current_ma == 0


@pytest.mark.parametrize(("shunt", "ends"), [(31999, False), (-31999, False), (32000, True)])
def test_where_the_range_ends(bus: FakeBus, shunt: int, ends: bool) -> None:
    chip = ina219.setup(bus, 0x40)
    bus.registers |= {1: shunt & 0xFFFF, 4: 1}
    if ends:
        with pytest.raises(SensorError, match="end of its range"):
            chip.read()
    else:
        assert chip.read().shunt_uv == 10 * shunt


@pytest.mark.parametrize("bits", [0, 1, 4])
def test_bits_that_are_no_conversion(bus: FakeBus, bits: int) -> None:
    bus.converts = False
    bus.registers[2] = bits
    with pytest.raises(SensorError, match="does not convert"):
        ina219.setup(bus, 0x40)


def test_it_never_converts(bus: FakeBus) -> None:
    bus.converts = False
    with pytest.raises(SensorError, match="does not convert"):
        ina219.setup(bus, 0x40)


def test_found_with_its_power(bus: FakeBus, header: Callable[..., find.Found]) -> None:
    bus.supply(current_ma=291)
    found = header()
    first = found.sensors[0]
    assert (first.name, first.quantity, first.unit) == ("ina219 1:0x40", "power", "mW")
    assert first.read() == pytest.approx(1455, abs=4)
    assert not found.problems
    first.close()
    assert bus.closed


def test_another_address_and_shunt(bus: FakeBus, header: Callable[..., find.Found]) -> None:
    bus.address = 0x45
    bus.supply(current_ma=500, shunt_ohms=0.01)
    found = header(i2c="1:0x45", shunt_ohms=0.01)
    assert found.sensors[0].read() == pytest.approx(2500, abs=40)
    assert "nothing answers" in header().problems[0]


def test_another_device_is_not_written_to(bus: FakeBus, header: Callable[..., find.Found]) -> None:
    bus.registers[0] = 0x1104
    found = header()
    assert "0x1104, expected 0x399f" in found.problems[0]
    assert "i2c=" in found.problems[0]
    assert bus.written == []
    assert bus.closed
    assert "power" not in {sensor.quantity for sensor in found.sensors}


def test_named_by_the_user_but_something_else(
    bus: FakeBus, header: Callable[..., find.Found]
) -> None:
    bus.registers[0] = 0x1104
    bus.writable = {0: 0xFFFF, 5: 0x00FF}
    problem = header(i2c="1:0x40").problems[0]
    assert "it is no INA219: it kept 0x39d7 and 98, expected the configuration 0x39d7" in problem
    bus.writable = {0: 0xFFFF, 5: 0xFFFE}  # an INA219 that somebody else configured
    bus.registers[0] = 0x019F
    assert header(i2c="1:0x40").problems == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EREMOTEIO, "nothing answers there"),
        (errno.EIO, "nothing answers there"),
        (errno.ENXIO, "nothing answers there"),
        (errno.EBUSY, "a driver of the kernel holds it"),
        (errno.ETIMEDOUT, "timed out"),
    ],
)
def test_it_does_not_answer(
    bus: FakeBus, header: Callable[..., find.Found], code: int, words: str
) -> None:
    bus.broken = code
    assert words in header().problems[0]
    assert bus.closed


def test_no_bus(tmp_path: Path, header: Callable[..., find.Found]) -> None:
    (tmp_path / "i2c-1").unlink()
    found = header()
    assert "no INA219" in found.missing("power")
    assert found.problems == []
    assert "i2c-3 is not there" in header(i2c="3:0x40").problems[0]  # asked for by name


def test_no_permission_and_no_library(
    header: Callable[..., find.Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> None:
        raise PermissionError(13, "Permission denied", f"/dev/i2c-{number}")

    monkeypatch.setattr(ina219, "open_bus", refuse)
    assert "Permission denied" in header().problems[0]
    monkeypatch.undo()
    monkeypatch.setitem(__import__("sys").modules, "smbus2", None)
    with pytest.raises(MissingExtraError, match=r"skip2lora\[power\]"):
        ina219.open_bus(1)


def test_smbus2_is_what_the_driver_expects() -> None:
    """The fake bus has the words of the real one: same names, same order."""
    import inspect

    smbus2 = pytest.importorskip("smbus2")
    for name in ("read_word_data", "write_word_data"):
        real = list(inspect.signature(getattr(smbus2.SMBus, name)).parameters)
        fake = list(inspect.signature(getattr(FakeBus, name)).parameters)
        assert real[: len(fake)] == fake
    with pytest.raises(OSError, match="i2c-97"):
        ina219.open_bus(97)
