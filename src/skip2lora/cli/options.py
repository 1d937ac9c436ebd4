"""Options and arguments that commands share; those of training from training/options.py."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from skip2lora.arrays import number_or_none
from skip2lora.backbones.recipe import ANY_MODEL, PAPER
from skip2lora.backbones.taps import Selection
from skip2lora.errors import ParameterError
from skip2lora.files import check_output
from skip2lora.tasks.task import TASKS
from skip2lora.training.options import OPTIONS, Option
from skip2lora.training.watch import Checkpoint

_NUMBER, _WIDTH = re.compile(r"-?[0-9]+"), re.compile(r"0*[1-9][0-9]*")
_Function = TypeVar("_Function", bound=Callable[..., Any])


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
force = click.option("--force", is_flag=True, help="Replace the output if it exists.")


def _names(text: str) -> tuple[str, ...]:
    """Names with commas."""
    return tuple(word.strip() for word in text.split(","))


no_target = click.option(
    "--no-target", is_flag=True, help="No column of DATA has answers, whatever it is called."
)


def columns(function: _Function) -> _Function:
    """``--target`` and ``--ignore``: which columns are no features; ``--split``: which part."""
    for option in (
        click.option(
            "--split", type=click.Choice(["train", "val", "test"]),
            help="Part of DATA that has several. Default: test to evaluate, train to learn.",
        ),
        click.option(
            "--ignore", metavar="COLUMNS", type=_names,
            help="Columns to leave out, with commas; kept with the result. Default: MODEL's.",
        ),
        click.option(
            "--target", "--label", "target", metavar="COLUMNS", type=_names,
            help="Columns of the answers, with commas; kept with the result. Default: MODEL's, or "
            "label, y or target.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def _threshold(_: click.Context, __: click.Parameter, text: str | None) -> Any:
    """One number, or NAME=NUMBER with commas."""
    if text is None:
        return None
    words = [word.rpartition("=") for word in text.split(",")]
    named = {name.strip(): value.strip() for name, sign, value in words if sign}
    return named if len(named) == len(words) else text


#: What an adapter keeps thresholds for.
sure = click.option(
    "--precision", type=float,
    help="Keep thresholds with the adapter: the least probability of each class from which on this "
    "share of held-out predictions is right. Below, none of these.",
)  # fmt: skip


def thresholds(function: _Function) -> _Function:
    """``--threshold`` and what it is chosen on, ``--threshold-data`` and ``--precision``."""
    for option in (
        click.option(
            "--precision", default=0.95, show_default=True,
            help="Share of predictions above a threshold that is right in --threshold-data.",
        ),
        click.option(
            "--threshold-data", metavar="DATA", type=click.Path(path_type=Path),
            help="Labelled samples to choose thresholds on; not those to be predicted.",
        ),
        click.option(
            "--threshold", metavar="NUMBERS", callback=_threshold,
            help="Least probability of a class, 0.8 or stop=0.9,go=0.6; below, none of these. "
            "Default: those of the adapter.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def _class_weight(_: click.Context, __: click.Parameter, text: str | None) -> Any:
    """A word, or NAME=NUMBER with commas."""
    if text is None:
        return None
    words = [word.rpartition("=") for word in text.split(",")]
    named = {name.strip(): number_or_none(value) for name, sign, value in words if sign}
    return named if len(named) == len(words) and None not in named.values() else text


def weights(function: _Function) -> _Function:
    """``--class-weight`` and ``--weight``: how much each sample counts."""
    for option in (
        click.option(
            "--weight", metavar="COLUMN",
            help="Column with how much each sample counts, 2 as if twice; it is no feature.",
        ),
        click.option(
            "--class-weight", metavar="WEIGHTS", callback=_class_weight,
            help="How much samples of a class count: balanced, or such as stop=5,go=1.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


class_names = click.option(
    "--class-names", metavar="NAMES", type=_names,
    help="What the outputs of MODEL are called, in their order, with commas.",
)  # fmt: skip


output_name = click.option(
    "--output-name", metavar="NAME",
    help="Which output of MODEL, of several. Default: the adapter's, or the one that classifies.",
)  # fmt: skip
mask = click.option(
    "--mask", metavar="MEANING",
    help="Which tokens of MODEL count: tokens, padding, additive, lengths, none; NAME=MEANING. "
    "Default: the adapter's, or found by running MODEL.",
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


lab_set = click.option(
    "--lab-set", type=int, metavar="COUNT",
    help="Put rows of so many samples of each class beside it, by which adapt keeps what it knows.",
)  # fmt: skip


def _taps(text: str) -> Selection:
    """One number, or numbers, names and patterns with commas."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    read: list[int | str] = [int(word) if _NUMBER.fullmatch(word) else word for word in words]
    return read[0] if len(read) == 1 and "," not in text else read


taps = click.option(
    "--taps", type=_taps, metavar="TAPS",
    help="How many layers to tap, or which: names, patterns, numbers with commas.",
)  # fmt: skip


