"""``skip2lora versions``: what an adapter was before, and undo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from skip2lora.adapted import RESULT_FILES
from skip2lora.adapters.kept import Version, folder_beside, version_of, versions_in
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.cli.learning import version_facts
from skip2lora.errors import ParameterError
from skip2lora.files import holding, write_files


@click.command(
    cls=Command, short_help="List earlier adapters, and go back.",
    example="skip2lora versions adapter --undo",
)  # fmt: skip
@click.argument("adapter", type=click.Path(path_type=Path))
@click.option("--undo", is_flag=True, help="Go back to the version before that of ADAPTER.")
@click.option("--restore", type=int, metavar="VERSION", help="Go to this version, older or newer.")
@shared.as_json
def command(adapter: Path, undo: bool, restore: int | None, as_json: bool) -> None:
    """List the versions of ADAPTER that are kept, or put one of them in its place.

    ADAPTER was made with --keep-rows. What it learns next joins the samples of the version that it
    is then; other versions stay until five newer ones are there.
    """
    with holding(adapter):
        now = version_of(adapter)
        versions = versions_in(folder_beside(adapter))
        target = _target(versions, now, undo=undo, restore=restore)
        if target is not None:
            write_files(adapter, target.files(), names=RESULT_FILES)
            now = target
    facts = [version_facts(each, now=each.number == now.number) for each in versions]
    common.show(
        {"adapter": str(adapter), "versions": facts},
        [_line(each) for each in facts],
        as_json=as_json,
    )


def _target(
    versions: list[Version], now: Version, *, undo: bool, restore: int | None
) -> Version | None:
    """The version to go to, if any."""
    if undo and restore is not None:
        raise ParameterError("--undo and --restore are set, expected one of them: leave one out")
    if restore is not None:
        chosen = [each for each in versions if each.number == restore]
        if not chosen:
            numbers = ", ".join(str(each.number) for each in versions)
            raise ParameterError(
                f"--restore is {restore}, expected one of {numbers}, which are kept: choose one"
            )
        return chosen[0]
    if undo:
        before = [each for each in versions if each.number < now.number]
        if not before:
            raise ParameterError(
                f"--undo is set, but version {now.number} is the oldest that is kept, expected an "
                "older one: choose one with --restore"
            )
        return before[-1]
    return None


def _line(facts: dict[str, Any]) -> str:
    first, last = facts["ids"]
    mark = "*" if facts["now"] else " "
    return f"{mark} {facts['version']:>5}  {facts['n_samples']:,} samples, ids {first} to {last}"
