"""What a smaller Skip-Cache costs, in time and accuracy: a trade-off that section 4.3 only names.

Every choice trains the same pre-trained network on the same samples from the same seed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skip2lora.adapted import AdaptedModel
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.rows import POLICIES
from skip2lora.arrays import check_labels
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.recipe import PAPER
from skip2lora.datasets import Split
from skip2lora.drawing import new_figure, png
from skip2lora.paper import protocol
from skip2lora.paper.printed import TASK_NAMES
from skip2lora.paper.protocol import BATCH_SIZE, LEARNING_RATE, RANK
from skip2lora.paper.tables import Grid
from skip2lora.tasks.task import PLAIN
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import checked
from skip2lora.training.options import resolve_options
from skip2lora.training.rehearsal import rehearse

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = {
    "pin": "#1f5fa8", "fifo": "#b0722a", "lru": "#8a4a9a",
    "precision": "#2a8a5a", "projection": "#c03a3a",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Which rows are kept, as what.

    ``percent`` of the samples have a row, ``policy`` says which; ``projection`` numbers of each tap
    are kept, None: all.
    """

    percent: int = 100
    policy: str = "pin"
    dtype: str = "float32"
    projection: int | None = None

    @property
    def exact(self) -> bool:
        """Whether rows are what the frozen layers compute, bit for bit."""
        return self.dtype == "float32" and self.projection is None

    @property
    def text(self) -> str:
        """For a person."""
        if not self.exact:
            parts = [] if self.projection is None else [f"projection {self.projection}"]
            return ", ".join(parts if self.dtype == "float32" else [*parts, self.dtype])
        names = {0: "none: Skip-LoRA", 100: "all: Skip2-LoRA"}
        return names.get(self.percent, f"{self.percent} %, {self.policy}")

    def options(self, n_samples: int) -> dict[str, Any]:
        """As training takes them."""
        options: dict[str, Any] = {"cache_dtype": self.dtype, "projection": self.projection}
        if self.percent < 100:
            rows = self.percent * n_samples // 100
            options |= {"cache_samples": rows, "cache_policy": self.policy}
        return options


ALL, NONE = Choice(), Choice(0)
SIZES = (
    NONE,
    *(Choice(percent, policy) for percent in (10, 25, 50, 75, 90) for policy in POLICIES),
    ALL,
)
PRECISIONS = tuple(Choice(dtype=name) for name in ("float16", "bfloat16", "int8", "int4"))
PROJECTIONS = (
    *(Choice(projection=width) for width in (4, 8, 16, 32)),
    Choice(projection=16, dtype="int8"),
)
#: All rows come first, as the others are compared with them.
CHOICES = (ALL, *SIZES[:-1], *PRECISIONS, *PROJECTIONS)


@dataclass(frozen=True)
class Run:
    """One fine-tuning.

    ``cpu_ms`` is processor time from checked samples to adapters. ``saved`` is the share of forward
    passes, 0 to 1, that an epoch over all samples would take and that rows made needless;
    ``n_bytes`` are those of the cache, padding, flags and tables included. ``same``: the adapters
    have the bits of those from all rows.
    """

    cpu_ms: float
    n_forwards: int
    saved: float
    n_bytes: int
    accuracy: float
    same: bool = True


@dataclass(frozen=True)
class Cell:
    """One choice on one task, over the trials.

    ``time`` and ``share`` (of the bytes) are the median and mean of the ratio to no rows and to all
    rows in the same trial; ``saved`` is in percent, as ``accuracy``, ``difference`` (from all rows,
    paired) and the deviation of that, None for a single trial.
    """

    cpu_ms: float
    time: float
    saved: float
    share: float
    accuracy: float
    difference: float
    deviation: float | None
    n_same: int


