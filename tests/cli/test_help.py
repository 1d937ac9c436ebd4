"""Help: headings, examples, and words that are nearly right."""

from __future__ import annotations

import shlex

import click
import pytest

from desk import refused, unknown_advice
from skip2lora.cli import COMMANDS, group, help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_under_a_heading(name, type_in):
    command = group.get_command(click.Context(group), name)
    listed = {each for names in help.HEADINGS.values() for each in names}
    assert {each.name for each in command.params if isinstance(each, click.Option)} <= listed
    shown = type_in(name, "-h").out
    assert shown == type_in(name, "--help").out
    others = shown.split("Others:")[1].split()
    assert [word for word in others if word.startswith("-")] == ["-h,", "--help"]
    for each in command.params:
        for word in each.opts if isinstance(each, click.Option) else ():
            assert shown.count(f"  {word}") + shown.count(f", {word}") >= 1, word


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_can_be_typed(name):
    command = group.get_command(click.Context(group), name)
    program, shown, *words = shlex.split(command.example)
    assert (program, shown) == ("skip2lora", name)
    command.make_context(name, words)  # raises if it is not right


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["adapt", "--lr", 1], "--learning-rate"),
        (["adapt", "--epoch", 1], "--epochs"),
        (["adapt", "--learning_rate", 1], "--learning-rate"),
        (["pretrain", "--bs", 1], "--batch-size"),
        (["plan", "--layers", 1], "--taps"),
        (["predict", "--out", "f"], "--output"),
        (["finetune"], "adapt"),
        (["evalute"], "evaluate"),
        (["eval"], "evaluate"),
    ],
)
def test_what_was_meant_is_named(words, meant, type_in):
    refused(type_in(*words), words[min(1, len(words) - 1)], f"expected {meant}", "--help")


def test_nothing_is_named_where_nothing_is_near(type_in):
    refused(type_in("frobnicate"), "expected one that it has: see skip2lora --help\n")
    refused(type_in("bench", "--lr", 1), "expected one that it has: see skip2lora bench --help\n")


def test_synonyms_are_no_options_themselves_and_name_some():
    commands = [group.get_command(click.Context(group), name) for name in COMMANDS]
    options = {word for each in commands for of in each.params for word in of.opts}
    assert {f"--{word}" for word in help._SYNONYMS.values()} <= options
    assert set(help._COMMAND_SYNONYMS.values()) <= set(COMMANDS)
    assert not set(help._COMMAND_SYNONYMS) & set(COMMANDS)


def test_advice_that_the_command_does_not_know_is_seen():
    assert unknown_advice(["predict", "m"], "x: set --task or --rank 4") == {"--rank"}
    assert not unknown_advice(["predict", "m"], "learn it with adapt and --new-classes")
    assert unknown_advice(["predict", "m"], "learn it with adapt and --new") == {"--new"}
    assert not unknown_advice(["predict", "--lr"], "--lr is no option: see --help, a--b, /x--y")
