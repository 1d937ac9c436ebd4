"""The options of training on the command line are the keywords of the calls, and no others."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import click
import pytest

import skip2lora as s2
from skip2lora.cli import adapt as adapt_command
from skip2lora.cli import plan as plan_command
from skip2lora.cli import pretrain as pretrain_command
from skip2lora.plan import plan
from skip2lora.training.options import OPTIONS

Front = tuple[Callable[..., Any], click.Command]
FRONTS: dict[str, Front] = {
    "adapt": (s2.adapt, adapt_command.command),
    "pretrain": (s2.pretrain, pretrain_command.command),
    "plan": (plan, plan_command.command),
}


def defaults(call: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(call).parameters
    return {name: of.default for name, of in parameters.items() if name in OPTIONS}


@pytest.mark.parametrize("front", FRONTS)
def test_every_keyword_is_an_option_of_the_command(front: str) -> None:
    call, command = FRONTS[front]
    parameters = {each.name: each for each in command.params}
    for name, default in defaults(call).items():
        shown = parameters[name]
        assert isinstance(shown, click.Option)
        assert f"--{name.replace('_', '-')}" in shown.opts
        assert shown.get_default(click.Context(command)) == default
        assert (shown.help or "").startswith(OPTIONS[name].help)
        assert ("Default: " in (shown.help or "")) == (default is None)
        if OPTIONS[name].choices:
            assert tuple(shown.type.choices) == OPTIONS[name].choices


def test_the_default_of_each_recipe_is_told() -> None:
    told = {each.name: each.help for each in adapt_command.command.params if each.name in OPTIONS}
    assert told["rank"] == "Rank of each adapter, if any. Default: 4."
    assert told["epochs"] == "Passes over the data. Default: 300 (.safetensors) or 50."
    scaled = "Train on scaled taps, or features. Default: off (.safetensors) or on."
    assert told["standardize"] == scaled
    assert told["patience"].endswith("Default: never.")
