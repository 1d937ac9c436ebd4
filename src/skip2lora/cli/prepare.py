"""``skip2lora prepare``: an ONNX model with its taps as outputs, for a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from skip2lora.adapters.rows import FLOAT_BYTES
from skip2lora.backbones.taps import GRID
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.data.image_options import Images


@click.command(
    cls=Command, short_help="Add taps to an ONNX model, for a device.",
    example="skip2lora prepare model.onnx -o tapped.onnx",
)  # fmt: skip
@shared.model_argument
@shared.output("The tapped model, such as tapped.onnx.", metavar="FILE")
@shared.taps
@click.option("--grid", default=GRID, show_default=True, help="Places an axis of a map keeps.")
@click.option("--size", metavar="HxW", help="Fixes images that may have any size.")
@shared.output_name
@shared.mask
@shared.force
@shared.as_json
def command(
    model: Path, output: Path, size: str | None, output_name: str | None, force: bool,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Add taps to MODEL (.onnx) once, on a workstation.

    The device that adapts the file needs NumPy and ONNX Runtime alone, not the package onnx.
    """
    shared.check_onnx(model, output, "prepared", force=force)
    from skip2lora.backbones.onnx.backbone import prepare

    fixed = Images.parse(size, None, None).size
    tapped = prepare(model, output, size=fixed, output=output_name, **options)
    row_bytes = FLOAT_BYTES * (sum(tap.width for tap in tapped.taps) + tapped.n_outputs)
    facts = {
        "output": str(output),
        "fingerprint": tapped.fingerprint,
        "n_outputs": tapped.n_outputs,
        "bytes_a_sample": row_bytes,
        "taps": [{"layer": tap.layer, "kind": tap.kind, "width": tap.width} for tap in tapped.taps],
    }
    lines = [f"{output}: {len(tapped.taps)} of {len(tapped.layers)} layers tapped"]
    lines += [f"  {tap.layer}  {tap.kind}, {tap.width:,} wide" for tap in tapped.taps]
    lines.append(f"  {tapped.n_outputs:,} outputs, {row_bytes:,} bytes a sample in the cache")
    common.show(facts, lines, as_json=as_json)
