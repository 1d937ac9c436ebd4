"""``skip2lora adapt``: model and field data to an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from skip2lora import _core
from skip2lora.adapt import adapt, adapt_and_measure
from skip2lora.adapted import RESULT_FILES, AdaptedModel
from skip2lora.arrays import listing
from skip2lora.backbones.standins import Headless
from skip2lora.cli import bars, common, power
from skip2lora.cli import options as shared
from skip2lora.cli.common import read_for, read_to_validate
from skip2lora.cli.help import Command
from skip2lora.cli.learning import (
    cache_beside,
    cache_of,
    check_data,
    check_no_sensors,
    earlier_of,
    files_known_to,
    going_on,
    groups_of,
    keep_of,
    kept_facts,
    loaded,
    n_learned,
    outputs_of,
    read_all,
    rows_lines,
    way_facts,
    within,
)
from skip2lora.cli.measures import chosen_facts, chosen_lines, measures_line
from skip2lora.cli.media import grouped, media_of, media_options, names_groups
from skip2lora.cli.options import training_options
from skip2lora.errors import ParameterError
from skip2lora.files import check_output, holding
from skip2lora.tasks.task import TASKS, Measures, Outputs, Task
from skip2lora.tasks.thresholds import check_precision
from skip2lora.training.budget import CacheUse
from skip2lora.training.fit import Fit
from skip2lora.training.held_out import HeldOut
from skip2lora.training.rehearsal import LAB_SET_SUFFIX, lab_set_beside
from skip2lora.training.room import Choice
from skip2lora.training.suspects import write_suspects


@click.command(
    cls=Command, short_help="Fit to field data.",
    example="skip2lora adapt fan.safetensors fan/finetune.npz -o adapter",
)  # fmt: skip
@shared.model_argument
@click.argument("data", nargs=-1, type=click.Path(path_type=Path))
@shared.task(None, "What is learned. Default: numbers where MODEL gives these, else classes.")
@shared.columns
@shared.class_names
@shared.weights
@training_options(adapt)
@shared.memory
@click.option("--new-classes", is_flag=True, help="Learn labels that MODEL does not know.")
@shared.keep_outputs
@shared.sure
@click.option(
    "--keep",
    metavar="OLD",
    type=click.Path(path_type=Path),
    help="Samples of the old domain, learned too, so that it is kept: as DATA, or a lab set. "
    "Default: the lab set beside MODEL, if any.",
)
@click.option(
    "--keep-weight", type=float,
    help="How many new samples an old one counts as. Default: such that both domains count alike.",
)  # fmt: skip
@click.option("--no-lab-set", is_flag=True, help="Leave the lab set beside MODEL.")
@click.option(
    "--suspects",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the labels that samples held out contradict, the surest first, as .csv.",
)
@click.option(
    "--group", metavar="COLUMN",
    help="Who or what a sample is of, a column or array of DATA: held out whole, never a feature.",
)  # fmt: skip
@click.option(
    "--validation-data", metavar="DATA", type=click.Path(path_type=Path),
    help="Labelled samples to judge by, which are not trained on.",
)  # fmt: skip
@click.option(
    "--cache-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder that keeps what MODEL computed of each sample, so that later runs, whatever their "
    "options, compute new samples alone.",
)
@shared.taps
@shared.grid
@shared.threads
@shared.output_name
@shared.mask
@shared.checkpoint
@click.option("--power", "with_power", is_flag=True, help="Power, temperature, clock meanwhile.")
@power.sensor_options
@going_on
@shared.output(
    "The adapter, a folder. Default: that of --continue.", metavar="FOLDER", needed=False
)
@shared.force
@media_options
@shared.as_json
def command(
    model: Path,
    data: tuple[Path, ...],
    output: Path | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Fit MODEL to the labelled samples in DATA and write the result.

    MODEL stays as it is. The folder holds an adapter, or model.safetensors for a method that
    changes the network (ft-...). Nothing is to be set: the recipe auto chooses all of "Training in
    detail" by samples held out. Setting any of it means training by steps, or the exact solver.
    """
    place = check_data(data, options, output)
    check_output(place, force=force or place == options["continue_from"], names=RESULT_FILES)
    sensors = {name: options.pop(name) for name in ("i2c", "shunt_ohms")}
    meter = None
    if options.pop("with_power"):
        meter = power.PowerMeter(power.sensors_for(**sensors))
    elif any(value is not None for value in sensors.values()):
        check_no_sensors(**sensors)
    old, recipe, weights, suspects = (
        options[name] for name in ("keep", "recipe", "class_weight", "suspects")
    )
    precision = options.pop("precision")
    if precision is not None:
        check_precision(precision)
    if suspects is not None:
        check_output(suspects, force=force)
    options["checkpoint"] = shared.checkpoint_of(options)
    with holding(place):
        adapted, fit, samples, way = _adapted(model, data, place, meter, **options)
        if precision is not None:
            adapted = adapted.with_thresholds(precision)
        adapted.save(place)
    if suspects is not None and samples is not None:
        write_suspects(suspects, fit.suspects or (), samples.files, samples.aside.get("row"))
    facts = _facts(adapted, fit, n_learned(adapted, samples), old)
    facts |= {"kept": kept_facts(adapted, place), **way_facts(way, options)}
    facts["thresholds"] = None
    if adapted.thresholds is not None:
        titles = Outputs.of(adapted, adapted.learned).titles
        facts["thresholds"] = chosen_facts(adapted.thresholds, titles)
    facts = {"recipe": "auto" if facts["tried"] else recipe, **facts}
    facts["suspects"] = suspect_facts(suspects, fit)
    lines = _lines(place, adapted, fit, facts)
    lines += rows_lines(facts, place, options["cache_dir"])
    if weights is not None:
        lines.append(_balance_line(fit))
    if meter is not None:
        facts["power"] = meter.facts()
        lines += power.lines_of(facts["power"])
    common.show({"output": str(place), **facts}, lines, as_json=as_json)


