"""Temperature and clock by psutil, or out of the kernel's files."""

from __future__ import annotations

import sys
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from fake_sensors import BOARD, fill
from skip2lora.errors import SensorError
from skip2lora.power import host

Entry = namedtuple("Entry", "label current high critical")
Frequency = namedtuple("Frequency", "current min max")


@pytest.fixture
def fake_psutil(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    state = SimpleNamespace(
        chips={"cpu_thermal": [Entry("", 44.0, None, None), Entry("b", 44.5, None, None)]},
        clocks=[Frequency(600.0, 600.0, 1000.0), Frequency(1000.0, 600.0, 1000.0)],
    )
    state.sensors_temperatures = lambda: state.chips
    state.cpu_freq = lambda percpu: state.clocks
    monkeypatch.setitem(sys.modules, "psutil", state)
    return state


def test_psutil(fake_psutil: SimpleNamespace) -> None:
    found = host.find_host(host.SYS_ROOT)
    assert [(of.name, of.read()) for of in found.sensors] == [
        ("cpu_thermal", 44.5),
        ("clock", 1000.0),
    ]
    fake_psutil.chips = {}
    fake_psutil.clocks = []
    with pytest.raises(SensorError, match="it went away"):
        found.sensors[0].read()
    with pytest.raises(SensorError, match="no clock"):
        found.sensors[1].read()


def test_psutil_that_knows_nothing(
    fake_psutil: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel's files are asked then."""
    del fake_psutil.sensors_temperatures
    fake_psutil.clocks = []
    monkeypatch.setattr(host, "SYS_ROOT", fill(tmp_path, BOARD))
    assert [of.read() for of in host.find_host(tmp_path).sensors] == [44.5, 1000.0]


def test_without_psutil(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(host, "SYS_ROOT", tmp_path)
    assert "pip install 'skip2lora[power]'" in host.find_host(tmp_path).missing("temperature")
    fill(tmp_path, BOARD)
    assert [of.read() for of in host.find_host(tmp_path).sensors] == [44.5, 1000.0]


def test_the_real_psutil_has_these_names() -> None:
    psutil = pytest.importorskip("psutil")
    assert isinstance(psutil.sensors_temperatures(), dict)
    assert all(hasattr(core, "current") for core in psutil.cpu_freq(percpu=True) or ())


def test_processor_time_is_of_this_process() -> None:
    sensor = host.cpu_time()
    assert (sensor.quantity, sensor.unit, sensor.is_counter) == ("cpu_time", "s", True)
    before = sensor.read()
    while sensor.read() == before:
        pass  # it runs
    assert before < sensor.read() <= time.process_time()
