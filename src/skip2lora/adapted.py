"""An adapted model: a base model with adapters, or changed; saved as a folder and read again."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.adapters import Adapters, LayerAdapters, Result, SkipAdapters, TunedNetwork
from skip2lora.adapters.folder import (
    TENSORS_FILE,
    AdapterConfig,
    Tapping,
    adapter_files,
    read_adapter,
)
from skip2lora.adapters.kept import Kept
from skip2lora.arrays import SamplesLike
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.backbones.field_mlp import FieldMLP, field_statistics
from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.loading import CONFIG_FILE
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.said import Said
from skip2lora.backbones.standins import Headless, StandIn, for_task
from skip2lora.data.media import Media
from skip2lora.errors import ModelError, ParameterError, brief
from skip2lora.files import Tensors, write_files
from skip2lora.methods import METHODS
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.predictor import Predictor
from skip2lora.tasks.task import CLASSIFICATION, TASKS, NewLabels
from skip2lora.tasks.thresholds import Thresholds
from skip2lora.training.fit import Fit
from skip2lora.training.loop import History, Timing

MODEL_FILE = "model.safetensors"
RESULT_FILES = (CONFIG_FILE, TENSORS_FILE, MODEL_FILE)


@dataclass(frozen=True, eq=False)
class AdaptedModel(Predictor):
    """A model adapted to field data: with adapters, or changed (the ``ft-`` methods).

    ``history``, ``timing`` and ``fit`` are None, and the byte counts 0, for an adapter that was
    loaded. ``fit`` says how good the model was on the samples and how good it is now, from the rows
    in the cache; it is None of methods that keep none.
    ``adapters`` is a ``TunedNetwork`` where the network was changed.
    ``new_labels`` are those of the outputs that the base model does not have. ``output_names`` name
    the outputs of a base model without names, or the numbers that are learned. ``images`` is how
    images became the samples, ``columns`` are those of a table, matched by name. ``backbone`` is a
    ``Headless`` model where the base model's own outputs are left out. ``memory`` is what is kept
    of the samples to go on from, ``path`` the folder that an adapter was loaded from.
    ``thresholds`` are least probabilities that predictions go by.
    """

    backbone: Backbone
    adapters: Result
    method: str
    history: History | None = None
    timing: Timing | None = None
    cache_bytes: int = 0
    cache_overhead_bytes: int = 0
    task: str = CLASSIFICATION.name
    new_labels: NewLabels = ()
    output_names: tuple[str, ...] | None = None
    images: Media | None = None
    fit: Fit | None = None
    columns: Columns = field(default_factory=Columns)
    memory: Kept | None = None
    path: Path | None = None
    thresholds: Thresholds | None = None

    def __repr__(self) -> str:
        return (
            f"AdaptedModel({self.base!r}, {self.method}, rank {self.adapters.rank}, "
            f"{self.trainable_parameters:,} trained numbers, {self.n_outputs} outputs)"
        )

    def _repr_html_(self) -> str:
        """The small table that a notebook shows."""
        facts = {
            "base model": repr(self.base), "task": self.task, "outputs": self.n_outputs,
            "method": self.method, "rank": self.adapters.rank,
            "trained numbers": f"{self.trainable_parameters:,}",
        }  # fmt: skip
        if self.timing is not None:
            facts["cache"] = f"{self.cache_bytes / 1024:,.0f} KiB"
            facts["time to adapt"] = f"{self.timing.total_ms:,.1f} ms"
        rows = "".join(
            f"<tr><th>{name}</th><td>{html.escape(str(fact))}</td></tr>"
            for name, fact in facts.items()
        )
        return f"<table>{rows}</table>"

    @property
    def base(self) -> Backbone:
        """The base model with its own outputs, kept or not."""
        return self.backbone.base

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What a sample consists of."""
        return self.backbone.inputs

    @property
    def n_outputs(self) -> int:
        """Number of classes, or of numbers."""
        return self.backbone.n_outputs + len(self.new_labels)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The name of each output, None where they have none."""
        names = self._names
        if names is None and not self._has_new_names:
            return None
        known = names or map(str, range(self.backbone.n_outputs))
        return (*known, *map(str, self.new_labels))

    @property
    def class_numbers(self) -> NDArray[np.int64]:
        """The number of each output: its place, or for a new one its label, unless a name."""
        if self._has_new_names:
            return np.arange(self.n_outputs)
        return np.array([*range(self.backbone.n_outputs), *self.new_labels], np.int64)

    @property
    def _has_new_names(self) -> bool:
        return bool(self.new_labels) and isinstance(self.new_labels[0], str)

    @property
    def _names(self) -> tuple[str, ...] | None:
        """Names of the base model's outputs; classes have none to do with numbers."""
        if self.output_names is not None or self.task == "regression":
            return self.output_names
        return self.backbone.class_names

    @property
    def said(self) -> Said:
        """What an exported file is to say of it: ``export_onnx(description=model.said.entries())``.

        Loaded as a model, the file then answers as this one does.
        """
        numbers = self.class_numbers.tolist()
        plain = numbers == list(range(self.n_outputs))
        return Said(
            task=self.task, class_names=self.class_names,
            class_numbers=None if plain else tuple(numbers), thresholds=self.thresholds,
            columns=self.columns, images=self.images,
        )  # fmt: skip

    @property
    def trainable_parameters(self) -> int:
        """Numbers that were trained."""
        return self.adapters.n_parameters

    def logits(self, x: SamplesLike) -> NDArray[np.float32]:
        """Eq. 17: base logits plus what the adapters add, (samples, n_outputs).

        Raises:
            DataError: samples the model cannot take.
        """
        return self.adapters.logits(self.backbone, self.backbone.check(self.columns.take(x)))

    def with_thresholds(self, precision: float = 0.95) -> Self:
        """The same, which predicts a class only where it is so sure that this share is right.

        The least probability of each output is chosen on answers held out while it was adapted, by
        models that did not learn them: whole groups, where groups were given. An output with fewer
        than 10 samples held out gets none. They are kept by :meth:`save`.

        Raises:
            ParameterError: ``precision`` is no share, the outputs are numbers, the network itself
                was changed, or nothing was held out.
        """
        held = None if self.fit is None else self.fit.answers
        if isinstance(self.adapters, TunedNetwork) or held is None:
            raise ParameterError(
                f"precision= is {precision}, and no answers to samples held out are there, "
                "expected some to choose thresholds on: adapt with validation=0.25 or "
                "validation_data="
            )
        chosen = Thresholds.of(self.learned, held.logits, held.y, precision)
        return replace(self, thresholds=chosen)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result as a folder, whole or not at all.

        It holds ``adapter_model.safetensors`` and ``adapter_config.json``, or ``model.safetensors``
        of a method that changes the network. Equal training gives equal bytes. An earlier result
        of that name is replaced. What is kept of the samples goes beside it, into ``path.rows``.

        Raises:
            FileError: the system refused, or the path is something else than such a folder.
        """
        files = self.files()
        if self.memory is not None:
            self.memory.save(path, files)
        write_files(path, files, names=RESULT_FILES)
        if self.memory is not None:
            self.memory.forget(path)

    def files(self) -> dict[str, bytes]:
        """The files of the folder that :meth:`save` writes, by name."""
        adapters = self.adapters
        if isinstance(adapters, TunedNetwork):
            return {MODEL_FILE: replace(adapters.model, columns=self.columns).to_bytes()}
        return self._files(adapters)

    def _files(self, adapters: Adapters) -> dict[str, bytes]:
        n_outputs, rank = self.n_outputs, adapters.rank
        tensors = adapters.tensors()
        if isinstance(self.backbone, StandIn | FieldMLP):
            tensors = {**field_statistics(self.backbone), **tensors}
        base = self.backbone.base
        about = AdapterConfig(
            self.method, rank, base.fingerprint, TASKS[self.task], self.new_labels,
            self.output_names, self.images, Tapping.of(self.backbone),
            not isinstance(self.backbone, Headless), self.columns, self.thresholds,
        )  # fmt: skip
        return adapter_files(
            about, tensors,
            base_model_name_or_path=None if base.path is None else Path(base.path).name,
            tap_widths=list(self.backbone.tap_widths), n_outputs=n_outputs,
        )  # fmt: skip

    @classmethod
    def load(
        cls, model: Backbone | str | os.PathLike[str], path: str | os.PathLike[str]
    ) -> AdaptedModel:
        """Read an adapter folder that was made for ``model``, which is tapped as it says.

        ``model`` is a model or its file. Where the adapter leaves the outputs of ``model`` out, so
        does what is read.

        Raises:
            FileError: no such folder, or no such file.
            ModelError: damaged, or made for another model.
        """
        about, tensors = read_adapter(path)
        if isinstance(model, (str, os.PathLike)):
            model = about.tapping.load(model)
        return restored(check_backbone(model), path, about, tensors)


@dataclass(frozen=True, eq=False, repr=False)
class NewlyAdapted(AdaptedModel):
    """An adapted model that was not loaded: ``history`` and ``timing`` are there."""

    history: History
    timing: Timing


def restored(
    model: Backbone, path: str | os.PathLike[str], about: AdapterConfig, tensors: Tensors
) -> AdaptedModel:
    """``model``, tapped as the adapter says that was read from ``path``, with its ``tensors``.

    Those are taken out of ``tensors``.

    Raises:
        ModelError: damaged, or made for another model.
    """
    if not about.keep_outputs:
        model = model.base
    if about.base_fingerprint != model.fingerprint:
        raise ModelError(
            f"{path} was made for the model {brief(about.base_fingerprint)}, "
            f"got the model {brief(model.fingerprint)}, expected the same: load that model, or "
            "adapt again"
        )
    file = Path(path) / TENSORS_FILE
    model, method = model.base, METHODS[about.method]  # without taps and statistics of another
    if method.skip and isinstance(model, MLP) and any(of.startswith("layers.") for of in tensors):
        model = FieldMLP.from_tensors(file, tensors, model)
    model = about.tapping.apply(model)
    if not about.keep_outputs:
        model = Headless(model, max(0, SkipAdapters.n_outputs_in(tensors) - len(about.new_labels)))
    elif method.skip and about.task.name != model.task:
        n_own = SkipAdapters.n_outputs_in(tensors) - len(about.new_labels)
        if (model.n_outputs, n_own) != (1, 1):  # once there was one class, and new ones beside it
            model = for_task(model, about.task.name)
    adapters: Adapters
    if method.skip:
        first_tap = range(len(model.tap_widths))[method.adapted].start
        n_outputs = model.n_outputs + len(about.new_labels)
        adapters = SkipAdapters.from_tensors(file, tensors, model, about.rank, first_tap, n_outputs)
    else:
        adapters = LayerAdapters.from_tensors(file, tensors, model, about.rank)
    if tensors:
        raise ModelError(
            f"{file}: tensor {min(tensors)} is unknown, expected adapters alone: adapt again"
        )
    names = about.output_names
    if names is not None and len(names) != model.n_outputs:
        raise ModelError(
            f"{file} has {len(names)} output_names, expected {model.n_outputs}, one an output "
            "of the model: adapt again"
        )
    n_outputs = model.n_outputs + len(about.new_labels)
    if about.thresholds is not None and len(about.thresholds.values) != n_outputs:
        raise ModelError(
            f"{file} has {len(about.thresholds.values)} thresholds, expected {n_outputs}, one an "
            "output: adapt again"
        )
    return AdaptedModel(
        model, adapters, about.method, task=about.task.name, new_labels=about.new_labels,
        output_names=names, images=about.images or model.images,
        columns=about.columns.over(model.columns), path=Path(path), thresholds=about.thresholds,
    )  # fmt: skip
