"""``skip2lora adapt``: model and field data to an adapter."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from skip2lora import _core
from skip2lora.adapt import RESULT_FILES, adapt
from skip2lora.backbones import load
from skip2lora.backbones.taps import Selection
from skip2lora.cli import common, power
from skip2lora.cli.models import answers_of, read_for
from skip2lora.files import check_output
from skip2lora.images import Images
from skip2lora.methods import METHODS
from skip2lora.options import OPTIMIZERS, SCHEDULES, recipe_of


@click.command(short_help="Fit to field data.")
@common.model_argument
@common.data_argument
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
@click.option(
    "--standardize/--no-standardize",
    default=None,
    help="Train on scaled taps; default: on, but off for .safetensors.",
)
@common.taps
@click.option("--power", "with_power", is_flag=True, help="Power, temperature, clock meanwhile.")
@power.sensor_options
@common.output("The adapter, a folder.", metavar="FOLDER")
@common.force
@common.image_options
@common.label
@common.as_json
def command(
    model: Path, data: Path, method: str, rank: int | None, epochs: int | None,
    batch_size: int | None, learning_rate: float | None, seed: int, optimizer: str | None,
    weight_decay: float | None, schedule: str, validation: float, patience: int | None,
    cache: bool | None, new_classes: bool, standardize: bool | None,
    taps: Selection, with_power: bool, i2c: str | None, shunt_ohms: float | None, target: Path,
    force: bool, images: Images, label: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Fit MODEL to the labelled samples in DATA and write the result.

    MODEL stays as it is. The folder holds an adapter, or model.safetensors for a method that
    changes the network (ft-...).
    """
    check_output(target, force=force, names=RESULT_FILES)
    backbone = load(model, taps=taps)
    samples = read_for(backbone, data, label=label, new_classes=new_classes, images=images)
    y = answers_of(samples, new_classes=new_classes)
    watch = power.watch(with_power, i2c, shunt_ohms)
    shown = recipe_of(backbone).epochs if epochs is None else epochs
    with common.progress_bar("adapt", shown) as callback, power.watched(watch):
        adapted = adapt(
            backbone, samples.x, y, method=method, rank=rank, epochs=epochs,
            batch_size=batch_size, learning_rate=learning_rate, seed=seed, optimizer=optimizer,
            weight_decay=weight_decay, schedule=schedule, validation=validation,
            patience=patience, cache=cache, new_classes=new_classes,
            standardize=standardize, callback=callback,
        )  # fmt: skip
    adapted.save(target)
    accuracy = adapted.score(samples.x, y)
    timing, history = adapted.timing, adapted.history
    if timing is None or history is None:  # adapt() always sets them
        raise RuntimeError("adapt gave no history")
    facts = {
        "output": str(target),
        "method": method,
        "accuracy": accuracy,
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
        f"{target}: {method}, {adapted.trainable_parameters:,} trainable parameters",
        f"{len(samples.x):,} samples, {history.n_batches:,} batches in "
        f"{common.duration(timing.total_ms)} (cache fill {common.duration(timing.cache_fill_ms)}, "
        f"training {common.duration(timing.training_ms)}), {_core.kernels()} kernels",
        f"cache {adapted.cache_bytes / 1024:,.0f} KiB, accuracy on these samples "
        f"{common.percent(accuracy)}",
        *watch.lines(),
    ]
    common.show(facts, lines, as_json=as_json)
