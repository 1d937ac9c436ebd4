"""The INA219 of the paper's Figure 2: power of the whole board, over I2C.

The chip measures the voltage over a shunt in the supply line and the voltage of the supply, and
multiplies. Registers as in its data sheet, Texas Instruments SBOS448.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from skip2lora.errors import MissingExtraError, SensorError
from skip2lora.power.sensors import Sensor

CONFIG, SHUNT, BUS, POWER, CURRENT, CALIBRATION = range(6)
ADDRESSES = range(0x40, 0x50)
POWER_ON_CONFIG = 0x399F
#: 32 V range; shunt +-320 mV (gain 1/8); bus 12 bit in 532 us; shunt the mean of 4 in 2.13 ms;
#: both converted without end. A conversion of both takes 2.66 ms.
RUN_CONFIG = 0b00_1_11_0011_1010_111
#: The largest calibration at which +-320 mV, the range's end, still fits 16 bits with a sign, so
#: that the current register cannot overflow whatever the shunt.
CALIBRATION_VALUE = 4194
_SHUNT_END = 32000  # 320 mV in steps of 10 uV
_STALE_S = 0.1


class WordBus(Protocol):
    """What this needs of ``smbus2.SMBus``: words with the low byte first, as SMBus has them."""

    def read_word_data(self, i2c_addr: int, register: int) -> int:
        """One 16-bit word."""

    def write_word_data(self, i2c_addr: int, register: int, value: int) -> None:
        """One 16-bit word."""

    def close(self) -> None:
        """Give the bus back."""


def open_bus(number: int) -> WordBus:
    """``/dev/i2c-NUMBER``.

    Raises:
        MissingExtraError: smbus2 is not installed.
        OSError: no such bus, or no permission.
    """
    try:
        from smbus2 import SMBus
    except ImportError as error:
        raise MissingExtraError(
            "reading an INA219 needs smbus2: pip install 'skip2lora[power]'"
        ) from error
    return cast(WordBus, SMBus(number))


def swapped(word: int) -> int:
    """The INA219 sends the high byte first, SMBus takes the first byte for the low one."""
    return (word & 0xFF) << 8 | word >> 8


def signed(word: int) -> int:
    """Two's complement of 16 bits."""
    return word - 0x10000 if word & 0x8000 else word


@dataclass(frozen=True)
class Reading:
    """One conversion: current and power are negative where the current flows backwards."""

    bus_mv: float
    shunt_uv: float
    current_ma: float
    power_mw: float
    is_new: bool  # CNVR: converted since the power register was read last


@dataclass(frozen=True)
class INA219:
    """A chip that :func:`setup` has configured."""

    bus: WordBus
    address: int
    shunt_ohms: float

    @property
    def current_lsb_ma(self) -> float:
        """Step of the current register: data sheet, equation 1 solved for it."""
        return 1000 * 0.04096 / (CALIBRATION_VALUE * self.shunt_ohms)

    def register(self, number: int) -> int:
        """A register as the chip means it, 0 to 65535."""
        return swapped(self.bus.read_word_data(self.address, number))

    def write(self, number: int, value: int) -> None:
        """Write a register."""
        self.bus.write_word_data(self.address, number, swapped(value))

    def read(self) -> Reading:
        """The latest conversion.

        Raises:
            SensorError: the current is out of range, or the chip lost its calibration.
            OSError: it does not answer.
        """
        bus = self.register(BUS)
        shunt, current = signed(self.register(SHUNT)), signed(self.register(CURRENT))
        power = self.register(POWER)  # last, as this clears CNVR
        if bus & 1 or abs(shunt) >= _SHUNT_END:  # OVF, or the converter at its end
            raise SensorError(
                f"the current is over {320 / self.shunt_ohms:,.0f} mA, the end of its range with "
                f"{self.shunt_ohms:g} ohm, expected less: use a smaller shunt"
            )
        if current == 0 and abs(shunt) > 1:
            raise SensorError(
                "it lost its calibration, expected as written: was its power interrupted? run again"
            )
        magnitude = power * 20 * self.current_lsb_ma  # its step is 20 times the current's
        return Reading(
            bus_mv=4.0 * (bus >> 3),
            shunt_uv=10.0 * shunt,
            current_ma=current * self.current_lsb_ma,
            power_mw=-magnitude if current < 0 else magnitude,  # the register has no sign
            is_new=bool(bus & 2),
        )


def setup(bus: WordBus, address: int, *, shunt_ohms: float = 0.1, certain: bool = False) -> INA219:
    """Configure the chip at ``address`` and wait for its first conversion.

    The INA219 tells nobody what it is, and other chips share its addresses (a servo driver, for
    one). So a device is written to only if its configuration is that of an INA219 after power-on
    or after an earlier run, or if the user named the address (``certain``).

    Raises:
        SensorError: something else is there, or it does not convert.
        OSError: nothing answers.
    """
    chip = INA219(bus, address, shunt_ohms)
    configuration = chip.register(CONFIG)
    if configuration not in (POWER_ON_CONFIG, RUN_CONFIG) and not certain:
        raise SensorError(
            f"its configuration is 0x{configuration:04x}, expected 0x{POWER_ON_CONFIG:04x} of an "
            "INA219 after power-on, it was not touched: name it with i2c= if it is one"
        )
    chip.write(CALIBRATION, CALIBRATION_VALUE)
    chip.write(CONFIG, RUN_CONFIG)
    registers = (chip.register(CONFIG), chip.register(CALIBRATION))
    if registers != (RUN_CONFIG, CALIBRATION_VALUE):
        raise SensorError(
            f"it is no INA219: it kept 0x{registers[0]:04x} and {registers[1]}, expected the "
            f"configuration 0x{RUN_CONFIG:04x} and the calibration {CALIBRATION_VALUE}: check the "
            "address"
        )
    for _ in range(20):
        time.sleep(0.001)
        if chip.register(BUS) & 2:
            return chip
    raise SensorError("it does not convert, expected a result within 20 ms: check its supply")


def sensor(chip: INA219, name: str, *, clock: Callable[[], float] = time.monotonic) -> Sensor:
    """Power in mW; a chip that stopped to convert is an error, not an old number again."""
    newest = [clock()]

    def read() -> float:
        reading = chip.read()
        if reading.is_new:
            newest[0] = clock()
        elif clock() - newest[0] > _STALE_S:
            raise SensorError(
                f"it stopped to convert, expected a result every {_STALE_S:g} s: run again"
            )
        return reading.power_mw

    return Sensor(name, "power", read, chip.bus.close)