def _adapted(
    model: Path,
    data: Sequence[Path],
    place: Path,
    meter: power.PowerMeter | None,
    *,
    class_names: tuple[str, ...] | None,
    **options: Any,
) -> tuple[AdaptedModel, Fit, common.EncodedSamples | None, Choice | None]:
    """The result, the samples, and how a limit of memory is met, if there is one.

    ``options`` are ``adapt``'s, and those of loading.
    """
    keep_outputs, before = options["keep_outputs"], options.pop("continue_from")
    if class_names is not None and not keep_outputs:
        raise ParameterError(
            f"--class-names is {listing(class_names)} with --no-keep-outputs, expected one of "
            "them, as it leaves the outputs of MODEL out: leave one out"
        )
    first = data[0] if data else None
    images = media_of(options, first, beside="group")
    earlier = None if before is None else earlier_of(model, before, options)
    backbone, learned = loaded(model, earlier, class_names, images, options)
    columns = common.columns_of(options, "train")
    images, group = grouped(images, options.pop("group"), earlier or backbone, first)
    options["cache"] = cache_of(options.pop("cache_dir"), options["cache"])
    of_new = columns | files_known_to(options["cache"])
    if group is not None:
        of_new |= {"aside": columns.get("aside", {}) | {"group": group}}
    outputs, anew = outputs_of(earlier, backbone, learned, options)
    read = partial(
        read_for, earlier or backbone, task=learned, images=images, new_classes=anew,
        outputs=outputs, in_order=outputs.in_order or class_names is not None,
    )  # fmt: skip
    samples = read_all(data, read, of_new)
    beside = options.pop("validation_data")
    if beside is not None and samples is not None:
        beside = read_to_validate(backbone, beside, columns=columns, like=samples, task=learned)
    if options["cache"] is None and options["keep_rows"]:
        options["cache"] = cache_beside(place, backbone)
    limit, way = options.pop("memory"), None
    if limit is not None:
        way = within(limit, backbone, None if earlier else samples, options)
        options |= way.options
    keep = keep_of(backbone, learned, images, columns, options)
    saved = None
    if samples is not None and samples.images is not None and earlier is None:
        saved = samples.images.resolved(backbone.inputs)
    aside = {} if samples is None else samples.aside
    groups = groups_of(samples, options, beside, named=bool(group) or names_groups(images))
    watching = nullcontext() if meter is None else meter.watching()
    with bars.adapting_bars() as (progress, callback), watching:
        adapted, fit = adapt_and_measure(
            earlier or backbone, () if samples is None else samples.x,
            () if samples is None else samples.answers,
            output_names=class_names, images=saved,
            columns=None if samples is None else samples.columns, callback=callback,
            progress=progress, groups=groups, validation_data=beside,
            suspects=options.pop("suspects") is not None,
            sample_weight=aside.get("weight"), keep=keep, **options,
        )  # fmt: skip
    return adapted, fit, samples, way


