"""Tables of trials beside the paper's numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from skip2lora.methods import METHODS
from skip2lora.paper import printed
from skip2lora.paper.printed import Printed
from skip2lora.paper.trials import TUNED, Job, read_trial, trial_file

#: Epochs of TinyTL's fine-tuning after which its learning curve has a test accuracy; 0 is before.
TESTED_EPOCHS = (0, 1, 2, 5, 10, 20, 50, 100)
BELOW = "Above: measured here. Below: the paper's number (ours less the paper's)."


@dataclass(frozen=True)
class Cell:
    """One measured number: mean and sample deviation over the trials, and the paper's.

    Percent; ``std`` is None for a single trial, ``paper`` where the paper has no such number.
    """

    mean: float
    std: float | None
    trials: int
    paper: Printed | None

    @property
    def difference(self) -> float | None:
        """Ours less the paper's."""
        return None if self.paper is None else self.mean - self.paper.mean

    def text(self) -> str:
        """For a person: ours, and below it the paper's and the difference."""
        ours = f"{self.mean:.2f}" + (f"±{self.std:.2f}" if self.std is not None else "")
        if self.paper is None or self.difference is None:
            return f"{ours}\n-"
        return f"{ours}\n{self.paper.mean:.2f}±{self.paper.std:.2f} ({self.difference:+.2f})"

    def facts(self) -> dict[str, Any]:
        """For a machine."""
        paper = None if self.paper is None else self.paper._asdict()
        return {**asdict(self), "paper": paper, "difference": self.difference}


