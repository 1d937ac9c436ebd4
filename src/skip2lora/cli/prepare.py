"""``skip2lora prepare``: an ONNX model with its taps as outputs, for a device."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skip2lora.adapters.rows import FLOAT_BYTES
from skip2lora.backbones.loading import load
from skip2lora.backbones.taps import GRID
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.cli.lab_sets import check_lab_set, lab_set_lines, save_lab_set
from skip2lora.cli.media import check_no_media, media_of, media_options, stream_group
from skip2lora.data.image_options import Images
from skip2lora.data.media import Media
from skip2lora.errors import ParameterError
from skip2lora.files import write_file
from skip2lora.tasks.task import task_for
from skip2lora.training.lab_set import LabSet

if TYPE_CHECKING:
    from skip2lora.backbones.litert.backbone import LiteRTBackbone


@click.command(
    cls=Command, short_help="Add taps to an ONNX model, for a device.",
    example="skip2lora prepare model.onnx -o tapped.onnx",
)  # fmt: skip
@shared.model_argument
@shared.output("The tapped model, such as tapped.onnx.", metavar="FILE")
@shared.taps
@click.option("--grid", default=GRID, show_default=True, help="Places an axis of a map keeps.")
@media_options
@stream_group
@shared.lab_set
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Labelled samples of the lab, of which --lab-set takes some.",
)
@shared.columns
@shared.class_names
@shared.task(None, "What --data has. Default: numbers where MODEL gives these, else classes.")
@shared.output_name
@shared.mask
@shared.force
@shared.as_json
def command(
    model: Path, output: Path, output_name: str | None, force: bool, as_json: bool,
    lab_set: int | None, **options: Any,
) -> None:  # fmt: skip
    """Add taps to MODEL (.onnx) once, on a workstation.

    The device that adapts the file needs NumPy and ONNX Runtime alone, not the package onnx. A
    .tflite gives its taps as it is: with --lab-set it is copied, and the lab set put beside it.
    """
    as_it_is = model.suffix == ".tflite"
    if as_it_is and lab_set is None:
        raise ParameterError(
            f"{model} ends in .tflite, which needs no preparing, as LiteRT alone gives its taps, "
            "expected .onnx or .toml, or --data and --lab-set, which put a lab set beside a copy: "
            "adapt it as it is"
        )
    if as_it_is:
        shared.check_made(model, output, "prepared", force=force, suffix=model.suffix)
    else:
        shared.check_onnx(model, output, "prepared", force=force, also=(".toml",))
    check_lab_set(output, lab_set, force=force)
    from skip2lora.backbones.onnx.preparing import prepare

    names = ("data", "task", "class_names")
    reading = {name: options.pop(name) for name in names} | common.columns_of(options, "train")
    images = media_of(options, reading["data"])
    options |= {"output": output_name, "size": None if images is None else images.size}
    lab = _lab_set(model, lab_set, images, loading=options, **reading)
    tapped = _copied(model, output, options) if as_it_is else prepare(model, output, **options)
    row_bytes = FLOAT_BYTES * (sum(tap.width for tap in tapped.taps) + tapped.n_outputs)
    facts: dict[str, Any] = {
        "output": str(output),
        "fingerprint": tapped.fingerprint,
        "n_outputs": tapped.n_outputs,
        "bytes_a_sample": row_bytes,
        "taps": [{"layer": tap.layer, "kind": tap.kind, "width": tap.width} for tap in tapped.taps],
        "lab_set": save_lab_set(output, lab),
    }
    done = "tapped as they are, in a copy" if as_it_is else "tapped"
    lines = [f"{output}: {len(tapped.taps)} of {len(tapped.layers)} layers {done}"]
    lines += [f"  {tap.layer}  {tap.kind}, {tap.width:,} wide" for tap in tapped.taps]
    lines.append(f"  {tapped.n_outputs:,} outputs, {row_bytes:,} bytes a sample in the cache")
    lines += lab_set_lines(facts["lab_set"])
    common.show(facts, lines, as_json=as_json)


def _copied(model: Path, output: Path, options: dict[str, Any]) -> LiteRTBackbone:
    """The model of a file that gives its taps as it is, which is copied for a lab set beside it.

    The same bytes are the same model, by its fingerprint: adapters fit both.
    """
    from skip2lora.backbones.litert.backbone import LiteRTBackbone

    known = LiteRTBackbone.load(model, **options)
    write_file(output, lambda copy: shutil.copyfile(model, copy))
    return known


def _lab_set(
    model: Path,
    count: int | None,
    images: Media | None,
    *,
    loading: dict[str, Any],
    data: Path | None,
    task: str | None,
    class_names: tuple[str, ...] | None,
    **columns: Any,
) -> LabSet | None:
    """That of ``count`` samples a class of ``data``; None where neither is given.

    Raises:
        ParameterError: one without the other.
    """
    if data is None and not isinstance(images, Images):  # of which a size holds for the model
        check_no_media(images, "--data")
    if data is None and count is None:
        return None
    if data is None or count is None:
        raise ParameterError(
            f"--data is {data} and --lab-set {count}, expected both or none: pass the samples of "
            "the lab, and how many of each class the lab set takes"
        )
    known = load(model, class_names=class_names, **loading)
    samples = common.read_for(
        known, data, columns=columns, task=task_for(known, task), images=images,
        in_order=class_names is not None,
    )  # fmt: skip
    return LabSet.of(known, samples.x, samples.answers, count, task=task)
