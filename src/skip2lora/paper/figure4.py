"""Figure 4: power, temperature and clock while Skip2-LoRA adapts to HAR (section 5.4)."""

from __future__ import annotations

import math
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skip2lora.adapt import adapt
from skip2lora.backbones.loading import load
from skip2lora.drawing import new_figure, png
from skip2lora.errors import ParameterError
from skip2lora.paper.printed import FIGURE4
from skip2lora.paper.protocol import BATCH_SIZE, LEARNING_RATE, RANK, TASKS, load_split, pretrained
from skip2lora.power import Found, Phase, Recording, record, summarise
from skip2lora.power.energy import points, shown_unit
from skip2lora.training.loop import Callback

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AFTER_S = 3.0
#: The whole that the paper's figure shows, and its two parts.
RUN, READ, ADAPT = "fine-tuning with reading", "reading", "adapt"
_LABELS = {
    "power": "power (mW)",
    "temperature": "temperature (degC)",
    "clock": "clock (MHz)",
    "cpu_time": "CPU of this process (%)",
}


@dataclass(frozen=True)
class Trace:
    """One curve: seconds since the recording began, and values; NaN in a gap."""

    name: str
    quantity: str
    unit: str
    times_s: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Figure4:
    """What was recorded; ``power`` is :func:`~skip2lora.power.summarise` of a phase."""

    traces: tuple[Trace, ...]
    phases: tuple[Phase, ...]
    power: dict[str, dict[str, Any]]
    accuracy: float
    compute_ms: float
    missing: dict[str, str]
    problems: tuple[str, ...]

    def of(self, quantity: str) -> tuple[Trace, ...]:
        """The traces of a quantity."""
        return tuple(trace for trace in self.traces if trace.quantity == quantity)

    def facts(self) -> dict[str, Any]:
        """For ``report.json``; NaN, which JSON has not, is None."""
        return {
            "paper": FIGURE4,
            "rows": [list(row) for row in rows(self)],
            "accuracy": self.accuracy,
            "compute_ms": self.compute_ms,
            "phases": [
                {"name": of.name, "start_s": of.start_s, "end_s": of.end_s} for of in self.phases
            ],
            "power": self.power,
            "missing": self.missing,
            "problems": list(self.problems),
            "traces": [
                {
                    "name": of.name, "quantity": of.quantity, "unit": of.unit,
                    "times_s": [round(moment, 4) for moment in of.times_s],
                    "values": [v if math.isfinite(v) else None for v in of.values],
                }
                for of in self.traces
            ],
        }  # fmt: skip


def measure(
    data: Path,
    instruments: Found,
    *,
    idle_s: float = FIGURE4["start_s"],
    after_s: float | None = None,
    seed: int = 0,
    callback: Callback | None = None,
) -> Figure4:
    """Pre-train, then record: rest, read data and weights, adapt for 200 epochs, rest.

    Pre-training comes before the recording, as in the paper. ``callback`` follows the adapting.

    Raises:
        FileError, DataError: the data cannot be read.
        ParameterError: a rest that is not from 0 to 600 s.
    """
    after_s = AFTER_S if after_s is None else after_s
    for name, value in (("idle_s", idle_s), ("after_s", after_s)):
        if not 0 <= value <= 600:
            raise ParameterError(f"{name} is {value:g}, expected 0 to 600 seconds: choose another")
    with tempfile.TemporaryDirectory(prefix="skip2lora-") as folder:
        file = Path(folder) / "model.safetensors"
        pretrained(load_split("har", data), TASKS["har"], seed).save(file)
        with record(instruments.sensors) as recording:
            with recording.phase("before"):
                time.sleep(idle_s)
            with recording.phase(RUN):
                with recording.phase(READ):
                    split, model = load_split("har", data), load(file)
                with recording.phase(ADAPT):
                    adapted = adapt(
                        model, split.finetune.x, split.finetune.labels, rank=RANK,
                        epochs=int(FIGURE4["epochs"]), batch_size=BATCH_SIZE,
                        learning_rate=LEARNING_RATE, seed=seed, callback=callback,
                    )  # fmt: skip
            with recording.phase("after"):
                time.sleep(after_s)
    accuracy = adapted.score(split.test.x, split.test.labels)
    return _figure(recording, instruments, accuracy, adapted.timing.total_ms)


def _figure(
    recording: Recording, instruments: Found, accuracy: float, compute_ms: float
) -> Figure4:
    zero = min(phase.start_s for phase in recording.phases)
    traces = []
    for series in recording.series.values():
        times, values = points(series, recording.interval_s)
        quantity = "power" if series.sensor.quantity == "energy" else series.sensor.quantity
        traces.append(
            Trace(
                series.sensor.name, quantity, shown_unit(series),
                tuple((times - zero).tolist()), tuple(values.tolist()),
            )
        )  # fmt: skip
    return Figure4(
        traces=tuple(traces),
        phases=tuple(Phase(of.name, of.start_s - zero, of.end_s - zero) for of in recording.phases),
        power={name: summarise(recording, name, idle="before") for name in (RUN, ADAPT)},
        accuracy=accuracy,
        compute_ms=compute_ms,
        missing={of: instruments.missing(of) for of in ("power", "temperature", "clock")},
        problems=(*instruments.problems, *recording.failures),
    )


