"""Tables 2, 6 and 7 beside the paper's numbers, and the reductions of section 5.3."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from skip2lora.methods import METHODS
from skip2lora.paper import printed
from skip2lora.paper.printed import DATASET_NAMES, TIMES
from skip2lora.paper.protocol import BATCH_SIZE, RANK
from skip2lora.paper.tables import BELOW, Grid
from skip2lora.paper.timings import LayerTimes, MethodTimes, Run
from skip2lora.spread import Spread
from skip2lora.training.costs import method_costs

_PARTS = ("FC", "LoRA", "BN", "Act")
_DIRECTIONS = ("forward", "backward")
_IDLE = 0.98  # share of the time that a program alone on its core gets
_BASE, _SKIP, _SKIP2 = "lora-all", "skip-lora", "skip2-lora"


def _update_us(run: Run, name: str) -> float | None:
    # The fused step moves the skip adapters in the pass that makes their gradients.
    return None if METHODS[name].skip else run.phases_us["update"]


_COLUMNS: dict[str, Callable[[Run, str], float | None]] = {
    "train@batch": lambda run, _: run.untimed_us,
    "forward": lambda run, _: run.forward_us,
    "backward": lambda run, _: run.phases_us["backward"],
    "weight update": _update_us,
    "predict@sample": lambda run, _: run.predict_us,
}


@dataclass(frozen=True)
class TimeTable:
    """Table 6 (fan) or 7 (har), what the phases add up to, and the reductions."""

    measured: MethodTimes
    machine: dict[str, str]

    @property
    def number(self) -> int:
        """Of the table in the paper."""
        return 6 if self.measured.dataset == "fan" else 7

    @property
    def title(self) -> str:
        """Of the table."""
        return f"Table {self.number}: execution time on {DATASET_NAMES[self.measured.dataset]}"

    def spread(self, method: str, column: str) -> Spread | None:
        """Microseconds; None for an update that is one pass with backward."""
        values = [_COLUMNS[column](run, method) for run in self.measured.runs[method]]
        known = [value for value in values if value is not None]
        return Spread.of(known) if known else None

    def shares(self, method: str, column: str) -> tuple[float | None, float | None]:
        """Percent of the same of LoRA-All, here and in the paper; None where either is unknown."""
        ours, base = self.spread(method, column), self.spread(_BASE, column)
        paper = printed.time_ms(self.measured.dataset, method, column)
        paper_base = printed.time_ms(self.measured.dataset, _BASE, column)
        return (
            100 * ours.median / base.median if ours and base and base.median else None,
            100 * paper / paper_base if paper and paper_base else None,
        )

    def reductions(self) -> dict[str, Spread]:
        """Percent saved (section 5.3), of each repetition's own runs."""
        runs = self.measured.runs

        def saved(part: Callable[[Run], float], method: str, base: str) -> Spread:
            pairs = zip(runs[method], runs[base], strict=True)
            return Spread.of(100 * (1 - part(one) / part(other)) for one, other in pairs)

        return {
            "backward": saved(lambda run: run.phases_us["backward"], _SKIP, _BASE),
            "backward and update": saved(_backward_and_update_us, _SKIP, _BASE),
            "forward": saved(lambda run: run.forward_us, _SKIP2, _SKIP),
            "total": saved(lambda run: run.untimed_us, _SKIP2, _BASE),
        }

    def totals(self) -> dict[str, dict[str, float]]:
        """Of LoRA-All and Skip2-LoRA over all epochs: milliseconds, operations, speed.

        The operations are those of Table 1's layers: batch norm, ReLU, loss and update left out.
        """
        of = self.measured
        costs = method_costs(of.widths, batch=BATCH_SIZE, rank=RANK, epochs=of.epochs)
        totals = {}
        for name in (_BASE, _SKIP2):
            cost = costs[name]
            operations = (cost.forward + cost.backward) * of.n_samples * of.epochs / BATCH_SIZE
            runs = of.runs[name]
            total_ms = statistics.median(run.untimed_us * run.n_batches / 1e3 for run in runs)
            totals[name] = {
                "total_ms": total_ms,
                "gflop": operations / 1e9,
                "gflop_per_s": operations / (total_ms * 1e6),
            }
        return totals

    @property
    def bound(self) -> float:
        """Percent of LoRA-All's operations that Skip2-LoRA saves, first epoch included."""
        totals = self.totals()
        return 100 * (1 - totals[_SKIP2]["gflop"] / totals[_BASE]["gflop"])

    def grids(self) -> tuple[Grid, ...]:
        """For a person."""
        return (self._times(), self._phases(), self._reductions())

    def _times(self) -> Grid:
        rows = tuple((name, *(self._cell(name, column) for column in TIMES)) for name in METHODS)
        head = ("", *(column.replace("@", " @").replace(" ", "\n") for column in TIMES))
        notes = (
            "In each cell: median here; the paper's, on a Raspberry Pi Zero 2 W; percent of "
            "lora-all's here / in the paper.",
            "The first epoch is in every mean. Forward holds the cache look-up and the frozen "
            "layers. In backward: the fused step of the skip adapters (lora-last is one of them) "
            "moves the weights in the pass that makes their gradients.",
            "predict@sample: one sample after the other in the C core, features to logits; "
            "ft-all-lora predicts with its adapters merged, as it is kept.",
            f"{_who(self.machine)}; {self._protocol()}. {_ran(self.measured)}",
        )
        return Grid(f"{self.title} (median of {self._n_runs()})", head, rows, notes)

    def _cell(self, method: str, column: str) -> str:
        ours = self.spread(method, column)
        paper = printed.time_ms(self.measured.dataset, method, column)
        here, there = (_percent(share) for share in self.shares(method, column))
        return "\n".join(
            (
                "in backward" if ours is None else f"{ours.median:.2f} µs",
                "-" if paper is None else f"{paper:.3f} ms",
                f"{here}/{there} %",
            )
        )

    def _n_runs(self) -> str:
        n_runs = len(self.measured.runs[_BASE])
        return f"{n_runs} run{'s' * (n_runs != 1)}"

    def _protocol(self) -> str:
        of = self.measured
        return f"{of.epochs} epochs of {of.n_samples} samples, batch {BATCH_SIZE}, rank {RANK}"

    def _phases(self) -> Grid:
        rows = []
        for name, runs in self.measured.runs.items():
            rows.append(
                (
                    name,
                    Spread.of(run.untimed_us for run in runs).text(2),
                    *(
                        f"{statistics.median(run.phases_us[phase] for run in runs):.2f}"
                        for phase in ("rows", "rest")
                    ),
                    f"{statistics.median(run.sum_us for run in runs):.2f}",
                    f"{self.difference(name):+.1f} %",
                )
            )
        head = ("", "no mark inside", "rows", "rest", "sum of phases", "sum less")
        notes = (
            "Microseconds a batch. No mark inside: the whole run without phase timers, median and "
            "below it smallest to largest. Rows is part of forward; rest is order, gathering and "
            "statistics. Last: the sum of the phases less the run without marks.",
        )
        return Grid(f"Table {self.number}: phases and whole run", head, tuple(rows), notes)

    def difference(self, method: str) -> float:
        """Percent by which the phases add up to more than the run without marks."""
        runs = self.measured.runs[method]
        return 100 * (
            statistics.median(run.sum_us for run in runs)
            / statistics.median(run.untimed_us for run in runs)
            - 1
        )

    def _reductions(self) -> Grid:
        words = {
            "backward": "backward, skip-lora against lora-all",
            "backward and update": "backward and update, the same",
            "forward": "forward, skip2-lora against skip-lora",
            "total": "total, skip2-lora against lora-all",
        }
        paper = paper_reductions(self.measured.dataset)
        rows = [
            (words[name], spread.text(), _one(paper.get(name)), _range(name))
            for name, spread in self.reductions().items()
        ]
        rows.append(("total that arithmetic alone allows", f"{self.bound:.1f}", "", ""))
        speeds = "; ".join(
            f"{name} {of['total_ms']:.1f} ms for {of['gflop']:.2f} GFLOP, "
            f"{of['gflop_per_s']:.1f} GFLOP/s"
            for name, of in self.totals().items()
        )
        head = ("saved (%)", "here", f"paper, Table {self.number}", "paper, section 5.3")
        notes = (
            f"The whole fine-tuning: {speeds}.",
            "Operations are those of the layers in Table 1, without batch norm, ReLU, loss and "
            "update. Here the backward of skip-lora holds its update, that of lora-all does not.",
        )
        return Grid(f"Table {self.number}: what is saved", head, tuple(rows), notes)

    def facts(self) -> dict[str, Any]:
        """For a machine."""
        return {
            "title": self.title,
            "dataset": self.measured.dataset,
            "epochs": self.measured.epochs,
            "n_samples": self.measured.n_samples,
            "machine": self.machine,
            "core_share": self.measured.core_share,
            "rows": {name: {c: self._cell_facts(name, c) for c in TIMES} for name in METHODS},
            "sum_less_untimed_percent": {name: self.difference(name) for name in METHODS},
            "saved_percent": {name: asdict(of) for name, of in self.reductions().items()},
            "saved_percent_paper": paper_reductions(self.measured.dataset),
            "saved_percent_paper_range": printed.REDUCTIONS,
            "saved_percent_bound": self.bound,
            "whole": self.totals(),
            "runs": {
                name: [asdict(run) | {"sum_us": run.sum_us} for run in runs]
                for name, runs in self.measured.runs.items()
            },
        }

    def _cell_facts(self, method: str, column: str) -> dict[str, Any]:
        ours = self.spread(method, column)
        here, there = self.shares(method, column)
        return {
            "us": None if ours is None else asdict(ours),
            "paper_ms": printed.time_ms(self.measured.dataset, method, column),
            "percent_of_lora_all": here,
            "percent_of_lora_all_paper": there,
        }