@dataclass(frozen=True)
class CacheTable:
    """Every choice on every task: ``runs[task][choice]``, one a trial."""

    runs: dict[str, dict[Choice, tuple[Run, ...]]]
    machine: dict[str, str]

    @property
    def n_trials(self) -> int:
        """Of each choice."""
        return len(next(iter(self.runs.values()))[ALL])

    def cell(self, task: str, choice: Choice) -> Cell:
        """Its runs beside those of the same trials with all rows, and with none."""
        of = self.runs[task]
        runs, whole, none = of[choice], of[ALL], of[NONE]
        apart = [100 * (a.accuracy - b.accuracy) for a, b in zip(runs, whole, strict=True)]
        return Cell(
            cpu_ms=statistics.median(run.cpu_ms for run in runs),
            time=statistics.median(a.cpu_ms / b.cpu_ms for a, b in zip(runs, none, strict=True)),
            saved=100 * statistics.fmean(run.saved for run in runs),
            share=statistics.fmean(a.n_bytes / b.n_bytes for a, b in zip(runs, whole, strict=True)),
            accuracy=100 * statistics.fmean(run.accuracy for run in runs),
            difference=statistics.fmean(apart),
            deviation=statistics.stdev(apart) if len(apart) > 1 else None,
            n_same=sum(run.same for run in runs),
        )

    def grids(self) -> tuple[Grid, ...]:
        """For a person: how many rows, then what a row is."""
        head = ("", *(TASK_NAMES[task] for task in self.runs))
        trials = f"{self.n_trials} trial" + "s" * (self.n_trials > 1)
        sizes = tuple((choice.text, *self._cells(choice, _of_size)) for choice in SIZES)
        others = (ALL, *PRECISIONS, *PROJECTIONS)
        kinds = tuple((choice.text, *self._cells(choice, _of_row)) for choice in others)
        of_time = "time is processor time of a training, 1 that without a cache"
        return (
            Grid(
                f"Rows kept: forward passes saved, time ({trials})", head, sizes,
                (f"In each cell: forward passes saved; {of_time}.", self._said_of_bits()),
            ),
            Grid(
                f"What a row is: accuracy, size, time ({trials})", head, kinds,
                (
                    "In each cell: test accuracy in % (paired difference from float32); bytes of "
                    f"the cache, of those of float32 rows; {of_time}.",
                    "Rows that are projected hold numbers of the sample too, which others leave to "
                    "the samples; finding the projection is in their time.",
                    f"{self.machine['processor']}, {self.machine['kernels']} kernels.",
                ),
            ),
        )  # fmt: skip

    def _cells(self, choice: Choice, text: Callable[[Cell], str]) -> Iterable[str]:
        return (text(self.cell(task, choice)) for task in self.runs)

    def _said_of_bits(self) -> str:
        counts = [
            (self.cell(task, choice).n_same, self.n_trials)
            for task in self.runs
            for choice in SIZES
        ]
        n_same, n_all = (sum(of) for of in zip(*counts, strict=True))
        if n_same == n_all:
            return (
                "However many rows are kept, and whichever: the adapters are the same, bit for bit "
                f"(checked in all {n_all} trainings), and so is the accuracy."
            )
        return f"{n_all - n_same} of {n_all} trainings gave OTHER adapters than with all rows kept."

    def facts(self) -> dict[str, Any]:
        """For a machine."""
        rows = {
            task: [
                {**asdict(choice), **asdict(self.cell(task, choice)),
                 "runs": [asdict(run) for run in of]}
                for choice, of in choices.items()
            ]
            for task, choices in self.runs.items()
        }  # fmt: skip
        return {"title": "Size of the Skip-Cache", "machine": self.machine, "rows": rows}


def _of_size(cell: Cell) -> str:
    return f"{cell.saved:.1f} %\ntime {cell.time:.2f}"


def _of_row(cell: Cell) -> str:
    return (
        f"{cell.accuracy:.2f} ({cell.difference:+.2f})\n"
        f"size {100 * cell.share:.1f} %\ntime {cell.time:.2f}"
    )


def measure(
    tasks: Sequence[str], data: Path, machine: dict[str, str], *, n_trials: int,
    follow: Callable[[], object] = lambda: None,
) -> CacheTable:  # fmt: skip
    """Every choice with the seeds 0, 1, ..., in turn, so that a slow moment meets all of them.

    ``follow`` is called after each training: ``len(CHOICES)`` times a task and trial.

    Raises:
        FileError, DataError: the data cannot be read.
    """
    runs: dict[str, dict[Choice, list[Run]]] = {}
    for task in tasks:
        split = protocol.load_split(task, data)
        of: dict[Choice, list[Run]] = {choice: [] for choice in CHOICES}
        for seed in range(n_trials):
            model = protocol.pretrained(split, protocol.TASKS[task], seed)
            _train(model, split, ALL, 1, seed)  # warms up
            whole: SkipAdapters | None = None
            for choice in CHOICES:
                run, adapters = _train(model, split, choice, protocol.TASKS[task].epochs, seed)
                whole = whole or adapters
                same = _bits(adapters) == _bits(whole)
                of[choice].append(replace(run, same=same))
                follow()
        runs[task] = of
    return CacheTable(
        {task: {choice: tuple(each) for choice, each in of.items()} for task, of in runs.items()},
        machine,
    )


