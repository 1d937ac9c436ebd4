"""``skip2lora export``: model and adapter as one file for another runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from skip2lora.adapted import AdaptedModel
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.errors import MissingExtraError, ParameterError
from skip2lora.files import check_output
from skip2lora.tasks.columns import Columns

#: Beside a .tflite file, as devices have it.
LABELS = "labels.txt"
FORMATS = ("onnx", "onnx-adapter", "tflite")


@click.command(
    cls=Command, short_help="Write model and adapter for another runtime.",
    example="skip2lora export model.onnx --adapter adapter --to onnx -o adapted.onnx",
)  # fmt: skip
@shared.model_argument
@click.option(
    "--adapter", required=True, type=click.Path(path_type=Path),
    help="Folder written by skip2lora adapt.",
)  # fmt: skip
@click.option(
    "--to", "kind", required=True, type=click.Choice(FORMATS),
    help="One file with all inside, or adapters (of ONNX) to swap over one session.",
)  # fmt: skip
@click.option(
    "--data", metavar="DATA", type=click.Path(path_type=Path),
    help="Samples to compare outputs on before the file is written; by default random ones.",
)  # fmt: skip
@shared.output_name
@shared.output("The exported model, such as adapted.onnx.", metavar="FILE")
@shared.force
@shared.as_json
def command(
    model: Path, adapter: Path, kind: str, data: Path | None, output_name: str | None,
    output: Path, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write MODEL with its adapter as a file for the stock runtime.

    MODEL is .onnx, .tflite, or .safetensors of pretrain. `onnx` and `tflite` are one
    self-contained file, the latter with labels.txt beside it. `onnx-adapter` leaves the adapters as
    optional inputs and writes them beside it, to be swapped at run time. An adapter made with
    --no-keep-outputs adds the output "logits" ("adapted_logits" where MODEL has one of that name)
    to those of MODEL. Nothing is written unless it gives what MODEL with its adapter gives on a few
    samples.
    """
    suffix = ".tflite" if kind == "tflite" else ".onnx"
    shared.check_made(model, output, "exported", force=force, suffix=suffix, also=(".safetensors",))
    if kind == "onnx-adapter":
        check_output(output.with_suffix(".onnx_adapter"), force=force)
    if kind == "tflite":
        check_output(output.with_name(LABELS), force=force)
    adapted = common.load_adapted(model, adapter, output_name=output_name)
    if not isinstance(adapted.adapters, SkipAdapters):
        raise ParameterError(
            f"{adapter} is of {adapted.method}, expected skip adapters: adapt again"
        )
    said = {"method": adapted.method, "task": adapted.task}
    if adapted.columns != Columns():
        said["columns"] = json.dumps(adapted.columns.to_json())
    options: dict[str, Any] = {"description": said}
    if data is not None:
        options["samples"] = common.read_to_predict(
            adapted, data, columns={}, task=adapted.learned, images=None
        ).x
    files = _write(adapted, kind, output, options)
    facts = {
        "output": [str(file) for file in files],
        "bytes": [file.stat().st_size for file in files],
        "n_outputs": adapted.n_outputs,
        "rank": adapted.adapters.rank,
    }
    lines = [f"{file}: {file.stat().st_size / 1024:,.0f} KiB" for file in files]
    common.show(facts, lines, as_json=as_json)


def _write(adapted: AdaptedModel, kind: str, output: Path, options: dict[str, Any]) -> list[Path]:
    """The files of that kind, as they are written."""
    given = (adapted.backbone, adapted.adapters, output)
    if kind == "tflite":
        try:
            from skip2lora.export.tflite import export_tflite
        except ImportError as error:
            if not (error.name or "").startswith(("ai_edge_litert", "flatbuffers")):
                raise
            raise MissingExtraError(
                "exporting to .tflite needs ai-edge-litert: pip install 'skip2lora[litert]'"
            ) from error
        return export_tflite(*given, class_names=adapted.class_names, **options)
    from skip2lora.export.onnx import export_onnx, export_onnx_adapter

    if kind == "onnx-adapter":
        return [output, export_onnx_adapter(*given, **options)]
    export_onnx(*given, **options)
    return [output]
