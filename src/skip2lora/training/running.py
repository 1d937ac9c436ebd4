"""What stands in for a model while it is adapted: what keeps its rows, what tells progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from skip2lora.adapters.cached import rows_kept_in
from skip2lora.adapters.store import CacheFolder
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.standins import Watched, over, runs
from skip2lora.errors import ParameterError
from skip2lora.tasks.task import Goal
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import Trained
from skip2lora.training.options import Options, method_of
from skip2lora.training.rehearsal import OldSamples, rehearse
from skip2lora.training.watch import Watch

#: Called with how many of something were done so far, and of how many.
Progress = Callable[[int, int], None]


def folder_of(options: dict[str, Any]) -> tuple[CacheFolder | None, dict[str, Any]]:
    """The folder that ``options["cache"]`` is, if it is one, and options that know nothing of it.

    Raises:
        ParameterError: the method changes what would be kept.
    """
    folder = options["cache"]
    if not isinstance(folder, CacheFolder):
        return None, options
    if not method_of(options["method"]).skip:
        raise ParameterError(
            f"cache is a folder with method {options['method']}, which trains through the network, "
            "expected one of skip adapters: use skip2-lora, or leave cache= out"
        )
    return folder, options | {"cache": None}


def run(
    model: Backbone,
    part: CheckedSamples,
    options: Options,
    *,
    old: OldSamples | None,
    folder: CacheFolder | None,
    given: Mapping[str, Any],
    goal: Goal,
    watch: Watch,
) -> Trained:
    """As :func:`rehearse`; rows of ``model`` are kept in ``folder``, if there is one, to its end.

    ``given`` are keywords of :func:`skip2lora.adapt`: ``images``, ``progress``, ``suspects``.

    Raises:
        FileError, ModelError: the folder cannot be used, or is of other rows.
        ParameterError: the rows of ``model`` change with the samples.
    """
    progress, filling = given["progress"], None
    with ExitStack() as stack:
        if folder is not None or progress is not None:
            base, own_old = runs(model), old is not None and old.model is model
            if folder is not None:
                base, filling = stack.enter_context(rows_kept_in(folder, base, given["images"]))
            if progress is not None and base.network is None:  # which says nothing and is fast
                base = Watched(base, _counter(part, old if own_old else None, progress))
            model = over(model, base)
            if old is not None and own_old:
                old = replace(old, model=model)
        done = rehearse(
            model, part, options, old=old, goal=goal, watch=watch, suspects=given["suspects"]
        )
    if filling is None:
        return done
    return replace(done, history=replace(done.history, n_forwards=filling.n_computed))


def _counter(
    part: CheckedSamples, old: OldSamples | None, progress: Progress
) -> Callable[[int], None]:
    """What tells ``progress`` of samples that pass, the ``old`` ones and validation among them."""
    total = len(part.y) + (0 if old is None else len(old))
    total, n_seen = total + (0 if part.validation is None else len(part.validation.y)), 0

    def seen(count: int) -> None:
        nonlocal n_seen
        if n_seen < total:  # without a cache they pass again
            n_seen = min(n_seen + count, total)
            progress(n_seen, total)

    return seen
