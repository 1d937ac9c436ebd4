"""What the Linux kernel offers as files: RAPL, hwmon, thermal zones, cpufreq.

``root`` is ``/sys``, or a tree like it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from skip2lora.errors import SensorError, brief
from skip2lora.power.sensors import Found, Sensor

#: RAPL zones that do not overlap: cores and graphics are inside the package.
_RAPL_ZONES = ("package", "dram", "psys")


def number(file: Path) -> int:
    """The whole number in a file of the kernel.

    Raises:
        SensorError: something else is in it.
        OSError: it cannot be read.
    """
    text = file.read_text(encoding="ascii", errors="replace").strip()
    try:
        return int(text)
    except ValueError as error:
        raise SensorError(
            f"{file} holds {brief(text)!r}, expected a number: check the system's driver"
        ) from error


def _word(file: Path) -> str:
    """The name in a file, or nothing."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def unwrapped(read: Callable[[], int], end: int) -> Callable[[], int]:
    """A counter that starts again at 0 after ``end``, made to go on; it starts at 0."""
    last, total = read(), 0

    def go_on() -> int:
        nonlocal last, total
        now = read()
        total += now - last if now >= last else end - last + 1 + now
        last = now
        return total

    return go_on


def find_rapl(root: Path) -> Found:
    """Energy counters of the processor: one sensor for all packages, one for all memory."""
    instruments = Found()
    # RAPL's second view of the same package through memory-mapped registers, intel-rapl-mmio, is
    # left out: it would count twice.
    zones = sorted((root / "class/powercap").glob("intel-rapl:*"))
    kinds: dict[str, list[Callable[[], int]]] = {}
    for zone in zones:
        kind = next((k for k in _RAPL_ZONES if _word(zone / "name").startswith(k)), None)
        if kind is None:
            continue
        file = zone / "energy_uj"
        try:
            end = number(zone / "max_energy_range_uj")
            counter = unwrapped(partial(number, file), end)
        except PermissionError:
            instruments.problems.append(
                f"RAPL: {file} may be read by root alone: sudo chmod a+r {file}, or see "
                "docs/power.md"
            )
        except OSError as error:
            instruments.problems.append(f"RAPL: {file}: {error}")
        else:
            kinds.setdefault(kind, []).append(counter)
    for kind in (kind for kind in _RAPL_ZONES if kind in kinds):
        instruments.sensors.append(Sensor(f"rapl {kind}", "energy", _joules(kinds[kind])))
    if not zones:
        instruments.absent.append(("power", "no RAPL"))
    return instruments


def _joules(counters: Sequence[Callable[[], int]]) -> Callable[[], float]:
    return lambda: sum(counter() for counter in counters) / 1e6


def find_hwmon_power(root: Path) -> Found:
    """Power that a driver of the kernel measures, such as ina2xx."""
    instruments = Found()
    for folder in sorted((root / "class/hwmon").glob("hwmon*")):
        name = _word(folder / "name") or folder.name
        files = sorted(folder.glob("power*_input")) or sorted(folder.glob("power*_average"))
        for file in files:
            what = _word(folder / f"{file.name.split('_')[0]}_label") or file.name.split("_")[0]
            _try(instruments, f"hwmon {name} {what}", "power", _scaled(file, 1e-3))  # microwatts
        if not files:
            _add_product(instruments, folder, name)
    if not instruments.sensors:
        instruments.absent.append(("power", "no hwmon sensor of power"))
    return instruments


def _add_product(instruments: Found, folder: Path, name: str) -> None:
    """A chip that tells current and voltage alone; with several of either the pairs are unknown."""
    currents, voltages = sorted(folder.glob("curr*_input")), sorted(folder.glob("in*_input"))
    if len(currents) == len(voltages) == 1:
        current_ma, voltage_mv = _scaled(currents[0], 1.0), _scaled(voltages[0], 1e-3)
        _try(instruments, f"hwmon {name}", "power", lambda: current_ma() * voltage_mv())


def find_temperatures(root: Path) -> Found:
    """Thermal zones, or the temperatures of hwmon where there is none."""
    instruments = Found()
    for zone in sorted((root / "class/thermal").glob("thermal_zone*")):
        name = _word(zone / "type") or zone.name
        _try(instruments, f"{name} {zone.name}", "temperature", _scaled(zone / "temp", 1e-3))
    if instruments.sensors:
        return instruments
    for file in sorted((root / "class/hwmon").glob("hwmon*/temp*_input")):
        stem = file.name.split("_")[0]
        name = _word(file.parent / "name") or file.parent.name
        what = _word(file.parent / f"{stem}_label") or stem
        _try(instruments, f"{name} {what}", "temperature", _scaled(file, 1e-3))
    if not instruments.sensors:
        instruments.absent.append(("temperature", "no thermal zone"))
    return instruments


def find_clock(root: Path) -> Found:
    """The highest clock of all cores."""
    instruments = Found()
    policies = sorted((root / "devices/system/cpu/cpufreq").glob("policy*/scaling_cur_freq"))
    if policies:
        clocks = [_scaled(file, 1e-3) for file in policies]  # kHz
        _try(instruments, "cpufreq", "clock", lambda: max(clock() for clock in clocks))
    else:
        instruments.absent.append(("clock", "no cpufreq"))
    return instruments


def _scaled(file: Path, factor: float) -> Callable[[], float]:
    return lambda: number(file) * factor


def _try(instruments: Found, name: str, quantity: str, read: Callable[[], float]) -> None:
    """Add a sensor that can be read now."""
    try:
        read()
    except OSError as error:
        instruments.problems.append(f"{name}: {error.strerror or error}")
        return
    known = {sensor.name for sensor in instruments.sensors}
    count = sum(1 for k in known if k == name or k.startswith(f"{name} #"))
    instruments.sensors.append(Sensor(f"{name} #{count + 1}" if count else name, quantity, read))
