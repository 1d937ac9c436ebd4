"""A model of OpenVINO as a backbone, of floats or quantised."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs, whole
from skip2lora.backbones import masks
from skip2lora.backbones.base import MOST_THREADS, Backbone, Size, Taps
from skip2lora.backbones.inputs import NO_MASK, InputSpec, check_inputs
from skip2lora.backbones.openvino.anatomy import Anatomy, anatomy
from skip2lora.backbones.openvino.inputs import batch_of
from skip2lora.backbones.openvino.opened import Opened, open_model
from skip2lora.backbones.openvino.rows import Runner
from skip2lora.backbones.openvino.runtime import RUNTIME
from skip2lora.backbones.outputs import OutputSpec, named, task_of
from skip2lora.backbones.taps import Selection, Tap, check_grid, chosen, widths_of
from skip2lora.errors import ModelError, warn

_IN_FLOATS = (
    "is quantised and runs in floats here, as OpenVINO in integers gives other answers once taps "
    "are read: by itself it differs by some percent of the largest logit"
)


@dataclass(frozen=True, eq=False, repr=False)
class OpenVINOBackbone(Backbone):
    """A frozen model of OpenVINO on the CPU, in 32-bit floats.

    A tap is called by the tensor that its layers read. A quantised model (FakeQuantize) computes
    the numbers of its rounded values in floats, since OpenVINO's integers give other answers when
    taps are read. ``fingerprint`` is the SHA-256 of operators and weights, so another conversion of
    the same network may be another model.
    """

    opened: Opened = field(repr=False)
    anatomy: Anatomy = field(repr=False)
    places: tuple[int, ...]
    grid: int
    threads: int = 1
    class_names: tuple[str, ...] | None = None
    mask: str | None = None
    # Taps of a file are copies that its runtime makes, of shapes that the file says.
    first_tap_is_input, network, sample_shapes, runtime = False, None, None, RUNTIME

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        taps: Selection = None,
        grid: int | None = None,
        size: Size | None = None,
        threads: int = 1,
        class_names: Sequence[str] | None = None,
        output: str | int | None = None,
        mask: str | None = None,
    ) -> OpenVINOBackbone:
        """Read an .xml file, whose weights are in the .bin beside it.

        ``taps`` chooses layers (:func:`~skip2lora.backbones.taps.chosen`), ``grid`` the places an
        axis of a map keeps (4). ``size`` fixes height and width of images where the model leaves
        them open. ``output`` is the name or number of the output that is taken, by default the one
        that classifies (:func:`~skip2lora.backbones.outputs.choose`). ``mask`` is what says which
        tokens count, by default as running the model tells (``skip2lora.backbones.masks``).

        Raises:
            FileError: the file or its weights are missing.
            ModelError: damaged, stateful, with loops or branches, or no layers with weights.
            ParameterError: an option that fits nothing in the model.
            MissingExtraError: openvino is not installed.
        """
        opened = open_model(Path(path), size)
        model = cls._of(opened, taps, grid=grid, threads=threads, output=output, mask=mask)
        return model._warned().named(class_names)

    @classmethod
    def load_for_images(
        cls,
        path: str | os.PathLike[str],
        size: Size | None,
        *,
        taps: Selection = None,
        class_names: Sequence[str] | None = None,
        **options: Any,
    ) -> OpenVINOBackbone:
        """As :meth:`load`, but ``size`` counts only where the model takes images of any size."""
        opened = open_model(Path(path), size, if_open=True)
        return cls._of(opened, taps, **options)._warned().named(class_names)

    @classmethod
    def _of(
        cls,
        opened: Opened,
        taps: Selection,
        *,
        grid: int | None = None,
        threads: int = 1,
        output: str | int | None = None,
        mask: str | None = None,
    ) -> OpenVINOBackbone:
        grid, threads = check_grid(grid), whole("threads", threads, 1, MOST_THREADS)
        counting = None
        if mask is not None or len(opened.inputs) > 1:
            counting = masks.mask_of(mask, opened.inputs, opened.path)
        layers = anatomy(opened, grid=grid, output=output, mask=counting)
        places = chosen([source.tap.layer for source in layers.sources], taps)
        text = str(counting or NO_MASK) if masks.candidates(opened.inputs) else None
        backbone = cls(opened, layers, tuple(places), grid, threads, mask=text)
        if mask is None and len(opened.inputs) > 1:
            mask = masks.find_mask(backbone)
            if mask not in (None, backbone.mask):
                return cls._of(opened, taps, grid=grid, threads=threads, output=output, mask=mask)
        return backbone

    def _warned(self) -> OpenVINOBackbone:
        for note in self.notes:
            warn(f"{self.path} {note}")
        return self

    @property
    def notes(self) -> tuple[str, ...]:
        """That a quantised model is run in floats, what is left out, and what is not known."""
        graph = self.opened.graph
        said = (_IN_FLOATS if graph.integers else None, graph.cut, self.anatomy.note)
        return tuple(filter(None, said))

    @property
    def path(self) -> Path:
        """The .xml file it was read from."""
        return self.opened.path

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What a sample consists of."""
        return self.opened.inputs

    @property
    def size(self) -> Size | None:
        """Height and width that open axes of its images were fixed to."""
        return self.opened.size

    @property
    def fingerprint(self) -> str:
        """SHA-256 of operators, weights, inputs and outputs."""
        return self.opened.fingerprint

    @cached_property
    def tappable(self) -> tuple[Tap, ...]:
        """All layers that could be tapped, in order."""
        return tuple(source.tap for source in self.anatomy.sources)

    @cached_property
    def taps(self) -> tuple[Tap, ...]:
        """The layers that are tapped, in order."""
        return tuple(self.tappable[place] for place in self.places)

    @cached_property
    def tap_widths(self) -> tuple[int, ...]:
        """Floats of each tap."""
        return widths_of(self.taps)

    @property
    def n_outputs(self) -> int:
        """Width of the logits; 0 for a model that gives none, such as a text encoder."""
        return self.anatomy.n_outputs

    @property
    def task(self) -> str:
        """What the end of the model tells (``skip2lora.backbones.outputs.task_of``)."""
        return task_of(next((of for of in self.outputs if of.name == self.output), None))

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """All outputs of the model, in its order."""
        return self.anatomy.outputs

    @property
    def output(self) -> str | None:
        """The name of the output that is taken."""
        return None if self.anatomy.end is None else self.anatomy.end.name

    def with_output(self, output: str | int) -> OpenVINOBackbone:
        """The same model, of which another output is taken, its taps chosen by default again.

        Raises:
            ParameterError: there is none, or it is no row of numbers a sample.
        """
        name = self.outputs[named(self.outputs, output, self.path)].name
        if name == self.output:
            return self
        return self._of(
            self.opened, None, grid=self.grid, threads=self.threads, output=name, mask=self.mask
        )

    def with_mask(self, mask: str) -> OpenVINOBackbone:
        """The same model with the same taps, in which other tokens count.

        Raises:
            ParameterError: there is no such input or meaning.
        """
        taps = [tap.layer for tap in self.taps]
        model = self._of(
            self.opened, taps, grid=self.grid, threads=self.threads, output=self.output, mask=mask
        )
        return model.named(self.class_names)

    def with_taps(
        self, selection: Selection, *, grid: int | None = None, size: Size | None = None
    ) -> OpenVINOBackbone:
        """The same model with other taps, or another grid or size of images.

        Raises:
            ParameterError: a selection that fits no layer, or a size the model does not take.
            ModelError: the file changed since it was loaded.
        """
        opened = self.opened
        if size not in (None, self.size):
            opened = open_model(self.path, size)
        if opened.fingerprint != self.fingerprint:
            raise ModelError(
                f"{self.path} changed since it was loaded, expected it unchanged: load it again"
            )
        model = self._of(
            opened, selection, grid=self.grid if grid is None else grid, threads=self.threads,
            output=self.output, mask=self.mask,
        )  # fmt: skip
        return model.named(self.class_names)

    @cached_property
    def _runner(self) -> Runner:
        return self._run_of([self.anatomy.sources[place] for place in self.places])

    @cached_property
    def _answers(self) -> Runner:
        """The network without taps, which is what a device that only predicts runs."""
        return self._run_of([])

    def _run_of(self, sources: Sequence[Any]) -> Runner:
        end, graph = self.anatomy.end, self.opened.graph
        return Runner(
            graph.model, self.inputs, sources, end,
            batch=batch_of(graph.model), threads=self.threads, integers=graph.integers,
            path=self.path,
        )  # fmt: skip

    def check(self, X: Any) -> NDArray[Any] | Inputs:
        """What the user passes as the model takes it: an array, or named arrays.

        Raises:
            DataError: a missing input, another shape or type, NaN, no samples.
        """
        return check_inputs(X, self.inputs)

    def forward(self, x: NDArray[Any] | Inputs) -> Taps:
        """Taps and base logits of checked samples.

        Raises:
            DataError: OpenVINO refuses the values.
        """
        rows = [np.empty((len(x), width), np.float32) for width in self.tap_widths]
        logits = np.empty((len(x), self.n_outputs), np.float32)
        self._runner.run(self._arrays(x), rows, logits)
        return Taps(tuple(rows), logits)

    def logits(self, x: Any) -> NDArray[np.float32]:
        """Outputs before the last activation, (samples, n_outputs).

        Raises:
            DataError: as :meth:`check`.
            ModelError: the model has no logits.
        """
        self.need_outputs()
        checked = self.check(x)
        logits = np.empty((len(checked), self.n_outputs), np.float32)
        self._answers.run(self._arrays(checked), [], logits)
        return logits

    def _arrays(self, x: NDArray[Any] | Inputs) -> dict[str, NDArray[Any]]:
        return dict(x.arrays) if isinstance(x, Inputs) else {self.inputs[0].name: x}

    def __copy__(self) -> OpenVINOBackbone:
        model = object.__new__(type(self))  # unlike a pickle, which reads the file again
        vars(model).update(vars(self))
        return model

    def __reduce__(self) -> tuple[Any, ...]:
        options = {
            "taps": [tap.layer for tap in self.taps],
            "grid": self.grid,
            "size": self.size,
            "threads": self.threads,
            "class_names": self.class_names,
            "output": self.output,
            "mask": self.mask,
        }
        return _reload, (self.path, options)


def _reload(path: Path, options: dict[str, Any]) -> OpenVINOBackbone:
    return OpenVINOBackbone.load(path, **options)