def _backward_and_update_us(run: Run) -> float:
    return run.phases_us["backward"] + run.phases_us["update"]


def paper_reductions(dataset: str) -> dict[str, float]:
    """Percent saved by the printed times of Table 6; of Table 7 our copy lacks them."""

    def ms(method: str, *columns: str) -> float | None:
        known = [printed.time_ms(dataset, method, column) for column in columns]
        return None if None in known else sum(value for value in known if value is not None)

    pairs = {
        "backward": (ms(_SKIP, "backward"), ms(_BASE, "backward")),
        "backward and update": (
            ms(_SKIP, "backward", "weight update"), ms(_BASE, "backward", "weight update"),
        ),
        "forward": (ms(_SKIP2, "forward"), ms(_SKIP, "forward")),
        "total": (ms(_SKIP2, "train@batch"), ms(_BASE, "train@batch")),
    }  # fmt: skip
    return {name: 100 * (1 - one / base) for name, (one, base) in pairs.items() if one and base}


@dataclass(frozen=True, eq=False)
class LayerTable:
    """Table 2: what the layers of FT-All-LoRA take of the forward and of the backward pass."""

    measured: tuple[LayerTimes, ...]
    machine: dict[str, str]
    title: str = "Table 2: execution times of FT-All-LoRA (%)"

    def spread(self, times: LayerTimes, name: str, *, percent: bool) -> Spread:
        """Of a part such as "forward FC1": percent of its direction, or microseconds a batch."""
        words = name.split()
        direction, layer = _DIRECTIONS.index(words[0]), int(words[1][-1]) - 1
        part = _PARTS.index(words[1][:-1])
        values = []
        for of in times.repetitions:
            unit = 100 / of[:, direction].sum() if percent else 1.0
            values.append(float(of[layer, direction, part] * unit))
        return Spread.of(values)

    def grids(self) -> tuple[Grid, ...]:
        """For a person."""
        rows = tuple(
            (name, *(self._cell(times, name) for times in self.measured))
            for name in printed.TABLE2["fan"]
        )
        head = ("", *(DATASET_NAMES[times.dataset] for times in self.measured))
        n_runs = len(self.measured[0].repetitions)
        notes = (
            f"Median of {n_runs} run{'s' * (n_runs != 1)} of all epochs, loss left out. {BELOW}",
            f"{_who(self.machine)}. {_ran(*self.measured)}",
        )
        return (Grid(self.title, head, rows, notes),)

    def _cell(self, times: LayerTimes, name: str) -> str:
        ours, paper = self.spread(times, name, percent=True), printed.TABLE2[times.dataset][name]
        return f"{ours.median:.2f}\n{paper:.2f} ({ours.median - paper:+.2f})"

    def facts(self) -> dict[str, Any]:
        """For a machine."""
        rows = {
            times.dataset: {
                name: {
                    "percent": asdict(self.spread(times, name, percent=True)),
                    "us": asdict(self.spread(times, name, percent=False)),
                    "paper": paper,
                }
                for name, paper in printed.TABLE2[times.dataset].items()
            }
            for times in self.measured
        }
        shares = {times.dataset: times.core_share for times in self.measured}
        return {
            "title": self.title,
            "machine": self.machine,
            "core_share": shares,
            "rows": rows,
            "repetitions_us": {
                times.dataset: [of.tolist() for of in times.repetitions] for times in self.measured
            },
        }


def _who(machine: dict[str, str]) -> str:
    return f"{machine['processor']}, one core, {machine['kernels']} kernels"


def _ran(*measured: MethodTimes | LayerTimes) -> str:
    share = min(times.core_share for times in measured)
    busy = ": something else ran on it, measure again when it is idle" if share < _IDLE else ""
    return f"This program had the core for {100 * share:.1f} % of the time{busy}."


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0f}"


def _one(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _range(name: str) -> str:
    return "{} to {}".format(*printed.REDUCTIONS[name]) if name in printed.REDUCTIONS else "-"
