"""``skip2lora adapt``: model and field data to an adapter."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from skip2lora import _core
from skip2lora.adapt import CONFIG_FILE, TENSORS_FILE, adapt
from skip2lora.backbones import load
from skip2lora.cli import common
from skip2lora.data import read_samples
from skip2lora.files import check_output
from skip2lora.methods import ADAPTER_METHODS


@click.command(short_help="Fit adapters to field data.")
@common.model_argument
@common.data_argument
@click.option(
    "--method", default="skip2-lora", show_default=True, type=click.Choice(list(ADAPTER_METHODS))
)
@click.option("--rank", default=4, show_default=True, help="Rank of each adapter.")
@common.training_options(epochs=300)
@common.output("The adapter, a folder.", metavar="FOLDER")
@common.force
@common.label
@common.as_json
def command(
    model: Path, data: Path, method: str, rank: int, epochs: int, batch_size: int | None,
    learning_rate: float, seed: int, target: Path, force: bool, label: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Fit adapters for MODEL to the labelled samples in DATA and write them.

    MODEL stays as it is.
    """
    check_output(target, force=force, names=(CONFIG_FILE, TENSORS_FILE))
    backbone = load(model)
    samples = read_samples(data, label=label, class_names=backbone.class_names)
    with common.progress_bar("adapt", epochs) as callback:
        adapted = adapt(
            backbone, samples.x, samples.labels, method=method, rank=rank, epochs=epochs,
            batch_size=batch_size, learning_rate=learning_rate, seed=seed, callback=callback,
        )  # fmt: skip
    adapted.save(target)
    accuracy = adapted.score(samples.x, samples.labels)
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
        "trainable_parameters": adapted.trainable_parameters,
        "cache_bytes": adapted.cache_bytes,
        "cache_overhead_bytes": adapted.cache_overhead_bytes,
        "kernels": _core.kernels(),
    }
    lines = [
        f"{target}: {method}, rank {rank}, {adapted.trainable_parameters:,} trainable parameters",
        f"{len(samples.x):,} samples, {history.n_batches:,} batches in "
        f"{common.duration(timing.total_ms)} (cache fill {common.duration(timing.cache_fill_ms)}, "
        f"training {common.duration(timing.training_ms)}), {_core.kernels()} kernels",
        f"cache {adapted.cache_bytes / 1024:,.0f} KiB, accuracy on these samples "
        f"{common.percent(accuracy)}",
    ]
    common.show(facts, lines, as_json=as_json)
