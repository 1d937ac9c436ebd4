"""What several commands share: options, progress bar, output."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from skip2lora.backbones.taps import Selection
from skip2lora.data.image_options import Images
from skip2lora.data.images import Progress as Follow
from skip2lora.errors import ParameterError
from skip2lora.files import check_output
from skip2lora.plan import TapPlan
from skip2lora.tasks.task import TASKS, Measures, Task
from skip2lora.training.loop import Callback, EpochReport

_NUMBER, _WIDTH = re.compile(r"-?[0-9]+"), re.compile(r"0*[1-9][0-9]*")
_Function = TypeVar("_Function", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
force = click.option("--force", is_flag=True, help="Replace the output if it exists.")


def _names(text: str) -> tuple[str, ...]:
    """Names with commas."""
    return tuple(word.strip() for word in text.split(","))


answer_columns = click.option(
    "--target", "--label", "columns", metavar="COLUMNS", type=_names,
    help="Columns of the answers, with commas. Default: the adapter's, or label, y or target.",
)  # fmt: skip
class_names = click.option(
    "--class-names", metavar="NAMES", type=_names,
    help="What the outputs of MODEL are called, in their order, with commas.",
)  # fmt: skip


keep_outputs = click.option(
    "--keep-outputs/--no-keep-outputs", default=True,
    help="Correct the outputs of MODEL, or leave them out and learn any anew; default: keep.",
)  # fmt: skip


def task(default: str | None, help_text: str) -> Callable[[_Function], _Function]:
    """``--task``: one class, several labels, or numbers."""
    return click.option(
        "--task", default=default, show_default=default is not None, type=click.Choice(list(TASKS)),
        help=help_text,
    )  # fmt: skip


saved_task = task(None, "What is learned. Default: as the adapter, or else MODEL, tells.")
model_argument = click.argument("model", type=click.Path(path_type=Path))
data_argument = click.argument("data", type=click.Path(path_type=Path))
adapter = click.option(
    "--adapter", type=click.Path(path_type=Path), help="Folder written by skip2lora adapt."
)


def _taps(text: str) -> Selection:
    """One number, or numbers, names and patterns with commas."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    read: list[int | str] = [int(word) if _NUMBER.fullmatch(word) else word for word in words]
    return read[0] if len(read) == 1 and "," not in text else read


taps = click.option(
    "--taps", type=_taps, metavar="TAPS",
    help="How many layers to tap, or which: names, patterns, numbers with commas.",
)  # fmt: skip


threads = click.option(
    "--threads", default=1, show_default=True, help="Threads that the runtime of MODEL works on."
)
grid = click.option("--grid", type=int, help="Places an axis of a feature map keeps. Default: 4.")


def widths(
    example: str, *, at_least: int = 0
) -> Callable[[click.Context, click.Parameter, str | None], list[int]]:
    """A callback that reads widths of layers, written as in ``example``; none where none are."""
    separator = "-" if "-" in example else ","

    def read(_: click.Context, option: click.Parameter, text: str | None) -> list[int]:
        words = [word.strip() for word in (text or "").split(separator) if word.strip()]
        if len(words) < at_least or not all(_WIDTH.fullmatch(word) for word in words):
            raise ParameterError(
                f"{option.opts[0]} is {text!r}, expected widths such as {example}: correct it"
            )
        return [int(word) for word in words]

    return read


