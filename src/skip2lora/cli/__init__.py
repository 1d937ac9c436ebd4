"""The command ``skip2lora``: parses arguments, calls the package, prints.

Exit codes: 0, or 2 with one line on standard error that says what was got, what was expected and
what to do; 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

import click

from skip2lora import _core
from skip2lora.cli.help import UnknownCommand, complaint
from skip2lora.cli.messages import with_options
from skip2lora.errors import Skip2LoraError

COMMANDS = (
    "demo",
    "dataset",
    "pretrain",
    "adapt",
    "evaluate",
    "predict",
    "inspect",
    "plan",
    "prepare",
    "export",
    "bench",
    "paper",
)


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
        command: click.Command = import_module(f"skip2lora.cli.{cmd_name}").command
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
    with one sub-folder a class.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    try:
        _core.kernels()
    except ValueError as error:  # the name in SKIP2_KERNELS
        return _complain(str(error), 2)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _say(str(message))
            code = group.main(args=arguments, prog_name="skip2lora", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return _complain("stopped by Ctrl-C, nothing was written", 130)
    except click.ClickException as error:
        return _complain(complaint(error), 2)
    except Skip2LoraError as error:
        return _complain(str(error), 2)
    except BrokenPipeError:
        # The reader of our output, such as `head`, is gone; Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    _say(message)
    return code


def _say(message: str) -> None:
    """One line on standard error."""
    click.echo(f"skip2lora: {' '.join(with_options(message).split())}", err=True)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run())
