"""Help for those who type: options under headings, an example a command, words nearly right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import click

from skip2lora.training.options import OPTIONS

_GENERAL = ("recipe", "validation", "seed")
#: Headings of ``--help`` and the parameters under them, in this order. A test holds that every
#: option of every command stands under one.
HEADINGS: dict[str, tuple[str, ...]] = {
    "What DATA holds": (
        "task", "tasks", "target", "no_target", "ignore", "weight", "group", "split",
        "class_names", "source", "data", "validation_data", "samples", "size", "mean", "std",
        "every", "segments", "confidence", "category", "margin", "square", "rate", "window", "hop",
        "crop", "gain", "channels", "features", "time", "label_by", "mixed", "target_of",
    ),
    "How MODEL is used": (
        "adapter", "output_name", "mask", "keep_outputs", "taps", "grid", "threads", "n_outputs",
        "lab_set",
    ),
    "Training": (
        "hidden", "batch_norm", *_GENERAL, "class_weight", "new_classes", "keep", "keep_weight",
        "no_lab_set", "suspects", "cache_dir", "shard", "engine", "memory", "widths", "net",
        "rounds", "trials", "tinytl",
    ),
    "Training in detail": tuple(name for name in OPTIONS if name not in _GENERAL),
    "Merging": ("shares",),
    "The service": (
        "field", "serve", "store", "name", "host", "port", "mqtt", "watch", "approve", "new_token",
        "print_unit", "learn", "unlabelled", "labelled", "per_second", "versions", "seconds",
        "stay",
    ),
    "On a board": ("blob", "taps_only", "weights", "capacity", "when_full"),
    "Stopped and going on": (
        "checkpoint", "checkpoint_every", "resume", "keep_rows", "continue_from", "forget", "undo",
        "restore",
    ),
    "Power": ("with_power", "idle_s", "i2c", "shunt_ohms"),
    "Result": (
        "threshold", "threshold_data", "precision", "following", "kind", "output", "out", "force",
        "as_json",
    ),
}  # fmt: skip
#: What others call an option of ours.
_SYNONYMS = {
    "annotations": "segments", "answers": "target", "batch": "batch-size", "boxes": "segments",
    "bs": "batch-size", "cores": "threads", "crops": "segments", "dest": "output",
    "detections": "segments", "iterations": "epochs", "jobs": "threads", "labels": "target",
    "layers": "taps", "lora-rank": "rank", "lr": "learning-rate", "n-jobs": "threads",
    "num-epochs": "epochs", "out": "output", "overwrite": "force", "r": "rank",
    "random-state": "seed", "resize": "size", "sample-weight": "weight",
    "scale": "standardize",
    "step-size": "learning-rate", "val": "validation", "val-split": "validation",
    "workers": "threads", "y": "target", "yes": "force",
}  # fmt: skip
_COMMAND_SYNONYMS = {
    "benchmark": "bench", "convert": "export", "data": "dataset", "describe": "inspect",
    "download": "dataset", "eval": "evaluate", "fetch": "dataset", "finetune": "adapt",
    "fine-tune": "adapt", "fit": "adapt", "info": "inspect", "infer": "predict",
    "learn": "adapt", "score": "evaluate", "show": "inspect", "test": "evaluate",
    "train": "adapt",
}  # fmt: skip


class Command(click.Command):
    """A command with an example, and its options under :data:`HEADINGS`."""

    def __init__(self, *args: Any, example: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.example = example

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write an example, then the options, those of one heading together."""
        with formatter.section("Example"):
            formatter.write_text(self.example)
        records = {
            str(each.name): row
            for each in self.get_params(ctx)
            if isinstance(each, click.Option) and (row := each.get_help_record(ctx)) is not None
        }
        sections = [
            (heading, [*filter(records.__contains__, names)]) for heading, names in HEADINGS.items()
        ]
        listed = {name for _, names in sections for name in names}
        for heading, names in (*sections, ("Others", [*records.keys() - listed])):
            if names:
                with formatter.section(heading):
                    formatter.write_dl([records[name] for name in names])


def complaint(error: click.ClickException) -> str:
    """One line for what was typed wrongly: what is wrong with it, and what to do."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = "skip2lora" if context is None else context.command_path
    if isinstance(error, click.NoSuchOption) and context is not None:
        options = [
            word.lstrip("-")
            for each in context.command.get_params(context)
            for word in (*each.opts, *each.secondary_opts)
            if word.startswith("--")
        ]
        near = _near(error.option_name.lstrip("-"), options, _SYNONYMS)
        shown = " or ".join(f"--{word}" for word in near) or "one that it has"
        return f"{error.option_name} is no option of {path}, expected {shown}: see {path} --help"
    if isinstance(error, UnknownCommand):
        return error.message
    return f"{error.format_message()} See {path} --help."


class UnknownCommand(click.UsageError):
    """What was typed is none of ``commands``."""

    def __init__(self, name: str, commands: Iterable[str], ctx: click.Context) -> None:
        near = " or ".join(_near(name, list(commands), _COMMAND_SYNONYMS)) or "one that it has"
        super().__init__(
            f"{name} is no command of skip2lora, expected {near}: see skip2lora --help", ctx
        )


def _near(word: str, words: list[str], synonyms: dict[str, str]) -> list[str]:
    """Those of ``words`` that may be meant, at most three, what is surest first."""
    meant = synonyms.get(word.lower().replace("_", "-"))
    near = [meant] if meant in words else []
    near += get_close_matches(word.replace("_", "-"), words, cutoff=0.7)
    return list(dict.fromkeys(near))[:3]
