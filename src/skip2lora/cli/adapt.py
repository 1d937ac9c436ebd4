"""``skip2lora adapt``: model and field data to an adapter."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from skip2lora import _core
from skip2lora.adapt import RESULT_FILES, AdaptedModel, adapt, adapt_and_measure
from skip2lora.arrays import listing
from skip2lora.cli import common, power
from skip2lora.cli.models import load_to_adapt, read_for
from skip2lora.cli.options import training_options
from skip2lora.data.image_layout import layout_of
from skip2lora.data.image_options import Images
from skip2lora.errors import ParameterError
from skip2lora.files import check_output
from skip2lora.tasks.task import find_task
from skip2lora.training.loop import Fit, History, Timing


@click.command(short_help="Fit to field data.")
@common.model_argument
@common.data_argument
@common.task("classification", "What is learned: one class, several labels, or numbers.")
@common.answer_columns
@common.class_names
@training_options(adapt)
@click.option("--new-classes", is_flag=True, help="Learn labels that MODEL does not know.")
@common.keep_outputs
@common.taps
@common.grid
@common.threads
@click.option("--power", "with_power", is_flag=True, help="Power, temperature, clock meanwhile.")
@power.sensor_options
@common.output("The adapter, a folder.", metavar="FOLDER")
@common.force
@common.image_options
@common.as_json
def command(
    model: Path, data: Path, output: Path, force: bool, as_json: bool, **options: Any
) -> None:
    """Fit MODEL to the labelled samples in DATA and write the result.

    MODEL stays as it is. The folder holds an adapter, or model.safetensors for a method that
    changes the network (ft-...).
    """
    check_output(output, force=force, names=RESULT_FILES)
    watch = power.watch(*(options.pop(name) for name in ("with_power", "i2c", "shunt_ohms")))
    adapted, fit, n_samples = _adapted(model, data, watch, **options)
    adapted.save(output)
    facts = {"output": str(output), **_facts(adapted, fit, n_samples), **watch.facts()}
    lines = [*_lines(output, adapted, fit, n_samples), *watch.lines()]
    common.show(facts, lines, as_json=as_json)


def _adapted(
    model: Path,
    data: Path,
    watch: power.PowerMeter,
    *,
    images: Images,
    columns: tuple[str, ...] | None,
    class_names: tuple[str, ...] | None,
    **options: Any,
) -> tuple[AdaptedModel, Fit, int]:
    """The result and the number of samples; ``options`` are ``adapt``'s, and those of loading."""
    learned, keep_outputs = find_task(options["task"]), options["keep_outputs"]
    if class_names is not None and not keep_outputs:
        raise ParameterError(
            f"--class-names is {listing(class_names)} with --no-keep-outputs, expected one of "
            "them, as it leaves the outputs of MODEL out: leave one out"
        )
    loading = {name: options.pop(name) for name in ("taps", "grid", "threads")}
    backbone = load_to_adapt(model, images=images, class_names=class_names, **loading)
    samples = read_for(
        backbone, data, columns=columns, task=learned, keep_outputs=keep_outputs,
        new_classes=options["new_classes"], images=images,
    )  # fmt: skip
    kept_images = images.resolved(layout_of(backbone.inputs)) if data.is_dir() else None
    with common.progress_bar("adapt") as callback, power.watched(watch):
        adapted, fit = adapt_and_measure(
            backbone, samples.x, samples.answers,
            output_names=class_names, images=kept_images, callback=callback, **options,
        )  # fmt: skip
    return adapted, fit, len(samples.x)


def _facts(adapted: AdaptedModel, fit: Fit, n_samples: int) -> dict[str, Any]:
    timing, history = _course(adapted)
    return {
        "method": adapted.method,
        "task": adapted.task,
        "n_outputs": adapted.n_outputs,
        **fit.on_all.overall,
        "before": None if fit.before is None else fit.before.overall,
        "after": fit.after.overall,
        "measured_on": "held-out" if fit.held_out else "training",
        "n_measured": fit.n_measured,
        "n_samples": n_samples,
        "timing": asdict(timing),
        "n_batches": history.n_batches,
        "best_epoch": history.best_epoch,
        "trainable_parameters": adapted.trainable_parameters,
        "cache_bytes": adapted.cache_bytes,
        "cache_overhead_bytes": adapted.cache_overhead_bytes,
        "kernels": _core.kernels(),
    }


def _course(adapted: AdaptedModel) -> tuple[Timing, History]:
    timing, history = adapted.timing, adapted.history
    if timing is None or history is None:  # adapt() always sets them
        raise RuntimeError("adapt gave no history")
    return timing, history


def _lines(output: Path, adapted: AdaptedModel, fit: Fit, n_samples: int) -> list[str]:
    timing, history = _course(adapted)
    anew = adapted.base is not adapted.backbone
    before = (
        "the model alone has no such outputs"
        if fit.before is None
        else f"before {common.measures_line(adapted.learned, fit.before)}"
    )
    return [
        f"{output}: {adapted.method}, {adapted.trainable_parameters:,} trainable parameters"
        + (f", outputs learned anew: {adapted.n_outputs:,}" if anew else ""),
        f"{n_samples:,} samples, {history.n_batches:,} batches in "
        f"{common.duration(timing.total_ms)} (cache fill {common.duration(timing.cache_fill_ms)}, "
        f"training {common.duration(timing.training_ms)}), {_core.kernels()} kernels",
        f"cache {adapted.cache_bytes / 1024:,.0f} KiB",
        f"{before}, after {common.measures_line(adapted.learned, fit.after)}, on "
        + (f"{fit.n_measured:,} held-out" if fit.held_out else f"the {fit.n_measured:,} training")
        + f" sample{'s' * (fit.n_measured != 1)}",
    ]
