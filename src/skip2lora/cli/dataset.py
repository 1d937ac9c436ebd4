"""``skip2lora dataset``: a task's data as files."""

from __future__ import annotations

from pathlib import Path

import click

from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.data.reading import samples_writer
from skip2lora.data.samples import Samples
from skip2lora.datasets import fan, har, simulated
from skip2lora.errors import ParameterError
from skip2lora.files import check_output, write_folder

_FILES = ("pretrain.npz", "finetune.npz", "test.npz")


@click.command(
    cls=Command, short_help="Write the data of a task as .npz files.",
    example="skip2lora dataset damage1 -o fan",
)  # fmt: skip
@click.argument("name", type=click.Choice(["damage1", "damage2", "har", "simulated"]))
@click.option(
    "--source", type=click.Path(path_type=Path),
    help="Folder (or zip) with the original data; fan recordings are fetched without it.",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of the simulated task.")
@shared.output("Folder for pretrain.npz, finetune.npz and test.npz.", metavar="FOLDER")
@shared.force
@shared.as_json
def command(
    name: str, source: Path | None, seed: int, output: Path, force: bool, as_json: bool
) -> None:
    """Write pretrain.npz, finetune.npz and test.npz of a task.

    damage1 and damage2 are recordings of real cooling fans (Sunaga, Kondo, Matsutani, 2023), quiet
    for pre-training and beside a ventilation fan for the rest. har is Human Activity Recognition
    Using Smartphones (Anguita et al., 2013), its original folder or zip: five people are new.
    simulated needs no download.
    """
    check_output(output, force=force, names=_FILES)
    if name == "simulated":
        if source is not None:
            raise ParameterError(
                f"--source is {source}, simulated takes none as it is computed: leave it out"
            )
        splits = simulated.make_task(seed=seed)
    elif name == "har":
        if source is None:
            raise ParameterError(
                "har is not fetched, it needs the folder or zip of `UCI HAR Dataset`, which is at "
                "https://archive.ics.uci.edu/dataset/240: fetch it and name it with --source"
            )
        splits = har.load_task(source)
    else:
        splits = fan.load_task(name, source, progress=lambda what: click.echo(what, err=True))

    def write(folder: Path) -> None:
        for file, samples in zip(_FILES, splits, strict=True):
            samples_writer(samples)(folder / file)

    write_folder(output, write, names=_FILES)
    facts = {"output": str(output), "files": {}}
    lines = []
    for file, samples in zip(_FILES, splits, strict=True):
        facts["files"][file] = {"n_samples": len(samples.x), "n_features": samples.x.shape[1]}  # type: ignore[index]
        lines.append(f"{output / file}: {_line(samples)}")
    common.show(facts, lines, as_json=as_json)


def _line(samples: Samples) -> str:
    n_samples, n_features = samples.x.shape
    names = ", ".join(samples.class_names or ())
    return f"{n_samples:,} samples of {n_features} features, classes {names}"