@dataclass(frozen=True)
class Grid:
    """A table for a person: one text a cell. ``notes`` belong below.

    The first line of a cell was measured here, what follows is set beside it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


class Measured(Protocol):
    """What a report shows."""

    def grids(self) -> tuple[Grid, ...]:
        """For a person."""

    def facts(self) -> dict[str, Any]:
        """For a machine."""


@dataclass(frozen=True)
class Table:
    """Rows of cells by task; ``cells[task][column]``. ``notes`` belong below."""

    title: str
    columns: tuple[str, ...]
    cells: dict[str, dict[str, Cell]]
    notes: tuple[str, ...] = ()

    def grids(self) -> tuple[Grid, ...]:
        """For a person: tasks as columns, as nine methods beside each other fit no terminal."""
        head = ("", *(printed.TASK_NAMES[task] for task in self.cells))
        rows = tuple(
            (column, *(row[column].text() for row in self.cells.values()))
            for column in self.columns
        )
        return (Grid(self.title, head, rows, (*self.notes, BELOW)),)

    def facts(self) -> dict[str, Any]:
        """For a machine."""
        rows = {
            task: {column: cell.facts() for column, cell in row.items()}
            for task, row in self.cells.items()
        }
        return {"title": self.title, "rows": rows, "notes": list(self.notes)}


def jobs_of(parts: Sequence[str], tasks: Sequence[str], n_trials: int) -> list[Job]:
    """Every part of every trial; parts of one trial stand together, as they share a network."""
    return [(part, task, seed) for task in tasks for seed in range(n_trials) for part in parts]


def table3(out: Path, tasks: Sequence[str], n_trials: int) -> Table:
    """Before and after the change of surroundings."""
    cells = {
        task: {
            column: _cell(out, "before-after", task, n_trials, column, printed.TABLE3[task][column])
            for column in ("before", "after")
        }
        for task in tasks
    }
    return Table("Table 3: accuracy before and after the drift (%)", ("before", "after"), cells)


def table4(out: Path, tasks: Sequence[str], n_trials: int) -> Table:
    """The eight methods, and Skip2-LoRA with a recipe chosen on validation samples."""
    cells = {}
    for task in tasks:
        row = {
            name: _cell(out, "methods", task, n_trials, name, printed.TABLE4[task][name])
            for name in METHODS
        }
        row[TUNED] = _cell(out, "tuned", task, n_trials, TUNED, None)
        cells[task] = row
    return Table("Table 4: accuracy of the methods (%)", (*METHODS, TUNED), cells)


@dataclass(frozen=True)
class LearningTable(Table):
    """Table 5: ``trials[task][column]`` are those of a cell, with each epoch of fine-tuning."""

    trials: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)

    def grids(self) -> tuple[Grid, ...]:
        """For a person: the table, and learning curves in the mean over the trials."""
        cells = {
            f"{printed.TASK_NAMES[task]}, {norm}": trials
            for task, row in self.trials.items()
            for norm, trials in row.items()
        }
        longest = max(len(trial["curve"]) for trials in cells.values() for trial in trials)
        epochs = [epoch for epoch in TESTED_EPOCHS if epoch < longest]
        rows = [
            (str(epoch), *(_after(trials, epoch) for trials in cells.values())) for epoch in epochs
        ]
        rows.append(("end", *(_after(trials, longest) for trials in cells.values())))
        rows.append(("ended after", *(_lengths(trials) for trials in cells.values())))
        title = "Learning curves: test accuracy / of held-out fine-tune samples after an epoch (%)"
        note = "A trial that has ended counts with its result, the weights of its best epoch."
        return (*super().grids(), Grid(title, ("epoch", *cells), tuple(rows), (note,)))

    def facts(self) -> dict[str, Any]:
        """For a machine."""
        return {**super().facts(), "trials": self.trials}


def _after(trials: Sequence[dict[str, Any]], epoch: int) -> str:
    """Mean accuracies after so many epochs, 0 before the first."""
    if epoch == 0:
        return f"{100 * statistics.fmean(trial['before'] for trial in trials):.1f} / -"
    pairs = []
    for trial in trials:
        curve, best = trial["curve"], trial["curve"][trial["best_epoch"] - 1]
        now = curve[epoch - 1] if epoch < len(curve) else {**best, "tested": trial["accuracy"]}
        pairs.append((now["tested"], now["held_out"]))
    tested, held_out = (100 * statistics.fmean(of) for of in zip(*pairs, strict=True))
    return f"{tested:.1f} / {held_out:.1f}"


def _lengths(trials: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{len(trial['curve'])} ({trial['best_epoch']})" for trial in trials)


def table5(out: Path, tasks: Sequence[str], n_trials: int) -> LearningTable:
    """TinyTL on ProxylessNAS, with group norm and with batch norm, until it stops improving."""
    norms = ("gn", "bn")
    trials = {
        task: {
            norm: [
                read_trial(trial_file(out, f"tinytl-{norm}", task, seed))
                for seed in range(n_trials)
            ]
            for norm in norms
        }
        for task in tasks
    }
    cells = {
        task: {
            norm: _cell_of([100 * of["accuracy"] for of in row[norm]], printed.TABLE5[task][norm])
            for norm in norms
        }
        for task, row in trials.items()
    }
    notes = [
        f"{printed.TASK_NAMES[task]}, {norm}: {of[0]['n_parameters']:,} parameters, "
        f"{of[0]['n_trainable']:,} trained"
        for task, row in trials.items()
        for norm, of in row.items()
    ]
    title = f"Table 5: accuracy of TinyTL on ProxylessNAS, {n_trials} trials (%)"
    return LearningTable(title, norms, cells, tuple(notes), trials)


def _cell(out: Path, part: str, task: str, n_trials: int, name: str, paper: Printed | None) -> Cell:
    trials = (read_trial(trial_file(out, part, task, seed)) for seed in range(n_trials))
    return _cell_of([100 * trial[name] for trial in trials], paper)


def _cell_of(values: Sequence[float], paper: Printed | None) -> Cell:
    std = statistics.stdev(values) if len(values) > 1 else None
    return Cell(statistics.fmean(values), std, len(values), paper)


@dataclass(frozen=True)
class Curve:
    """Figure 3 for one task: mean test accuracy (%) after each epoch.

    ``required_epochs`` is the first epoch within one point of the last; ``required_ms`` the cache
    fill and that many epochs on this machine.
    """

    accuracy: tuple[float, ...]
    required_epochs: int
    required_ms: float
    paper_epochs: int
    paper_seconds: float


def figure3(out: Path, tasks: Sequence[str], n_trials: int) -> dict[str, Curve]:
    """Training curves of Skip2-LoRA."""
    curves = {}
    for task in tasks:
        trials = [read_trial(trial_file(out, "curve", task, seed)) for seed in range(n_trials)]
        mean = [
            100 * statistics.fmean(of) for of in zip(*(k["accuracy"] for k in trials), strict=True)
        ]
        required = next(n for n, value in enumerate(mean, 1) if value >= mean[-1] - 1)
        fill = statistics.median(k["cache_fill_ms"] for k in trials)
        epoch = statistics.median(k["training_ms_an_epoch"] for k in trials)
        curves[task] = Curve(
            tuple(mean), required, fill + required * epoch,
            printed.REQUIRED_EPOCHS[task], printed.REQUIRED_SECONDS[task],
        )  # fmt: skip
    return curves
