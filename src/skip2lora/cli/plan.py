"""``skip2lora plan``: memory and time of adapting or of a service, before it runs."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from skip2lora.arrays import size as bytes_of
from skip2lora.backbones.alone import batches_of
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.loading import load, load_for_images
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.common import read_to_predict
from skip2lora.cli.help import Command
from skip2lora.cli.learning import cache_of
from skip2lora.cli.media import check_no_media, media_of, media_options, stream_group
from skip2lora.cli.options import training_options
from skip2lora.cli.service import LIMITS, lab_set, limit_options, limits_of, plan_facts, plan_lines
from skip2lora.data.image_options import Images
from skip2lora.errors import ParameterError
from skip2lora.plan import Plan, plan
from skip2lora.serve import allocator
from skip2lora.serve.planned import plan_service
from skip2lora.training.room import Memory

#: What is typed for a service.
_OF_SERVICE = ("model", "serve", "lab_set", "threads", "memory", "as_json", *LIMITS)


@click.command(
    cls=Command, short_help="Memory and time of adapting, before it runs.",
    example="skip2lora plan model.onnx --samples 200",
)  # fmt: skip
@shared.model_argument
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("--samples", type=int, help="Number of samples, without DATA. Default 500.")
@training_options(plan)
@shared.memory
@click.option(
    "--cache-dir", metavar="DIR", type=click.Path(path_type=Path),
    help="Folder of adapt that rows are read from where they do not fit; its disk is tried.",
)  # fmt: skip
@shared.taps
@shared.grid
@shared.threads
@shared.output_name
@shared.mask
@click.option(
    "--classes", "n_outputs", type=int, help="Outputs in all, with new ones. Default: the model's."
)
@shared.keep_outputs
@media_options
@stream_group
@shared.columns
@shared.no_target
@click.option("--serve", is_flag=True, help="Plan a service instead, with the limits below.")
@limit_options
@lab_set
@shared.as_json
def command(
    model: Path, data: Path | None, samples: int | None, as_json: bool, serve: bool, **options: Any
) -> None:
    """Say what adapting MODEL to DATA, or to a number of samples, will take.

    Memory is counted. Times are those of this machine: a few milliseconds of training on random
    rows of the same shape, and MODEL on a few samples. Options left out are as in adapt: the recipe
    auto, where none of "Training in detail" is set. With --serve, memory and disk of skip2lora
    serve at its limits, and every limit.
    """
    _check_typed(click.get_current_context(), serve=serve)
    service = {name: options.pop(name) for name in (*LIMITS, "lab_set")}
    if serve:
        _plan_service(model, options, service, as_json=as_json)
        return
    if data is not None and samples is not None:
        raise ParameterError(
            f"got DATA {data} and --samples {samples}, expected one of them: leave --samples out"
        )
    images, columns = media_of(options, data), common.columns_of(options, "train")
    loading = {name: options.pop(name) for name in ("taps", "grid", "threads", "mask")}
    size, output = None if images is None else images.size, options.pop("output_name")
    backbone = load_for_images(model, size, output=output, **loading)
    if isinstance(images, Images) and backbone.size:  # which it fixed
        images = replace(images, size=None)
    if data is None:
        check_no_media(images, "DATA")
    options["cache"] = cache_of(options.pop("cache_dir"), options["cache"])
    X = None
    if data is not None:
        X = read_to_predict(backbone, data, columns=columns, task=None, images=images).x
    result = plan(backbone, X, n_samples=samples, **options)
    facts = asdict(result) | common.output_facts(backbone)
    facts["chosen"] = None if result.chosen is None else result.chosen.name
    facts["memory"] |= {
        "adapting_bytes": result.memory.adapting_bytes,
        "peak_bytes": result.memory.peak_bytes,
    }
    common.show({"model": str(model), **facts}, _lines(model, result, backbone), as_json=as_json)


def _check_typed(context: click.Context, *, serve: bool) -> None:
    """Raise ParameterError for what was typed and is of the other plan."""
    for name in context.params:
        typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if typed and serve and name not in _OF_SERVICE:
            of = next(option for option in context.command.params if option.name == name)
            raise ParameterError(
                f"got {of.opts[0] if of.opts[0].startswith('-') else name.upper()} beside --serve, "
                "expected what a service takes, which is its limits: leave it out"
            )
        if typed and not serve and name in (*LIMITS, "lab_set"):
            raise ParameterError(
                f"got --{name.replace('_', '-')} without --serve, expected both or none: add "
                "--serve, or leave it out"
            )


def _plan_service(
    model: Path, options: dict[str, Any], service: dict[str, Any], *, as_json: bool
) -> None:
    allocator.settle()
    memory = options["memory"]
    planned = plan_service(
        load(model, threads=options["threads"]), limits_of(service), lab_set=service["lab_set"],
        memory=None if memory is None else bytes_of("memory", memory),
    )  # fmt: skip
    facts = {"model": str(model), **plan_facts(planned)}
    common.show(facts, plan_lines(model, planned), as_json=as_json)


def _lines(model: Path, result: Plan, backbone: Backbone) -> list[str]:
    scaled = ", scaled taps" if result.standardize else ""
    how = "solved exactly"
    if result.solver == "steps":
        how = f"{result.optimizer}, batches of {result.batch_size}, {result.epochs} epochs"
    return [
        f"{model}: {len(result.taps)} taps, {sum(tap.width for tap in result.taps):,} wide in all",
        *common.tap_lines(result.taps),
        *common.output_lines(backbone),
        f"{result.n_samples:,} samples, {result.n_outputs:,} outputs, "
        + ("" if result.recipe is None else f"recipe {result.recipe}, ")
        + f"rank {result.rank}, {how}{scaled}",
        *_memory_lines(result.memory, result.n_parameters),
        *_choice_lines(result),
        *_time_lines(result, noise=backbone.network is None),
    ]


def _memory_lines(memory: Memory, n_parameters: int) -> list[str]:
    size = common.size
    samples = size(memory.samples_bytes) if memory.samples_bytes else "not known (pass DATA)"
    return [
        "memory",
        f"  samples          {samples}",
        f"  cache            {size(memory.cache_bytes)}, padding "
        f"{size(memory.cache_overhead_bytes)}",
        f"  adapters         {size(memory.adapter_bytes)}, {n_parameters:,} parameters, "
        f"{size(memory.saved_bytes)} saved",
        f"  optimiser        {size(memory.optimizer_bytes)}",
        f"  workspace        {size(memory.workspace_bytes)}, filling the cache about "
        f"{size(memory.fill_bytes)}",
        f"  peak             about {size(memory.peak_bytes)}, of it {size(memory.process_bytes)} "
        "for this process with the model",
    ]


def _choice_lines(result: Plan) -> list[str]:
    """What each way takes at its peak, and which is the best that fits."""
    size, lines = common.size, [f"ways, of which {common.size(result.limit_bytes)} are to hold one"]
    for way in result.choices:
        fits = "fits" if way.peak_bytes <= result.limit_bytes else "does not fit"
        rows = "" if way.capacity == result.n_samples else f", rows of {way.capacity:,} samples"
        if way.n_rows_read:
            rows += f" in memory, {_reading(way.n_rows_read, result)}"
        lines.append(f"  {way.name:24} about {size(way.peak_bytes)}{rows}: {fits}")
    chosen = "none" if result.chosen is None else result.chosen.name
    return [*lines, f"  chosen                   {chosen}"]


def _reading(n_rows: int, result: Plan) -> str:
    """How many rows are read from the folder, and in what time."""
    took = "not measured: no file can be written there"
    if result.read_us_a_row is not None:
        took = f"{common.duration(n_rows * result.read_us_a_row / 1e3)} from a cold disk"
    return f"{n_rows:,} read from the folder ({took})"


def _time_lines(result: Plan, *, noise: bool) -> list[str]:
    fill = "not measured: the model leaves the size of a sample open, pass DATA"
    if result.cache_fill_ms is not None and result.fill_us_a_sample is not None:
        fill = (
            f"{common.duration(result.cache_fill_ms)}: "
            f"{common.duration(result.fill_us_a_sample / 1e3, digits=3)} a sample, "
            f"measured on {result.n_measured}"
        )
    few = sum(map(len, batches_of(None)))
    took = "not measured"
    if result.fill_us_a_sample is not None:
        took = f"about {common.duration(few * result.fill_us_a_sample / 1e3)}"
    loading = (
        f"  loading          3 passes of noise, {few} samples or a fixed batch 3 times: {took}; "
        "more where sizes are open or inputs may be masks, none for a file of prepare"
    )
    duration = common.duration(result.training_ms)
    training = [
        f"  training         {duration}: {result.n_batches:,} batches of {result.us_a_batch:.1f} "
        "us, measured on random rows",
        f"                   {result.operations_a_batch:,} operations a batch, "
        f"{result.gflops:.1f} GFLOP/s",
    ]
    if result.solver == "exact":
        training = [f"  training         about {duration}, of CPU time, from fits on random rows"]
    if result.n_rows_read:
        training.append(f"  reading          {_reading(result.n_rows_read, result)}")
    return [
        "time on this machine",
        *([loading] if noise else []),
        f"  cache fill       {fill}",
        *training,
    ]
