"""Options of training on the command line, made of the fields of training/options.py."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import click

from skip2lora.backbones.recipe import ANY_MODEL, PAPER
from skip2lora.training.options import OPTIONS, Option

_Function = TypeVar("_Function", bound=Callable[..., Any])


def training_options(call: Callable[..., Any]) -> Callable[[_Function], _Function]:
    """One option for each keyword of ``call`` that is an option of training, of its default."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(call).parameters.items()
        if name in OPTIONS
    }

    def decorate(function: _Function) -> _Function:
        for name in reversed([name for name in OPTIONS if name in defaults]):
            function = _click_option(name, OPTIONS[name], defaults[name])(function)
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
    return click.option(
        spelled,
        type=click.Choice(option.choices) if option.choices else option.kind,
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
