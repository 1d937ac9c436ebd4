"""Progress bars on standard error, where that is a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from skip2lora.adapt import Progress as Follow
from skip2lora.training.loop import Callback

if TYPE_CHECKING:
    from rich.progress import TaskID

#: By which rich takes what is no terminal for one.
_ASKING = ("FORCE_COLOR", "TTY_COMPATIBLE")


def _may_be_seen() -> bool:
    """Whether rich, which takes a while to import, is to be asked for bars."""
    shown = sys.stderr is not None and sys.stderr.isatty()
    return shown or any(map(os.environ.get, _ASKING))


@contextmanager
def _bars(*names: str, total: int | None = None) -> Iterator[list[Callable[..., None]] | None]:
    """Yield what updates bars on standard error, one seen at a time; None without a terminal."""
    if not _may_be_seen():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        tasks = [
            progress.add_task(what, start=False, total=total, visible=total is not None, note="")
            for what in names
        ]

        def update(task: TaskID, **of: Any) -> None:
            for each in tasks:
                progress.update(each, visible=each == task)
            progress.start_task(task)
            progress.update(task, **of)

        yield [partial(update, task) for task in tasks]


@contextmanager
def counting_bar(what: str) -> Iterator[Follow | None]:
    """Yield a function that moves a bar as samples are done, if it is seen."""
    with _bars(what) as updates:
        yield _counted(updates[0]) if updates else None


@contextmanager
def progress_bar(what: str) -> Iterator[Callback | None]:
    """Yield a callback that moves a bar with each epoch, if it is seen."""
    with _bars(f"{what}, epoch") as updates:
        yield _followed(updates[0]) if updates else None


@contextmanager
def adapting_bars() -> Iterator[tuple[Follow | None, Callback | None]]:
    """Yield what moves a bar as rows come into the cache, then one with each epoch, if seen."""
    with _bars("cache", "adapt, epoch") as updates:
        yield (_counted(updates[0]), _followed(updates[1])) if updates else (None, None)


def _counted(update: Callable[..., None]) -> Follow:
    return lambda done, total: update(completed=done, total=total)


def _followed(update: Callable[..., None]) -> Callback:
    return lambda report: update(
        completed=report.epoch, total=report.epochs, note=f"loss {report.loss:.4f}"
    )


@contextmanager
def rounds_bar(what: str, rounds: int) -> Iterator[Callable[[], None]]:
    """Yield a function that moves a bar on by one, if it is seen."""
    with _bars(what, total=rounds) as updates:
        yield partial(updates[0], advance=1) if updates else lambda: None
