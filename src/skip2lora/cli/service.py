"""What ``serve`` and ``plan --serve`` share: limits as options; and a plan for a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from skip2lora.cli import common
from skip2lora.data.sound_options import Sound
from skip2lora.serve.limits import Limits
from skip2lora.serve.planned import ServicePlan, request_limits

#: Of :class:`Limits`, what depends on the place.
LIMITS = {
    "learn": "So many first samples say what is normal: all that happens on a good day.",
    "unlabelled": "Samples without a label that are kept.",
    "labelled": "Samples with one that are kept, the newest.",
    "per_second": "Samples a second that are kept, in the mean; all are predicted.",
    "versions": "Versions that are kept.",
}

lab_set = click.option(
    "--lab-set", type=click.Path(path_type=Path), metavar="FILE",
    help="Samples of the old domain to keep.  [default: those beside MODEL]",
)  # fmt: skip

_SOUND = {
    "rate": click.option(
        "--rate", type=float, metavar="HZ",
        help="Samples of sound a second that MODEL takes.  [default: the adapter's]",
    ),
    "window": click.option(
        "--window", metavar="LENGTH",
        help="Seconds of sound, where MODEL takes any.  [default: the adapter's]",
    ),
    "gain": click.option(
        "--gain", type=float, help="Of sound, which is from -1 to 1.  [default: the adapter's]"
    ),
}  # fmt: skip


def sound_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--rate``, ``--window`` and ``--gain``, for recordings that come as files."""
    for option in reversed(_SOUND.values()):
        command = option(command)
    return command


def sound_of(options: Mapping[str, Any]) -> Sound | None:
    """How recordings become samples, as it was typed; None where nothing was.

    Raises:
        ParameterError: one cannot be read, or is out of range.
    """
    given = {name: options[name] for name in _SOUND if options[name] is not None}
    return Sound.parse(**given) if given else None


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each of these."""
    for name, text in reversed(LIMITS.items()):
        option = f"--{name.replace('_', '-')}"
        default = vars(Limits())[name]
        command = click.option(
            option, type=int, metavar="N", help=f"{text}  [default: {default:,}]"
        )(command)
    return command


def limits_of(options: Mapping[str, Any]) -> Limits:
    """As they were typed.

    Raises:
        ParameterError: one is out of range.
    """
    return Limits(**{name: options[name] for name in LIMITS if options[name] is not None})


def plan_facts(planned: ServicePlan) -> dict[str, Any]:
    """Ready for JSON."""
    facts, memory, disk = asdict(planned), planned.memory, planned.disk
    facts["memory"] |= {
        "idle_bytes": memory.idle_bytes, "peak_bytes": memory.peak_bytes,
        "most_bytes": memory.most_bytes,
    }  # fmt: skip
    facts["disk"] |= {"total_bytes": disk.total_bytes}
    return facts | {"fits": planned.fits, "requests": request_limits()}


def plan_lines(model: Path, planned: ServicePlan) -> list[str]:
    """For a person."""
    return [
        f"{model}: a service at its limits",
        *_limit_lines(planned),
        *_memory_lines(planned),
        *_disk_lines(planned),
    ]


def _limit_lines(planned: ServicePlan) -> list[str]:
    limits, of, size = planned.limits, request_limits(), common.size
    fewer = ""
    if planned.n_unlabelled < limits.unlabelled:
        fewer = f", fewer than {limits.unlabelled:,} as they are large"
    return [
        "limits",
        f"  normal           learned from {limits.learn:,} samples",
        f"  unlabelled       {planned.n_unlabelled:,} samples{fewer}: the newest half, and the "
        "least sure",
        f"  labelled         {limits.labelled:,} samples, the newest; all labels stay",
        f"  kept             {limits.per_second:,} samples a second in the mean, all are "
        f"predicted; {limits.pending:,} or {size(limits.pending_bytes)} wait for the disk",
        f"  one sample       kept up to {size(limits.sample_bytes)}, its row always",
        f"  asked for        {limits.first_batch:,} first, then {limits.batch:,} at a time, among "
        f"{limits.candidates:,} or {size(limits.candidates_bytes)}",
        f"  versions         {limits.versions:,}, the one in use and the one before; "
        f"{limits.events:,} events; records of {limits.records:,} that were never in use",
        f"  a request        {size(of['request_bytes'])} within {of['request_seconds']:g} s, "
        f"{of['labels_a_request']:,} labels or {of['samples_a_request']:,} listed samples",
        f"  an address       {of['requests_per_second']:g} requests a second and "
        f"{of['wrong_tokens_a_minute']} wrong tokens a minute; no limit on this machine's own",
        f"  connections      {of['connections']:,}; {of['samples_together']:,} samples one pass",
        f"  MQTT             {of['mqtt_waiting']:,} messages or "
        f"{size(of['mqtt_waiting_bytes'])} wait, each up to {size(of['mqtt_bytes'])}",
    ]


def _memory_lines(planned: ServicePlan) -> list[str]:
    memory, size = planned.memory, common.size
    fits = "it fits" if planned.fits else "it does not fit"
    if not planned.fits and planned.n_labelled_that_fit:
        fits += f"; with --labelled {planned.n_labelled_that_fit} it does"
    lab = f" and {planned.n_lab_rows:,} of the lab set" if planned.n_lab_rows else ""
    return [
        "memory",
        f"  process          {size(memory.process_bytes)} with the model, once all of it has run",
        f"  learner          {size(memory.learner_bytes)}, a process that waits",
        f"  database         {size(memory.database_bytes)}, newest events "
        f"{size(memory.events_bytes)}",
        f"  predicting       {size(memory.predicting_bytes)}, watching for change "
        f"{size(memory.watching_bytes)}",
        f"  idle             about {size(memory.idle_bytes)}",
        f"  asking           {size(memory.asking_bytes)} more",
        f"  learning         {size(memory.learning_bytes)} more, from "
        f"{planned.limits.labelled:,} labels{lab}",
        f"  peak             about {size(memory.peak_bytes)}, and "
        f"{size(memory.waiting_bytes)} while the disk refuses; requests come on top",
        f"  may have         {size(planned.limit_bytes)}: {fits}",
    ]


def _disk_lines(planned: ServicePlan) -> list[str]:
    disk, size = planned.disk, common.size
    return [
        "disk",
        f"  samples          {size(disk.unlabelled_bytes)} unlabelled, "
        f"{size(disk.labelled_bytes)} labelled, {size(disk.bytes_a_sample)} each",
        f"  labels           {size(disk.labels_bytes)}, and {disk.bytes_a_label} bytes for each "
        "whose sample is gone",
        f"  versions         {size(disk.versions_bytes)}, events {size(disk.events_bytes)}",
        f"  log              {size(disk.log_bytes)} at most",
        f"  in all           {size(disk.total_bytes)}",
    ]
