"""An INA219 on a bus, register by register, and a tree like /sys."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class FakeBus:
    """One I2C bus with one chip; words go over it as SMBus has them, first byte low.

    The chip does what its data sheet says: it keeps 16-bit registers, high byte first, converts in
    the background, multiplies by its calibration and sets CNVR and OVF.
    """

    def __init__(self, address: int = 0x40, config: int = 0x399F) -> None:
        self.address = address
        self.registers = {0: config, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0}
        self.writable = {0: 0xFFFF, 5: 0xFFFE}
        self.shunt_uv, self.bus_mv = 0.0, 5000.0
        self.converts = True
        self.broken: int | None = None
        self.closed = False
        self.written: list[tuple[int, int]] = []

    def supply(self, *, current_ma: float, bus_mv: float = 5000.0, shunt_ohms: float = 0.1) -> None:
        """The current and voltage in the wires."""
        self.shunt_uv, self.bus_mv = 1000 * current_ma * shunt_ohms, bus_mv
        self.convert()

    def convert(self) -> None:
        """One conversion: data sheet, section 8.5.2."""
        if not self.converts:
            return
        shunt = max(-32000, min(32000, round(self.shunt_uv / 10)))
        volts = round(self.bus_mv / 4)
        current = int(shunt * self.registers[5] / 4096)
        power = abs(current) * volts // 5000
        overflow = abs(current) > 0x7FFF or power > 0xFFFF
        self.registers |= {
            1: shunt & 0xFFFF,
            2: volts << 3 | 2 | overflow,
            3: power & 0xFFFF,
            4: current & 0xFFFF,
        }

    def _check(self, address: int) -> None:
        if self.broken is not None or address != self.address:
            code = self.broken or errno.EREMOTEIO
            raise OSError(code, os.strerror(code))

    def read_word_data(self, i2c_addr: int, register: int) -> int:
        self._check(i2c_addr)
        high, low = divmod(self.registers[register], 0x100)
        if register == 3:
            self.registers[2] &= ~2
        return int.from_bytes(bytes([high, low]), "little")

    def write_word_data(self, i2c_addr: int, register: int, value: int) -> None:
        self._check(i2c_addr)
        word = int.from_bytes(value.to_bytes(2, "little"), "big")
        self.written.append((register, word))
        self.registers[register] = word & self.writable.get(register, 0)
        self.convert()

    def close(self) -> None:
        self.closed = True


def fill(root: Path, files: dict[str, object]) -> Path:
    """Write ``{"class/thermal/thermal_zone0/temp": 44500}`` below ``root``."""
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n")
    return root


RAPL = {
    "class/powercap/intel-rapl:0/name": "package-0",
    "class/powercap/intel-rapl:0/energy_uj": 1_000_000,
    "class/powercap/intel-rapl:0/max_energy_range_uj": 262_143_328_850,
    "class/powercap/intel-rapl:0:0/name": "core",
    "class/powercap/intel-rapl:0:0/energy_uj": 500_000,
    "class/powercap/intel-rapl:0:0/max_energy_range_uj": 262_143_328_850,
}
BOARD = {
    "class/thermal/thermal_zone0/type": "cpu-thermal",
    "class/thermal/thermal_zone0/temp": 44500,
    "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": 600000,
    "devices/system/cpu/cpufreq/policy4/scaling_cur_freq": 1000000,
}
HWMON = {
    "class/hwmon/hwmon3/name": "ina219",
    "class/hwmon/hwmon3/power1_input": 1_455_000,
    "class/hwmon/hwmon3/curr1_input": 291,
    "class/hwmon/hwmon3/in1_input": 5000,
}