memory = click.option(
    "--memory", metavar="SIZE",
    help="What the whole process may take, such as 512MiB: training is chosen so.",
)  # fmt: skip
threads = click.option(
    "--threads", default=1, show_default=True, help="Threads that the runtime of MODEL works on."
)
engine = click.option(
    "--engine", metavar="ADDRESS",
    help="Run on the workers of a Dask cluster, dask://HOST:PORT, which see the same files.",
)  # fmt: skip
grid = click.option("--grid", type=int, help="Places an axis of a feature map keeps. Default: 4.")


def checkpoint(function: _Function) -> _Function:
    """``--checkpoint``, where training is kept, ``--checkpoint-every`` and ``--resume``."""
    for option in (
        click.option(
            "--resume", is_flag=True,
            help="Go on from --checkpoint, to the same bits; begin where nothing is there.",
        ),
        click.option(
            "--checkpoint-every", type=float, metavar="SECONDS",
            help="Least time between two checkpoints, 0 for each epoch. Default: 1.",
        ),
        click.option(
            "--checkpoint", metavar="FOLDER", type=click.Path(path_type=Path),
            help="Keep here what a run has come to, its rows and steps, for --resume after a stop.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def checkpoint_of(options: dict[str, Any]) -> Checkpoint | None:
    """What options taken out say of a checkpoint; None where they say nothing.

    Raises:
        ParameterError: ``--resume`` or ``--checkpoint-every`` alone, or the latter out of range.
    """
    names = ("checkpoint", "checkpoint_every", "resume")
    folder, every, resume = (options.pop(name) for name in names)
    if folder is not None:
        return Checkpoint(folder, resume=resume, **({} if every is None else {"every": every}))
    if resume or every is not None:
        alone = "--resume" if resume else "--checkpoint-every"
        raise ParameterError(f"{alone} is set without --checkpoint, expected both: add a folder")
    return None


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


def output(
    help_text: str, *, metavar: str = "PATH", needed: bool = True
) -> Callable[[_Function], _Function]:
    """The required option ``-o``."""
    return click.option(
        "-o", "--output", required=needed, metavar=metavar,
        type=click.Path(path_type=Path), help=help_text,
        callback=lambda _, __, path: Path("/dev/stdout") if str(path) == "-" else path,
    )  # fmt: skip


def training_options(
    call: Callable[..., Any], **choices: tuple[str, ...]
) -> Callable[[_Function], _Function]:
    """One option for each keyword of ``call`` that is an option of training, of its default.

    ``choices`` are the words that it takes, where they are fewer.
    """
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(call).parameters.items()
        if name in OPTIONS
    }

    def decorate(function: _Function) -> _Function:
        for name in reversed([name for name in OPTIONS if name in defaults]):
            option = OPTIONS[name]
            option = replace(option, choices=choices.get(name, option.choices))
            function = _click_option(name, option, defaults[name])(function)
        return function

    return decorate


def _click_option(name: str, option: Option, default: Any) -> Callable[[_Function], _Function]:
    spelled = f"--{name.replace('_', '-')}"
    help_text = option.help
    if default is None:
        help_text += f" Default: {_default(name, option)}."
    if option.kind is bool:
        flags = f"{spelled}/--no-{name.replace('_', '-')}"
        return click.option(flags, default=default, help=help_text)
    kind = click.STRING if option.kind is bytes else option.kind
    return click.option(
        spelled,
        type=click.Choice(option.choices) if option.choices else kind,
        metavar="SIZE" if option.kind is bytes else None,
        default=default,
        show_default=default is not None,
        help=help_text,
    )


def _default(name: str, option: Option) -> str:
    """What is taken where nothing is said."""
    paper, other = vars(PAPER).get(name), vars(ANY_MODEL).get(name)
    if paper is None:
        return option.unset
    if option.kind is bool:
        paper, other = ("on" if value else "off" for value in (paper, other))
    return f"{paper}" if paper == other else f"{paper} (.safetensors) or {other}"


def check_onnx(
    model: Path, output: Path, done: str, *, force: bool, also: tuple[str, ...] = ()
) -> None:
    """:func:`check_made` of an .onnx file; the model is .onnx too, or ends in one of ``also``."""
    check_made(model, output, done, force=force, suffix=".onnx", also=also)


def check_made(
    model: Path, output: Path, done: str, *, force: bool, suffix: str, also: tuple[str, ...] = ()
) -> None:
    """Refuse what is not made of one model into a file of ``suffix``; ``done`` is "exported", say.

    The model ends in it too, or in one of ``also``.

    Raises:
        ParameterError: another suffix, or the model itself as the output.
        FileError: as :func:`~skip2lora.files.check_output`.
    """
    for file, known in ((model, (suffix, *also)), (output, (suffix,))):
        if file.suffix not in known:
            raise ParameterError(
                f"{file} ends in {file.suffix or 'nothing'}, expected {' or '.join(known)}, as "
                f"only such models are {done}: choose another"
            )
    check_output(output, force=force)
    if model.exists() and output.exists() and output.samefile(model):
        raise ParameterError(
            f"{output} is the model itself, expected another file, as its adapters fit no other "
            "model: choose another name"
        )
