"""Options and lines of the commands that record power."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click

from skip2lora.cli import common
from skip2lora.cli.messages import with_options
from skip2lora.power import Found, Recording, find_sensors, record, summarise
from skip2lora.power.energy import source_of
from skip2lora.power.find import DEFAULT_SHUNT_OHMS, check_shunt, parse_i2c

#: How long the device is watched at rest before it adapts, where its power can be measured.
IDLE_S = 1.0


def checked(
    kind: click.types.FloatParamType | click.types.StringParamType, check: Callable[[Any], object]
) -> Callable[[Any], Any]:
    """Type of an option: bad words are refused before anything else is done."""

    def convert(value: Any) -> Any:
        converted = kind.convert(value, None, None)
        check(converted)
        return converted

    return convert


def sensor_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--i2c`` and ``--shunt-ohms``."""
    for option in (
        click.option(
            "--shunt-ohms", metavar="FLOAT", type=checked(click.FLOAT, check_shunt),
            help=f"Resistor of the INA219. Default: {DEFAULT_SHUNT_OHMS}.",
        ),
        click.option(
            "--i2c", metavar="BUS:ADDRESS", type=checked(click.STRING, parse_i2c),
            help="Where the INA219 is. Default: 1:0x40.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def sensors_for(i2c: str | None, shunt_ohms: float | None) -> Found:
    """What those options name."""
    return find_sensors(
        i2c=i2c, shunt_ohms=DEFAULT_SHUNT_OHMS if shunt_ohms is None else shunt_ohms
    )


@dataclass(frozen=True, eq=False)
class PowerMeter:
    """What ``--power`` records of the block that it is entered for."""

    instruments: Found
    recordings: list[Recording] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """The object ``power`` of ``--json``."""
        summary = summarise(self.recordings[0], "adapt", idle="idle")
        absent = {of: self.instruments.missing(of) for of in ("power", "temperature", "clock")}
        problems = [with_options(problem) for problem in self.instruments.problems]
        return summary | {"absent": absent, "problems": problems}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record the block as the phase ``adapt``, after a rest where power is measured."""
        with record(self.instruments.sensors) as recording:
            self.recordings.append(recording)
            if source_of(recording) is not None:
                with recording.phase("idle"):
                    time.sleep(IDLE_S)
            with recording.phase("adapt"):
                yield


def lines_of(power: Mapping[str, Any]) -> list[str]:
    """What was measured, what else was read, and what refused."""
    lines = [_power_line(power)]
    others = [
        f"{of['quantity']} ({of['name']}) {_range(of)}"
        for of in power["sensors"]
        if of["quantity"] in ("temperature", "clock") and of["mean"] is not None
    ]
    others += [
        f"{of['name']} {of['mean']:,.0f} %"
        for of in power["sensors"]
        if of["quantity"] == "cpu_time" and of["mean"] is not None
    ]
    known = {of["quantity"] for of in power["sensors"]}
    others += [
        f"no {quantity}: {power['absent'][quantity]}"
        for quantity in ("temperature", "clock")
        if quantity not in known
    ]
    lines.append(", ".join(others))
    return lines + [f"note: {said}" for said in (*power["problems"], *power["failures"])]


def _power_line(power: Mapping[str, Any]) -> str:
    if power["source"] is None:
        reasons = power["absent"]["power"] or "see the notes"
        return f"power: nothing measures it here: {reasons}; docs/power.md says what would"
    if power["energy_j"] is None:
        return f"power ({power['source']}): it could not be read while adapting"
    above = power["energy_above_idle_j"]
    idle = "" if above is None else f", {joules(above)} above idle at {power['idle_mw']:,.0f} mW"
    took, covered = power["duration_ms"], power["covered_ms"]
    of = f" of {common.duration(took)}" if covered < 0.99 * took else ""
    return (
        f"power ({power['source']}): mean {power['mean_mw']:,.0f} mW, peak "
        f"{power['peak_mw']:,.0f} mW, {joules(power['energy_j'])} in "
        f"{common.duration(covered)}{of}{idle}; {power['n_samples']} samples in that time"
    )


def joules(energy_j: float) -> str:
    """Joules for a person."""
    return f"{1000 * energy_j:.1f} mJ" if abs(energy_j) < 1 else f"{energy_j:.2f} J"


def _range(of: Mapping[str, Any]) -> str:
    digits = 1 if of["quantity"] == "temperature" else 0
    return f"{of['min']:,.{digits}f} to {of['max']:,.{digits}f} {of['unit']}"