def rows(figure: Figure4) -> list[tuple[str, str, str]]:
    """What, measured here, in the paper: for a table."""
    run = figure.power[RUN]
    start = next(of.start_s for of in figure.phases if of.name == RUN)

    def lowest_and_highest(quantity: str) -> tuple[float, float] | None:
        # The first of a kind alone: with several chips, which is which differs between devices.
        first = figure.of(quantity)[:1]
        values = [v for trace in first for v in trace.values if math.isfinite(v)]
        return (min(values), max(values)) if values else None

    power, heat, clock = map(lowest_and_highest, ("power", "temperature", "clock"))
    unknown = "not measured"
    energy, above = run["energy_j"], run["energy_above_idle_j"]
    return [
        ("fine-tuning starts", f"{start:.2f} s", f"{FIGURE4['start_s']:.0f} s"),
        ("compute", f"{figure.compute_ms / 1000:.3f} s", f"{FIGURE4['compute_s']} s"),
        ("reading and fine-tuning", f"{run['duration_ms'] / 1000:.3f} s", "-"),
        ("highest power", f"{power[1]:,.0f} mW" if power else unknown,
         f"at most {FIGURE4['max_mw']:,.0f} mW"),
        ("power before", _number(run["idle_mw"], "mW", 0), "-"),
        ("energy of reading and fine-tuning", _number(energy, "J", 3), "-"),
        ("of that above the power before", _number(above, "J", 3), "-"),
        ("highest temperature", f"{heat[1]:.1f} degC" if heat else unknown,
         f"at most {FIGURE4['max_degc']} degC"),
        ("clock", f"{clock[0]:,.0f} to {clock[1]:,.0f} MHz" if clock else unknown,
         f"{FIGURE4['idle_mhz']:,.0f} to {FIGURE4['run_mhz']:,.0f} MHz"),
    ]  # fmt: skip


def _number(value: float | None, unit: str, digits: int) -> str:
    return "not measured" if value is None else f"{value:,.{digits}f} {unit}"


def missing_lines(figure: Figure4) -> list[str]:
    """What could not be read and why, for a person."""
    lines = [
        f"{quantity}: nothing measures it here: {why or 'see below'}"
        for quantity, why in figure.missing.items()
        if not figure.of(quantity)
    ]
    return lines + [f"note: {problem}" for problem in figure.problems]


def draw(figure: Figure4) -> bytes:
    """The curves below each other as PNG, those that there are, with the paper's numbers as lines.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shown = [quantity for quantity in ("power", "temperature", "clock") if figure.of(quantity)]
    if "power" not in shown:  # what every system tells; it stands in for nothing, and says so
        shown.append("cpu_time")
    missing = missing_lines(figure)
    drawn = new_figure(
        figsize=(9, 1.4 + 2.1 * len(shown) + 0.2 * len(missing)), layout="constrained"
    )
    title = "Skip2-LoRA adapts to HAR (200 epochs)"
    lines = [title, *(part for line in missing for part in textwrap.wrap(line, 110))]
    drawn.suptitle("\n".join(lines), fontsize="medium")
    grid = drawn.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, quantity in zip(grid, shown, strict=True):
        _draw_axes(axes, figure, quantity)
    grid[-1].set_xlabel("time (s)")
    return png(drawn)


def _draw_axes(axes: Axes, figure: Figure4, quantity: str) -> None:
    for trace, color in zip(
        figure.of(quantity), ("#1f5fa8", "#2a8a5a", "#8a4a9a", "#555555") * 8, strict=False
    ):
        axes.plot(trace.times_s, trace.values, color=color, linewidth=1.2, label=trace.name)
    paper = {
        "power": [("at most", FIGURE4["max_mw"], "mW")],
        "temperature": [("at most", FIGURE4["max_degc"], "degC")],
        "clock": [("before", FIGURE4["idle_mhz"], "MHz"), ("then", FIGURE4["run_mhz"], "MHz")],
    }
    for what, value, unit in paper.get(quantity, []):
        label = f"paper, Raspberry Pi Zero 2 W: {what} {value:,g} {unit}"
        axes.axhline(value, color="#b0722a", linestyle=":", linewidth=1.5, label=label)
    for phase in figure.phases:
        if phase.name in (READ, ADAPT):
            color = "#bbbbbb" if phase.name == READ else "#f0c860"
            axes.axvspan(phase.start_s, phase.end_s, color=color, alpha=0.5, label=phase.name)
    finite = [v for of in figure.of(quantity) for v in of.values if math.isfinite(v)]
    highest = max([*finite, *(value for _, value, _ in paper.get(quantity, []))], default=1.0)
    if quantity != "temperature" and min(finite, default=0.0) >= 0:
        axes.set_ylim(0, 1.12 * float(np.maximum(highest, 1e-9)))
    if quantity == "cpu_time":
        axes.set_title("no power: processor time of this process, which every system tells",
                       fontsize="small")  # fmt: skip
    axes.set_ylabel(_LABELS[quantity])
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="x-small", frameon=False)