def image_options(function: _Function) -> _Function:
    """``--size``, ``--mean`` and ``--std`` of image folders, for ``images``; None without them."""

    @wraps(function)
    def with_images(
        *args: Any, size: str | None, mean: str | None, std: str | None, **others: Any
    ) -> Any:
        given = (size, mean, std) != (None, None, None)
        return function(*args, images=Images.parse(size, mean, std) if given else None, **others)

    for option in (
        click.option(
            "--std", metavar="NUMBERS", help="Divisor after that. Default 1; 1/255 for 0 to 255."
        ),
        click.option(
            "--mean", metavar="NUMBERS",
            help="Taken off pixels of 0 to 1: one, or one a channel, or imagenet. Default 0.",
        ),
        click.option(
            "--size", metavar="HxW",
            help="Pixels of images, if MODEL takes any. Default: the model's or the adapter's.",
        ),
    ):  # fmt: skip
        with_images = option(with_images)
    return with_images  # type: ignore[return-value]


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[..., None] | None]:
    """Yield what updates a bar on standard error; None where that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total, visible=total is not None, note="")
        yield partial(progress.update, task, visible=True)


@contextmanager
def reading_bar() -> Iterator[Follow | None]:
    """Yield a function that moves a bar while images are read, if it is seen."""
    with _bar("read images", None) as update:
        yield update and (lambda done, total: update(completed=done, total=total))


def output(help_text: str, *, metavar: str = "PATH") -> Callable[[_Function], _Function]:
    """The required option ``-o``."""
    return click.option(
        "-o", "--output", required=True, metavar=metavar,
        type=click.Path(path_type=Path), help=help_text,
    )  # fmt: skip


@contextmanager
def progress_bar(what: str) -> Iterator[Callback | None]:
    """Yield a callback that moves a bar with each epoch, if it is seen."""

    def follow(report: EpochReport) -> None:
        if update is not None:
            note = f"loss {report.loss:.4f}"
            update(completed=report.epoch, total=report.epochs, note=note)

    with _bar(f"{what}, epoch", None) as update:
        yield update and follow


@contextmanager
def rounds_bar(what: str, rounds: int) -> Iterator[Callable[[], None]]:
    """Yield a function that moves a bar on by one, if it is seen."""
    with _bar(what, rounds) as update:
        yield partial(update, advance=1) if update else lambda: None


def show(facts: dict[str, Any], lines: list[str], *, as_json: bool) -> None:
    """Print the facts as one JSON object, or the lines for a person."""
    click.echo(json.dumps(facts) if as_json else "\n".join(lines))


def percent(share: float) -> str:
    """A share from 0 to 1 for a person."""
    return f"{100 * share:.1f} %"


def size(n_bytes: int) -> str:
    """Bytes for a person."""
    for unit, of in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n_bytes >= of:
            return f"{n_bytes / of:.1f} {unit}"
    return f"{n_bytes} bytes"


def duration(milliseconds: float, *, digits: int = 1) -> str:
    """Milliseconds for a person."""
    if milliseconds < 1000:
        return f"{milliseconds:.{digits}f} ms"
    return f"{milliseconds / 1000:.2f} s"


def shape_text(shape: Sequence[int | None]) -> str:
    """Such as 3x224x224, with ? for a size that changes."""
    return "x".join("?" if n is None else str(n) for n in shape)


def tap_lines(taps: Sequence[TapPlan]) -> list[str]:
    """A table of taps, a line each, with its head."""
    rows = [("tap", "layer", "kind", "shape", "width", "bytes a sample")]
    for number, tap in enumerate(taps):
        n_bytes = f"{tap.bytes_a_sample:,}" if tap.bytes_a_sample else "the sample"
        rows.append(
            (str(number), tap.layer, tap.kind, shape_text(tap.shape), f"{tap.width:,}", n_bytes)
        )
    wide = [max(len(row[column]) for row in rows) for column in range(6)]
    return [
        f"  {row[0]:>{wide[0]}}  {row[1]:<{wide[1]}}  {row[2]:<{wide[2]}}  {row[3]:>{wide[3]}}  "
        f"{row[4]:>{wide[4]}}  {row[5]:>{wide[5]}}"
        for row in rows
    ]


def check_onnx(model: Path, output: Path, done: str, *, force: bool) -> None:
    """Refuse what is not made of one .onnx file into another; ``done`` is "exported", say.

    Raises:
        ParameterError: another suffix, or the model itself as the output.
        FileError: as :func:`~skip2lora.files.check_output`.
    """
    for file in (model, output):
        if file.suffix != ".onnx":
            raise ParameterError(
                f"{file} ends in {file.suffix or 'nothing'}, expected .onnx, as only such models "
                f"are {done}: choose another"
            )
    check_output(output, force=force)
    if model.exists() and output.exists() and output.samefile(model):
        raise ParameterError(
            f"{output} is the model itself, expected another file, as its adapters fit no other "
            "model: choose another name"
        )


#: What each measure is called, and how it is printed. JSON has more of them.
_SHOWN = {
    "n_samples": ("samples", "{:,}"),
    "accuracy": ("accuracy", "{:.1%}"),
    "exact_match": ("exact match", "{:.1%}"),
    "f1_micro": ("F1 micro", "{:.3f}"),
    "f1_macro": ("F1 macro", "{:.3f}"),
    "precision": ("precision", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
    "f1": ("F1", "{:.3f}"),
    "r2": ("R2", "{:.3f}"),
    "mean_absolute_error": ("MAE", "{:.4g}"),
    "root_mean_squared_error": ("RMSE", "{:.4g}"),
}


def measures_line(task: Task, scores: Measures) -> str:
    """Such as ``R2 0.981, MAE 0.12``; errors of several targets may differ in unit: R2 alone."""
    several = task.name == "regression" and len(scores.parts) > 1
    names = ["r2"] if several else [name for name in _SHOWN if name in scores.overall]
    line = ", ".join(f"{_SHOWN[name][0]} {_shown(name, scores.overall[name])}" for name in names)
    return f"mean {line}" if several else line


def measures_table(task: Task, scores: Measures, n_samples: int) -> list[str]:
    """What ``evaluate`` prints."""
    head = f"{measures_line(task, scores)} of {n_samples:,} samples"
    if task.name != "regression":
        return [head, *_measure_rows(scores)]
    if len(scores.parts) == 1:
        return [head, "MAE and RMSE are in the unit of the target"]
    return [head, *_measure_rows(scores), "MAE and RMSE are each in the unit of its target"]


def _measure_rows(scores: Measures) -> list[str]:
    keys = [key for key in _SHOWN if key in scores.parts[0]]
    rows: list[Sequence[str]] = [["", *(_SHOWN[key][0] for key in keys)]]
    rows += [[str(of["name"]), *(_shown(key, of[key]) for key in keys)] for of in scores.parts]
    wide = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(["", row[0].ljust(wide[0]), *map(str.rjust, row[1:], wide[1:])]) for row in rows
    ]


def _shown(name: str, value: float) -> str:
    return _SHOWN[name][1].format(value).replace("%", " %")