def _train(
    model: MLP, split: Split, choice: Choice, epochs: int, seed: int
) -> tuple[Run, SkipAdapters]:
    samples = checked(model, split.finetune.x)
    labels = check_labels(split.finetune.labels, len(samples), model.n_outputs)
    options = resolve_options(
        PAPER, model.tap_widths, len(samples), method="skip2-lora", rank=RANK, epochs=epochs,
        batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, seed=seed,
        **choice.options(len(samples)),
    )  # fmt: skip
    began = time.process_time()
    done = rehearse(model, CheckedSamples(samples, labels), options, old=None, goal=PLAIN)
    cpu_ms = 1e3 * (time.process_time() - began)
    backbone, adapters = done.on(model)
    if not isinstance(adapters, SkipAdapters):
        raise RuntimeError("training gave no skip adapters")
    accuracy = AdaptedModel(backbone, adapters, "skip2-lora").score(split.test.x, split.test.labels)
    n_forwards = done.history.n_forwards
    saved = 1 - n_forwards / (epochs * len(samples))
    n_bytes = done.cache_bytes + done.cache_overhead_bytes
    return Run(cpu_ms, n_forwards, saved, n_bytes, accuracy), adapters


def _bits(adapters: SkipAdapters) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in adapters.tensors().items()}


def draw(table: CacheTable) -> bytes:
    """Forward passes saved, time and accuracy by the bytes that rows take, as PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(figsize=(4.4 * len(table.runs), 8.4), layout="constrained")
    grid = figure.subplots(3, len(table.runs), sharex="col", sharey="row", squeeze=False)
    for column, task in zip(grid.T, table.runs, strict=True):
        _draw_task(column, table, task)
    for axes, label in zip(
        grid[:, 0],
        ("forward passes saved (%)", "time, of that without a cache", "test accuracy (%)"),
        strict=True,
    ):
        axes.set_ylabel(label)
    grid[0, 0].set_ylim(-5, 105)
    grid[1, 0].set_ylim(bottom=0)
    handles, labels = grid[1, 0].get_legend_handles_labels()
    columns = 5 if len(table.runs) > 1 else 2
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return png(figure)


def _draw_task(column: Sequence[Axes], table: CacheTable, task: str) -> None:
    for axes, value in zip(column, ("saved", "time", "accuracy"), strict=True):
        for policy in POLICIES:
            between = (choice for choice in SIZES[1:-1] if choice.policy == policy)
            x, y = _points(table, task, (NONE, *between, ALL), value)
            label = f"fewer rows, {policy}"
            axes.plot(x, y, "o-", color=_COLORS[policy], markersize=4, linewidth=1.4, label=label)
        axes.grid(alpha=0.3)
        axes.margins(y=0.12)
    # Both save the same forward passes as all rows do.
    for axes, value in zip(column[1:], ("time", "accuracy"), strict=True):
        for name, choices in {"precision": PRECISIONS, "projection": PROJECTIONS}.items():
            x, y = _points(table, task, choices, value)
            marker, color = "D" if name == "precision" else "s", _COLORS[name]
            axes.plot(x, y, marker, color=color, markersize=4, label=f"smaller rows, {name}")
            for at, choice in enumerate(choices):
                axes.annotate(
                    choice.text.removeprefix("projection "), (x[at], y[at]),
                    (3, -9 if at % 2 else 4), textcoords="offset points", fontsize=6, color=color,
                )  # fmt: skip
    column[0].set_title(TASK_NAMES[task])
    column[-1].set_xlabel("bytes of the cache, % of that of all rows in float32")


def _points(
    table: CacheTable, task: str, choices: Iterable[Choice], value: str
) -> tuple[list[float], list[float]]:
    cells = [table.cell(task, choice) for choice in choices]
    return [100 * cell.share for cell in cells], [float(asdict(cell)[value]) for cell in cells]