def _facts(adapted: AdaptedModel, fit: Fit, n_samples: int, old: Path | None) -> dict[str, Any]:
    timing, history = adapted.timing, adapted.history
    if timing is None or history is None:  # adapt() always sets them
        raise RuntimeError("adapt gave no history")
    of_old = None
    if fit.old is not None:
        source = old or lab_set_beside(adapted.base.path or "")
        of_old = {"lab_set": str(source) if source.suffix == LAB_SET_SUFFIX else None}
        of_old |= _fit_facts(fit.old)
    return {
        "method": adapted.method,
        "task": adapted.task,
        "n_outputs": adapted.n_outputs,
        **fit.on_all.overall,
        **_fit_facts(fit),
        "old": of_old,
        "n_samples": n_samples,
        "timing": asdict(timing),
        "n_batches": history.n_batches,
        "n_forwards": history.n_forwards,
        "best_epoch": history.best_epoch,
        "tried": [asdict(each) for each in history.tried],
        "solver": history.solver,
        "penalty": history.penalty,
        "iterations": history.iterations,
        "rank_loss": history.rank_loss,
        "held_out": None if history.held_out is None else asdict(history.held_out),
        "trainable_parameters": adapted.trainable_parameters,
        "cache": None if history.cache is None else _cache_facts(history.cache),
        "cache_bytes": adapted.cache_bytes,
        "cache_overhead_bytes": adapted.cache_overhead_bytes,
        "kernels": _core.kernels(),
    }


def _cache_facts(use: CacheUse) -> dict[str, Any]:
    return asdict(use) | {"forwards_saved": use.forwards_saved}


def _of_cache(use: dict[str, Any] | None) -> str:
    """What a cache that is too small for all rows saved."""
    if use is None or not (use["on_disk"] or 0 < use["capacity"] < use["n_samples"]):
        return ""
    if use["on_disk"]:
        return (
            f", rows of {use['capacity']:,} of {use['n_samples']:,} samples, "
            f"{use['misses']:,} read from the folder"
        )
    share = use["hits"] / max(1, use["hits"] + use["misses"])
    return (
        f", rows of {use['capacity']:,} of {use['n_samples']:,} samples, policy {use['policy']}: "
        f"{use['hits']:,} hits, {use['misses']:,} misses, {use['forwards_saved']:,} forward passes "
        f"saved ({common.percent(share)})"
    )


def _fit_facts(fit: Fit) -> dict[str, Any]:
    return {
        "before": None if fit.before is None else fit.before.overall,
        "after": fit.after.overall,
        "measured_on": "held-out" if fit.held_out else "training",
        "n_measured": fit.n_measured,
    }


