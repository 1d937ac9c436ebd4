"""``skip2lora bench``: what this machine takes for a batch, a cache, a prediction."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from skip2lora.backbones.base import Backbone
from skip2lora.backbones.loading import load
from skip2lora.backbones.mlp import MLP
from skip2lora.bench import (
    FAN_WIDTHS,
    N_SAMPLES,
    N_SAMPLES_ELSEWHERE,
    BenchResult,
    run_bench,
)
from skip2lora.cli import bars, common
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.errors import ParameterError
from skip2lora.spread import Spread


def _model(
    path: Path | None, widths: list[int], seed: int, output_name: str | None, mask: str | None
) -> Backbone:
    if path is None:
        for option, value in (("--output-name", output_name), ("--mask", mask)):
            if value is not None:
                raise ParameterError(
                    f"got {option} {value} without MODEL, expected a model: leave it out"
                )
        return MLP.create(widths or FAN_WIDTHS, seed=seed)
    if widths:
        raise ParameterError(
            f"got the model {path} and --widths, expected one of them: leave --widths out"
        )
    return load(path, output=output_name, mask=mask)


def _spread(of: Spread, unit: str, digits: int) -> str:
    low, high = f"{of.smallest:.{digits}f}", f"{of.largest:.{digits}f}"
    return f"{of.median:.{digits}f} {unit} ({low} to {high})"


def _table(result: BenchResult) -> Table:
    table = Table(title=f"A batch of {result.batch_size}, rank {result.rank}", title_justify="left")
    table.add_column("method", no_wrap=True)
    for column in ("us a batch", "smallest to largest", "GFLOP/s", "of peak"):
        table.add_column(column, justify="right")
    for name, of in result.methods.items():
        us = of.us_a_batch
        table.add_row(
            name, f"{us.median:.2f}", f"{us.smallest:.2f} to {us.largest:.2f}",
            f"{of.gflops:.1f}", common.percent(of.share_of_peak),
        )  # fmt: skip
    return table


def _shape(result: BenchResult) -> str:
    if len(result.methods) > 1:
        return "-".join(map(str, result.widths))
    return f"with {len(result.widths)} taps, {sum(result.widths):,} wide in all"


def _print(result: BenchResult) -> None:
    console = Console()
    cache = f"{result.cache_bytes / 1024:,.0f} KiB"
    more = f"{result.cache_overhead_bytes / 1024:,.0f} KiB"
    fill = _spread(result.cache_fill_ms, "ms", 3)
    above = (
        f"{result.cpu}, {result.kernels} kernels, {result.n_threads} thread",
        f"multiply-add peak of one core: {_spread(result.peak_gflops, 'GFLOP/s', 1)}",
        f"network {_shape(result)}, {result.n_samples:,} random samples, "
        f"median of {result.rounds} (smallest to largest)",
    )
    below = (
        f"cache fill: {fill}, {result.cache_fill_us_a_sample:.2f} us a sample, "
        f"{cache} and {more} of padding and flags",
        f"predict, one sample a call: {_spread(result.predict_us, 'us', 2)}",
        f"predict, {result.n_samples:,} samples a call: "
        f"{_spread(result.predict_batched_us, 'us', 2)} a sample",
        "skip2-lora: on rows that are in the cache. skip-lora: the same without a cache."
        if len(result.methods) > 1
        else "skip2-lora: on rows that are in the cache.",
    )
    console.print("\n".join(above), highlight=False, markup=False)
    console.print(_table(result))
    console.print("\n".join(below), highlight=False, markup=False)


@click.command(
    cls=Command, short_help="Time every method on this machine.",
    example="skip2lora bench --rounds 3",
)  # fmt: skip
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option(
    "--widths", metavar="LIST", callback=shared.widths("256,96,96,3"),
    help="Without MODEL: features, hidden, outputs.  [default: 256,96,96,3]",
)  # fmt: skip
@click.option(
    "--samples",
    type=int,
    help=f"Random samples.  [default: {N_SAMPLES}; .onnx, .tflite: {N_SAMPLES_ELSEWHERE}]",
)
@click.option("--batch-size", default=20, show_default=True)
@click.option("--rank", default=4, show_default=True, help="Rank of each adapter.")
@click.option("--rounds", default=5, show_default=True, help="Measurements of each number.")
@click.option("--seed", default=0, show_default=True, help="Seed of all that is random.")
@shared.output_name
@shared.mask
@shared.as_json
def command(
    model: Path | None, output_name: str | None, mask: str | None, widths: list[int],
    samples: int | None,
    rounds: int, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Time all methods, the cache fill and predictions on random samples, one thread.

    The network is MODEL, or a fresh one of --widths. Of a .onnx or .tflite the one method on cached
    rows is timed, as the others train through the network or run it with every batch; sizes of its
    samples that it leaves open are 64. GFLOP/s are the floating-point operations of the paper's
    compute types (skip2lora paper table1) over the time of a batch, and stand beside the rate of
    multiply-adds that one core reaches here.
    """
    with bars.rounds_bar("bench", rounds) as callback:
        result = run_bench(
            _model(model, widths, options["seed"], output_name, mask),
            n_samples=samples, rounds=rounds, callback=callback, **options,
        )  # fmt: skip
    if as_json:
        facts = asdict(result) | {"cache_fill_us_a_sample": result.cache_fill_us_a_sample}
        common.show(facts, [], as_json=True)
        return
    _print(result)
