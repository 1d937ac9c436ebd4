"""Which sensors this device has."""

from __future__ import annotations

import errno
from pathlib import Path

from skip2lora.errors import MissingExtraError, ParameterError
from skip2lora.power import host, ina219, sysfs
from skip2lora.power.sensors import Found

DEFAULT_I2C = (1, 0x40)  # the bus on the header of a Raspberry Pi, the chip as it is sold
DEFAULT_SHUNT_OHMS = 0.1
DEV_ROOT = Path("/dev")


def parse_i2c(text: str) -> tuple[int, int]:
    """``"1:0x40"`` to bus and address.

    Raises:
        ParameterError: written otherwise, or no address an INA219 can have.
    """
    bus, _, address = text.partition(":")
    try:
        place = (int(bus), int(address, 0))
    except ValueError:
        place = (-1, -1)
    if place[0] < 0 or place[1] not in ina219.ADDRESSES:
        raise ParameterError(
            f"i2c is {text!r}, expected BUS:ADDRESS such as 1:0x40, the address from 0x40 to "
            "0x4f: correct it"
        )
    return place


def check_shunt(shunt_ohms: float) -> float:
    """``shunt_ohms`` if a shunt can have it.

    Raises:
        ParameterError: it cannot.
    """
    if not 0.0001 <= shunt_ohms <= 100:
        raise ParameterError(
            f"shunt_ohms is {shunt_ohms:g}, expected 0.0001 to 100: read it off the resistor "
            "(R100 is 0.1)"
        )
    return shunt_ohms


def find_sensors(
    *,
    i2c: str | None = None,
    shunt_ohms: float = DEFAULT_SHUNT_OHMS,
    sys_root: Path | None = None,
) -> Found:
    """Everything that can be read here; what measures power best comes first.

    That is an INA219 (the whole board, as in the paper's section 5.4), then a chip of that family
    with a driver of the kernel, then RAPL (the processor alone), then what else the kernel offers,
    which may be a graphics card. ``i2c`` names the INA219 as ``BUS:ADDRESS``; by default
    ``1:0x40`` is asked. Nothing that is missing raises: ``absent`` and ``problems`` say it.

    Raises:
        ParameterError: ``i2c`` or ``shunt_ohms`` is no such thing.
    """
    place = DEFAULT_I2C if i2c is None else parse_i2c(i2c)
    check_shunt(shunt_ohms)
    root = host.SYS_ROOT if sys_root is None else sys_root
    instruments = _find_ina219(place, shunt_ohms, named=i2c is not None)
    instruments.add(sysfs.find_hwmon_power(root))
    instruments.add(sysfs.find_rapl(root))
    instruments.add(host.find_host(root))
    instruments.sensors.append(host.cpu_time())
    instruments.sensors.sort(key=lambda sensor: _rank(sensor.name))
    return instruments


def _rank(name: str) -> int:
    prefixes = ("ina219 ", "hwmon ina", "rapl ", "hwmon ")
    return next((at for at, start in enumerate(prefixes) if name.startswith(start)), len(prefixes))


def _find_ina219(place: tuple[int, int], shunt_ohms: float, *, named: bool) -> Found:
    number, address = place
    device, name = DEV_ROOT / f"i2c-{number}", f"ina219 {number}:0x{address:02x}"
    if not device.exists():
        absent = f"no INA219 ({device} is not there)"
        return Found(problems=[absent]) if named else Found(absent=[("power", absent)])
    try:
        bus = ina219.open_bus(number)
    except (OSError, MissingExtraError) as error:
        return Found(problems=[f"{name}: {error}"])
    try:
        chip = ina219.setup(bus, address, shunt_ohms=shunt_ohms, certain=named)
    except OSError as error:
        bus.close()
        return Found(problems=[f"{name}: {_reason(error)}"])
    return Found(sensors=[ina219.sensor(chip, name)])


def _reason(error: OSError) -> str:
    """Why a chip does not answer, for a person."""
    if error.errno == errno.EBUSY:
        return "a driver of the kernel holds it: it is read as hwmon"
    if error.errno in (errno.EIO, errno.ENXIO, 121):  # EREMOTEIO, of Linux alone
        return "nothing answers there: check the wires and the address (i2cdetect -y 1)"
    return str(error)
