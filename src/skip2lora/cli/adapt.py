"""``skip2lora adapt``: model and field data to an adapter."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from skip2lora import _core
from skip2lora.adapt import RESULT_FILES, adapt
from skip2lora.arrays import listing
from skip2lora.backbones.recipe import ANY_MODEL
from skip2lora.backbones.taps import Selection
from skip2lora.cli import common, measures, power
from skip2lora.cli.models import load_to_adapt, read_for
from skip2lora.data.image_layout import layout_of
from skip2lora.data.image_options import Images
from skip2lora.errors import ParameterError
from skip2lora.files import check_output
from skip2lora.methods import METHODS
from skip2lora.tasks.measures import measure
from skip2lora.tasks.task import find_task
from skip2lora.training.options import OPTIMIZERS, SCHEDULES


@click.command(short_help="Fit to field data.")
@common.model_argument
@common.data_argument
@common.task("classification", "What is learned: one class, several labels, or numbers.")
@common.answer_columns
@common.class_names
@click.option("--method", default="skip2-lora", show_default=True, type=click.Choice(list(METHODS)))
@click.option("--rank", type=int, help="Rank of each adapter, if any. Default: 4.")
@common.training_options(
    epochs=None,
    learning_rate=None,
    others=" Default: 300 (.safetensors) or 50.; Default: 0.01 (.safetensors) or 0.001.",
)
@click.option(
    "--optimizer",
    type=click.Choice(list(OPTIMIZERS)),
    help="Default: sgd (.safetensors) or adam.",
)
@click.option("--weight-decay", type=float, help="Default: 0.01 for adamw, else 0.")
@click.option("--schedule", default="constant", show_default=True, type=click.Choice(SCHEDULES))
@click.option(
    "--validation",
    default=0.0,
    show_default=True,
    help="Share held out to choose the epoch.",
)
@click.option("--patience", type=int, help="Stop after so many epochs without a better one.")
@click.option(
    "--cache/--no-cache", default=None, help="Skip-Cache; default: on for skip2-lora alone."
)
@click.option("--new-classes", is_flag=True, help="Learn labels that MODEL does not know.")
@common.keep_outputs
@click.option(
    "--standardize/--no-standardize",
    default=None,
    help="Train on scaled taps; default: on, but off for .safetensors.",
)
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
    model: Path, data: Path, method: str, rank: int | None, epochs: int | None,
    batch_size: int | None, learning_rate: float | None, seed: int, optimizer: str | None,
    weight_decay: float | None, schedule: str, validation: float, patience: int | None,
    cache: bool | None, new_classes: bool, keep_outputs: bool, standardize: bool | None,
    task: str, taps: Selection, grid: int | None, threads: int, with_power: bool, i2c: str | None,
    shunt_ohms: float | None, output: Path, force: bool, images: Images,
    columns: tuple[str, ...] | None, class_names: tuple[str, ...] | None, as_json: bool,
) -> None:  # fmt: skip
    """Fit MODEL to the labelled samples in DATA and write the result.

    MODEL stays as it is. The folder holds an adapter, or model.safetensors for a method that
    changes the network (ft-...).
    """
    check_output(output, force=force, names=RESULT_FILES)
    learned = find_task(task)
    if class_names is not None and not keep_outputs:
        raise ParameterError(
            f"--class-names is {listing(class_names)} with --no-keep-outputs, expected one of "
            "them, as it leaves the outputs of MODEL out: leave one out"
        )
    backbone = load_to_adapt(
        model, taps=taps, grid=grid, threads=threads, images=images, class_names=class_names
    )
    samples = read_for(
        backbone, data, columns=columns, task=learned, keep_outputs=keep_outputs,
        new_classes=new_classes, images=images,
    )  # fmt: skip
    watch = power.watch(with_power, i2c, shunt_ohms)
    recipe = backbone.recipe if keep_outputs else ANY_MODEL
    shown = recipe.epochs if epochs is None else epochs
    with common.progress_bar("adapt", shown) as callback, power.watched(watch):
        adapted = adapt(
            backbone, samples.x, samples.answers, method=method, rank=rank, epochs=epochs,
            batch_size=batch_size, learning_rate=learning_rate, seed=seed, optimizer=optimizer,
            weight_decay=weight_decay, schedule=schedule, validation=validation,
            patience=patience, cache=cache, task=task, new_classes=new_classes,
            keep_outputs=keep_outputs, standardize=standardize, callback=callback,
            output_names=class_names,
            images=images.resolved(layout_of(backbone.inputs)) if data.is_dir() else None,
        )  # fmt: skip
    adapted.save(output)
    found = measure(learned, adapted.logits(samples.x), samples.answers)
    timing, history = adapted.timing, adapted.history
    if timing is None or history is None:  # adapt() always sets them
        raise RuntimeError("adapt gave no history")
    facts = {
        "output": str(output),
        "method": method,
        "task": task,
        "n_outputs": adapted.n_outputs,
        **found.overall,
        "n_samples": len(samples.x),
        "timing": asdict(timing),
        "n_batches": history.n_batches,
        "best_epoch": history.best_epoch,
        "trainable_parameters": adapted.trainable_parameters,
        "cache_bytes": adapted.cache_bytes,
        "cache_overhead_bytes": adapted.cache_overhead_bytes,
        "kernels": _core.kernels(),
        **watch.facts(),
    }
    lines = [
        f"{output}: {method}, {adapted.trainable_parameters:,} trainable parameters"
        + ("" if keep_outputs else f", outputs learned anew: {adapted.n_outputs:,}"),
        f"{len(samples.x):,} samples, {history.n_batches:,} batches in "
        f"{common.duration(timing.total_ms)} (cache fill {common.duration(timing.cache_fill_ms)}, "
        f"training {common.duration(timing.training_ms)}), {_core.kernels()} kernels",
        f"cache {adapted.cache_bytes / 1024:,.0f} KiB, {measures.whole(learned, found)} "
        "on these samples",
        *watch.lines(),
    ]
    common.show(facts, lines, as_json=as_json)
