"""What the tests of the command line share: small data, answers, digests of a folder."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from skip2lora.cli import COMMANDS, group

N_FEATURES = 12
NAMES = ("stop", "normal", "damaged")


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def blobs(seed: int, *, n_samples: int = 60, shift: float = 0.0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(5).standard_normal((3, N_FEATURES)) * 2
    y = np.arange(n_samples) % 3
    x = centres[y] + random.standard_normal((n_samples, N_FEATURES)) * 0.5
    x[:, ::2] += shift
    return x.astype(np.float32), y


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def options_of(command: str) -> set[str]:
    """What the command takes, such as --json."""
    context = click.Context(group)
    of = group.get_command(context, command)
    assert of is not None
    return {word for each in of.params for word in (*each.opts, *each.secondary_opts)} | {"--help"}


def unknown_advice(words: list[str], message: str) -> set[str]:
    """Options that a refusal names and the command does not have; what was typed may be wrong."""
    if not words or words[0] not in COMMANDS:
        return set()
    of_others = {
        option
        for name in COMMANDS
        for option in re.findall(rf"\b{name} (?:and )?(--[\w-]+)", message)
        if option in options_of(name)
    }
    named = set(re.findall(r"(?<![\w/.-])--[a-z][\w-]*", message))
    typed = {word.split("=")[0] for word in words}
    return named - options_of(words[0]) - of_others - typed


def refused(answer: Answer, *parts: str) -> None:
    """One line on standard error that says these parts, and exit code 2."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("skip2lora: ")
    for part in parts:
        assert part in answer.err, answer.err
