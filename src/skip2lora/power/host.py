"""Temperature and clock by psutil, and the processor time of this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from skip2lora.errors import SensorError
from skip2lora.power import sysfs
from skip2lora.power.sensors import Found, Sensor

SYS_ROOT = Path("/sys")


def find_host(root: Path) -> Found:
    """Temperatures and clock by psutil where that is installed, else out of the kernel's files.

    psutil reads no other tree than /sys.
    """
    psutil = _psutil() if root == SYS_ROOT else None
    temperatures, clock = Found(), Found()
    if psutil is not None:
        temperatures, clock = _temperatures(psutil), _clock(psutil)
    for instruments, find in ((temperatures, sysfs.find_temperatures), (clock, sysfs.find_clock)):
        if not instruments.sensors:
            instruments.add(find(root))
        if psutil is None and root == SYS_ROOT:
            hint = "psutil may tell more: pip install 'skip2lora[power]'"
            instruments.absent = [
                (quantity, f"{text} ({hint})") for quantity, text in instruments.absent
            ]
    temperatures.add(clock)
    return temperatures


def cpu_time() -> Sensor:
    """Seconds of processor time of this process, all its threads: what every system tells."""
    return Sensor("cpu of this process", "cpu_time", time.process_time)


def _psutil() -> ModuleType | None:
    try:
        import psutil
    except ImportError:
        return None
    module: ModuleType = psutil
    return module


def _temperatures(psutil: ModuleType) -> Found:
    """The hottest place of each chip: a call of psutil reads all chips, so there are few."""
    if not hasattr(psutil, "sensors_temperatures"):  # not on every system
        return Found()
    chips = [chip for chip, entries in psutil.sensors_temperatures().items() if entries]
    return Found([Sensor(chip, "temperature", _hottest(psutil, chip)) for chip in chips])


def _hottest(psutil: ModuleType, chip: str) -> Callable[[], float]:
    def read() -> float:
        entries = psutil.sensors_temperatures().get(chip)
        if not entries:
            raise SensorError(f"it went away, expected temperatures of {chip}: check the system")
        return max(float(entry.current) for entry in entries)

    return read


def _clock(psutil: ModuleType) -> Found:
    """The highest clock of all cores; a virtual machine often tells a constant one."""

    def read() -> float:
        clocks = [float(core.current) for core in psutil.cpu_freq(percpu=True) or ()]
        if not clocks or max(clocks) <= 0:
            raise SensorError("psutil gives no clock, expected one a core: update psutil")
        return max(clocks)

    instruments = Found()
    try:
        read()
    except (OSError, NotImplementedError, AttributeError):
        return instruments
    instruments.sensors.append(Sensor("clock", "clock", read))
    return instruments