def _lines(output: Path, adapted: AdaptedModel, fit: Fit, facts: dict[str, Any]) -> list[str]:
    timing, learned = facts["timing"], TASKS[adapted.task]
    anew = isinstance(adapted.backbone, Headless)
    total, fill = common.duration(timing["total_ms"]), common.duration(timing["cache_fill_ms"])
    training = common.duration(timing["training_ms"])
    return [
        f"{output}: {adapted.method}, {facts['trainable_parameters']:,} trainable parameters"
        + (f", outputs learned anew: {facts['n_outputs']:,}" if anew else ""),
        f"{facts['n_samples']:,} samples, {_work(facts)} in {total} (cache fill "
        f"{fill}, training {training}), {facts['kernels']} kernels",
        f"cache {adapted.cache_bytes / 1024:,.0f} KiB" + _of_cache(facts["cache"]),
        *([] if facts["penalty"] is None else _exact_lines(facts)),
        *_auto_lines(facts),
        _fit_line(learned, fit),
        *_old_lines(learned, fit.old, facts["old"], known=fit.before is not None),
        *_suspect_lines(facts["suspects"]),
        *([] if facts["thresholds"] is None else chosen_lines(facts["thresholds"])),
    ]


def suspect_facts(path: Path | None, fit: Fit) -> dict[str, Any]:
    """Where suspects were written, if they were, and how many there are, for ``--json``."""
    return {
        "output": None if path is None else str(path),
        "count": None if fit.suspects is None else len(fit.suspects),
    }


def _suspect_lines(facts: dict[str, Any]) -> list[str]:
    if facts["output"] is None:
        return []
    count = facts["count"]
    if count is None:
        return [f"{facts['output']}: no label, as no sample could be held out to contradict one"]
    return [
        f"{facts['output']}: {count:,} label{'s' * (count != 1)} that samples held out contradict"
    ]


def _old_lines(
    learned: Task, fit: Fit | None, facts: dict[str, Any] | None, *, known: bool
) -> list[str]:
    """Of the old domain; ``known`` says that the model was made for one."""
    if fit is None or facts is None:
        return ["old domain: no samples of it, so it may be forgotten: see --keep"] * known
    source = "" if facts["lab_set"] is None else f" (lab set {facts['lab_set']})"
    return [f"old domain{source}: {_fit_line(learned, fit)}"]


def _fit_line(learned: Task, fit: Fit) -> str:
    """How good the model was before and is after, and on which samples."""
    before = "the model alone has no such outputs"
    if fit.before is not None:
        before = f"before {measures_line(learned, fit.before)}"
    return (
        f"{before}, after {measures_line(learned, fit.after)}, on "
        + (f"{fit.n_measured:,} held-out" if fit.held_out else f"the {fit.n_measured:,} training")
        + f" sample{'s' * (fit.n_measured != 1)}"
    )


def _balance_line(fit: Fit) -> str:
    """What weights of classes are for: accuracy alone counts the common classes."""

    def mean(scores: Measures) -> str:
        return common.percent(sum(of["accuracy"] for of in scores.parts) / len(scores.parts))

    before = "" if fit.before is None else f"before {mean(fit.before)}, "
    return f"balanced accuracy (every class counts the same) {before}after {mean(fit.after)}"


def _work(facts: dict[str, Any]) -> str:
    if facts["solver"] == "exact":
        return f"solved exactly, {facts['iterations']:,} iterations"
    return f"{facts['n_batches']:,} batches"


def _auto_lines(facts: dict[str, Any]) -> list[str]:
    """Of the recipe auto: what to expect of other samples, and what it consists of."""
    held, tried = facts["held_out"], facts["tried"]
    if facts["recipe"] != "auto":
        return []
    if held is None:
        return ["no sample could be held out: how good it is on others is not known"]
    mix = ", ".join(f"{each['weight']:.2f} {each['name']}" for each in tried if each["weight"])
    of = f"mix {mix}" if len(tried) > 1 else f"learned from {tried[0]['name']}"
    return [f"held-out {HeldOut(**held)}", of, *held["notes"]]


def _exact_lines(facts: dict[str, Any]) -> list[str]:
    """The penalty, what samples held out say of it, and what a smaller rank costs."""
    held, line = facts["held_out"], f"penalty {facts['penalty']:g}"
    if held is not None:
        line += f", held-out {HeldOut(**held)}"
    lost = facts["rank_loss"]
    return [line, *([] if lost is None else [f"the smaller rank adds {lost:.4g} to the loss"])]
