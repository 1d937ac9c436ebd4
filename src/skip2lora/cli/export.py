"""``skip2lora export``: model and adapter for another runtime, or for a board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click

from skip2lora.adapted import AdaptedModel
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.backbones.loading import load
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.cli.measures import named_thresholds, thresholds_line
from skip2lora.errors import MissingExtraError, ParameterError
from skip2lora.export.c import export_c
from skip2lora.export.c_blob import WEIGHTS
from skip2lora.export.c_folder import ROWS, WHEN_FULL
from skip2lora.files import check_output
from skip2lora.tasks.task import TASKS, Outputs
from skip2lora.training.lab_set import LabSet
from skip2lora.training.rehearsal import lab_set_beside

#: Beside a .tflite file, as devices have it.
LABELS = "labels.txt"


@dataclass(frozen=True)
class Asked:
    """What is to be exported, and ``options`` of a board, those that are set."""

    model: Path
    output: Path
    kind: str
    adapter: Path | None
    data: Path | None
    output_name: str | None
    force: bool
    options: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """What was written, and what there is to say of it."""

    files: list[Path]
    facts: dict[str, Any]
    lines: list[str]


def _file(asked: Asked) -> Done:
    """One file, or a file of the model and one of the adapters or of labels."""
    _refuse_options(asked)
    model, output, kind = asked.model, asked.output, asked.kind
    suffix = ".tflite" if kind == "tflite" else ".onnx"
    also = (".safetensors", ".toml")
    shared.check_made(model, output, "exported", force=asked.force, suffix=suffix, also=also)
    if kind == "onnx-adapter":
        check_output(output.with_suffix(".onnx_adapter"), force=asked.force)
    if kind == "tflite":
        check_output(output.with_name(LABELS), force=asked.force)
    if asked.adapter is None:
        raise click.MissingParameter(param_hint="'--adapter'", param_type="option")
    adapted = common.load_adapted(model, asked.adapter, output_name=asked.output_name)
    if not isinstance(adapted.adapters, SkipAdapters):
        raise ParameterError(
            f"{asked.adapter} is of {adapted.method}, expected skip adapters: adapt again"
        )
    said = {"method": adapted.method, **adapted.said.entries()}
    options: dict[str, Any] = {"description": said, "thresholds": adapted.thresholds}
    if asked.data is not None:
        options["samples"] = common.read_to_predict(
            adapted, asked.data, columns={}, task=adapted.learned, images=None
        ).x
    files = _write(adapted, kind, output, options)
    facts = {"n_outputs": adapted.n_outputs, "rank": adapted.adapters.rank}
    lines = [f"{file}: {file.stat().st_size / 1024:,.0f} KiB" for file in files]
    return _with_thresholds(Done(files, facts, lines), adapted)


def _with_thresholds(done: Done, adapted: AdaptedModel) -> Done:
    """What there is to say of thresholds that predictions go by in Python, and not there."""
    chosen = adapted.thresholds
    if chosen is None:
        return done
    titles = Outputs.of(adapted, adapted.learned).titles
    of = named_thresholds(chosen.least(adapted.learned), titles)
    line = f"thresholds for what reads its outputs to apply, as predict does: {thresholds_line(of)}"
    return Done(done.files, {**done.facts, "thresholds": of}, [*done.lines, line])


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
        return export_tflite(
            *given, class_names=adapted.class_names, replace_labels=True, **options
        )
    from skip2lora.export.onnx import export_onnx, export_onnx_adapter

    if kind == "onnx-adapter":
        return [output, export_onnx_adapter(*given, **options)]
    export_onnx(*given, **options)
    return [output]


def _refuse_options(asked: Asked) -> None:
    """Raise ParameterError for an option of a board beside another format."""
    for name in asked.options:
        option = f"--{name.replace('_', '-')}"
        raise ParameterError(
            f"{option} is set with --to {asked.kind}, expected --to c, for a board: leave "
            f"{option} out"
        )


def _c(asked: Asked) -> Done:
    """A folder of C."""
    model: Any
    if asked.adapter is None:
        model = load(asked.model, output=asked.output_name)
        common.say_output(model)
    else:
        model = common.load_adapted(asked.model, asked.adapter, output_name=asked.output_name)
    options = dict(asked.options)
    if asked.data is not None:
        task = model.learned if isinstance(model, AdaptedModel) else TASKS[model.task]
        table = common.read_to_predict(model, asked.data, columns={}, task=task, images=None)
        options |= {"samples": table.x, "answers": table.answers}
    elif "projection" in options and (lab := lab_set_beside(asked.model)).is_file():
        options["samples"] = LabSet.read(lab)
    done = export_c(model, asked.output, force=asked.force, **options)
    facts = {each: value for each, value in asdict(done).items() if each != "files"}
    alike = "" if done.agreement is None else f", {common.percent(done.agreement)} of classes alike"
    lines = [
        f"{asked.output}: {len(done.files)} files of C{alike}; flash for the network "
        f"{common.size(done.model_bytes)}, RAM {common.size(done.arena_bytes)}",
        f"try it: make -C {asked.output} && {asked.output}/example < data.csv",
    ]
    written = Done([asked.output / file for file in done.files], facts, lines)
    return _with_thresholds(written, model) if isinstance(model, AdaptedModel) else written


#: How each format is made.
FORMATS: dict[str, Callable[[Asked], Done]] = {
    "onnx": _file, "onnx-adapter": _file, "tflite": _file, "c": _c
}  # fmt: skip


def _of_a_board(function: Any) -> Any:
    """The options that a folder of C is exported with."""
    for option in (
        click.option(
            "--when-full", type=click.Choice(list(WHEN_FULL)),
            help="One sample more is refused, or the oldest goes. Default: refuse.",
        ),
        click.option(
            "--capacity", type=int, metavar="N", help="Samples the board keeps. Default: 512."
        ),
        click.option(
            "--weights", type=click.Choice(WEIGHTS),
            help="How the network lies in flash. Default: float32.",
        ),
        click.option("--taps-only", is_flag=True, help="The board's own runtime computes taps."),
        click.option("--blob", is_flag=True, help="The network as model.bin, not as an array."),
    ):  # fmt: skip
        function = option(function)
    return shared.training_options(export_c, cache_dtype=tuple(ROWS))(function)


@click.command(
    cls=Command, short_help="Write model and adapter for another runtime, or for a board.",
    example="skip2lora export model.onnx --adapter adapter --to onnx -o adapted.onnx",
)  # fmt: skip
@shared.model_argument
@click.option(
    "--adapter", type=click.Path(path_type=Path),
    help="Folder written by skip2lora adapt; needed but with c, which may begin without.",
)  # fmt: skip
@click.option(
    "--to", "kind", required=True, type=click.Choice(list(FORMATS)),
    help="One file with all inside, adapters to swap over one session, or a folder of C.",
)  # fmt: skip
@click.option(
    "--data", metavar="DATA", type=click.Path(path_type=Path),
    help="Samples to compare outputs on before it is written, random ones by default; a projection "
    "is found from them, or from the lab set beside MODEL.",
)  # fmt: skip
@shared.output_name
@_of_a_board
@shared.output("What is written, such as adapted.onnx, or a folder of C.")
@shared.force
@shared.as_json
@click.pass_context
def command(
    ctx: click.Context, /, model: Path, output: Path, kind: str, as_json: bool, **options: Any
) -> None:
    """Write MODEL with its adapter for where it will run.

    MODEL is .onnx, .tflite, or .safetensors of pretrain. `onnx` and `tflite` are one
    self-contained file for the stock runtime, the latter with labels.txt beside it. `onnx-adapter`
    leaves the adapters as optional inputs and writes them beside it, to be swapped at run time. An
    adapter made with --no-keep-outputs adds the output "logits" ("adapted_logits" where MODEL has
    one of that name) to those of MODEL. `c` is a folder of C99 that goes on learning on a
    microcontroller, with or without an adapter to begin with. Nothing is written unless it gives
    what MODEL with its adapter gives on a few samples.
    """
    own = {each.name for each in fields(Asked)}
    given = click.core.ParameterSource.DEFAULT
    of_board = {
        name: value
        for name, value in options.items()
        if name not in own and ctx.get_parameter_source(name) is not given
    }
    rest = {name: value for name, value in options.items() if name in own}
    done = FORMATS[kind](Asked(model, output, kind, options=of_board, **rest))
    facts = {
        "output": [str(file) for file in done.files],
        "bytes": [file.stat().st_size for file in done.files],
        **done.facts,
    }
    common.show(facts, done.lines, as_json=as_json)
