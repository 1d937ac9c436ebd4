"""The command ``skip2lora``: parses arguments, calls the package, prints.

Exit codes: 0, or 2 with one line on standard error that says what was got, what was expected and
what to do; 128 and the number of the signal after one that stops it (130 after Ctrl-C), or where
the reader of its output left (141).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import TextIO

import click

from skip2lora import _core
from skip2lora.__main__ import leave
from skip2lora.cli.help import UnknownCommand, complaint
from skip2lora.cli.messages import shown, with_options
from skip2lora.errors import Skip2LoraError, brief
from skip2lora.files import WRITTEN, let_go
from skip2lora.system import READER_GONE, STOPS

COMMANDS = (
    "demo",
    "dataset",
    "pretrain",
    "adapt",
    "adapt-many",
    "evaluate",
    "predict",
    "inspect",
    "versions",
    "merge",
    "serve",
    "plan",
    "fill",
    "prepare",
    "export",
    "bench",
    "paper",
)


#: A disk under standard output that takes no more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
#: Of every command, as those below take it over.
_HELP = {"help_option_names": ["-h", "--help"]}


class _LazyGroup(click.Group):
    """Imports the module of a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of use."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, from the module of the same name."""
        if cmd_name not in COMMANDS:
            raise UnknownCommand(cmd_name, COMMANDS, ctx)
        command: click.Command = import_module(
            f"skip2lora.cli.{cmd_name.replace('-', '_')}"
        ).command
        return command


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="skip2lora", message="%(prog)s %(version)s")
@click.pass_context
def group(ctx: click.Context) -> None:
    """Adapt a deployed neural network on the device with Skip2-LoRA.

    DATA is a .npz (arrays X and y), a .csv (a label column), a .parquet file, or a folder of images
    or recordings with one sub-folder a class. With --window a table is a stream of sensors.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    WRITTEN.clear()
    with _stoppable() as stops:
        try:
            code = _answer(arguments)
        except (click.Abort, KeyboardInterrupt):
            stops.append(signal.SIGINT)
        if stops:  # perhaps in a library that took it for a failure of its own
            return _stopped(stops[0])
    return code


def _answer(arguments: Sequence[str] | None) -> int:
    """Run a command line; what it refuses is said in one line."""
    try:
        _core.kernels()
    except ValueError as error:  # the name in SKIP2_KERNELS
        return _complain(str(error), 2)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _say(str(message))
            code = _invoke(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _complain(complaint(error), 2)
    except Skip2LoraError as error:
        return _complain(str(error), 2)
    except BrokenPipeError:  # the reader of our output, such as `head`, is gone
        _close(sys.stdout)
        return READER_GONE
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            # Such as a working directory that is gone, or a name that is too long.
            name = "" if error.filename is None else f" of {brief(error.filename, 300)}"
            return _complain(
                f"the system refused ({error.strerror or error}{name}), expected paths that can be "
                "used: check them", 2
            )  # fmt: skip
        _close(sys.stdout)
        return _complain(
            f"cannot write to standard output: {error.strerror}, expected a place with space: free "
            "some, or choose another", 2
        )  # fmt: skip
    except MemoryError:
        return _complain("the memory does not suffice, expected less data or a smaller model", 2)
    return code if isinstance(code, int) else 0


def _invoke(arguments: Sequence[str] | None) -> object:
    """As ``group.main``, which ends the process where a reader is gone."""
    if "_SKIP2LORA_COMPLETE" in os.environ:  # completion of words in a shell
        group.main(prog_name="skip2lora")
    words = list(sys.argv[1:] if arguments is None else arguments)
    with group.make_context("skip2lora", words) as context:
        return group.invoke(context)


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Let signals such as SIGTERM stop a command as Ctrl-C does; yield those that came."""
    stops: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stops.append(number)
        if len(stops) > 1 or _importing(frame):
            let_go()
            leave(stops[0], done=_done())
        raise KeyboardInterrupt

    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # as nohup has it
                    before[number] = handler
                    signal.signal(number, stop)
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported, some of which take any exception for a failure."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _stopped(number: int) -> int:
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)  # this line alone
    return _complain(f"stopped by {STOPS[signal.Signals(number)]}, {_done()}", 128 + number)


def _done() -> str:
    return f"{WRITTEN[-1]} was written" if WRITTEN else "nothing was written"


def _complain(message: str, code: int) -> int:
    _say(message)
    return code


def _say(message: str) -> None:
    """One line on standard error."""
    try:
        click.echo(f"skip2lora: {shown(with_options(message))}", err=True)
    except OSError:  # nobody reads it
        _close(sys.stderr)


def _close(stream: TextIO) -> None:
    """Let what is still to be written to a stream go nowhere: Python must not complain at exit."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def main() -> None:
    """As :func:`skip2lora.__main__.main`, with all imported."""
    sys.exit(run())
