"""Power, temperature and clock while something runs (section 5.4).

Each kind of sensor is a module, ``find`` asks all of them, ``recording`` reads them, ``energy``
adds up. Nothing of the package is imported here but its errors.
"""

from skip2lora.power.energy import energy_of, summarise
from skip2lora.power.find import find_sensors
from skip2lora.power.recording import Phase, Recording, record
from skip2lora.power.sensors import Found, Sensor

__all__ = [
    "Found",
    "Phase",
    "Recording",
    "Sensor",
    "energy_of",
    "find_sensors",
    "record",
    "summarise",
]
