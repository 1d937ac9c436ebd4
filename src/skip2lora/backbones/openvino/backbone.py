"""A model of OpenVINO as a backbone, of floats or quantised."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs
from skip2lora.backbones.base import MOST_THREADS, Backbone, Size, Taps
from skip2lora.backbones.inputs import InputSpec, check_inputs
from skip2lora.backbones.openvino.anatomy import Anatomy, anatomy
from skip2lora.backbones.openvino.file import fingerprint, read_model
from skip2lora.backbones.openvino.graph import Graph
from skip2lora.backbones.openvino.inputs import batch_of, fix_size, specs_of
from skip2lora.backbones.openvino.rows import Runner
from skip2lora.backbones.taps import Selection, Tap, check_grid, chosen
from skip2lora.checks import whole
from skip2lora.errors import ModelError
from skip2lora.tasks.task import task_of_end


@dataclass(frozen=True, eq=False)
class OpenVINOBackbone(Backbone):
    """A frozen model of OpenVINO on the CPU, in 32-bit floats.

    A tap is called by the tensor that its layers read. A quantised model (FakeQuantize) computes
    the numbers of its rounded values in floats, since OpenVINO's integers give other answers when
    taps are read. ``fingerprint`` is the SHA-256 of operators and weights, so another conversion of
    the same network may be another model.
    """

    path: Path
    graph: Graph = field(repr=False)
    inputs: tuple[InputSpec, ...]
    anatomy: Anatomy = field(repr=False)
    places: tuple[int, ...]
    fingerprint: str
    grid: int
    size: Size | None = None
    threads: int = 1
    output: str | int | None = None
    class_names: tuple[str, ...] | None = None

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
    ) -> OpenVINOBackbone:
        """Read an .xml file, whose weights are in the .bin beside it.

        ``taps`` chooses layers (:func:`~skip2lora.backbones.taps.chosen`), ``grid`` the places an
        axis of a map keeps (4). ``size`` fixes height and width of images where the model leaves
        them open. ``output`` is the name or number of the output with the classes, by default the
        first that is one row of numbers a sample; one that ends in softmax or sigmoid comes first.

        Raises:
            FileError: the file or its weights are missing.
            ModelError: damaged, stateful, with loops or branches, or no layers with weights.
            ParameterError: an option that fits nothing in the model.
            MissingExtraError: openvino is not installed.
        """
        file, grid = Path(path), check_grid(grid)
        whole("threads", threads, 1, MOST_THREADS)
        model = read_model(file)
        graph, base = Graph(model), fingerprint(model)
        graph.refuse_state(file)
        if size is not None:
            fix_size(model, file, size)
        inputs = specs_of(graph, file)
        found = anatomy(graph, inputs, file, grid=grid, output=output)
        backbone = cls(file, graph, inputs, found, (), base, grid, size, threads, output)
        tapped = backbone._tapped(taps)
        tapped._runner  # noqa: B018  - what the runtime refuses is said here
        return tapped.named(class_names)

    def _tapped(self, selection: Selection) -> OpenVINOBackbone:
        places = chosen([tap.layer for tap in self.tappable], selection)
        return replace(self, places=tuple(places))

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
        return tuple(tap.width for tap in self.taps)

    @property
    def n_outputs(self) -> int:
        """Width of the logits; 0 for a model that gives none, such as a text encoder."""
        return self.anatomy.n_outputs

    @property
    def task(self) -> str:
        """"multi-label" where the model ends in a sigmoid, else "classification"."""
        end = self.anatomy.end
        return task_of_end(sigmoid=end is not None and "Sigmoid" in end.activations)

    def with_taps(
        self, selection: Selection, *, grid: int | None = None, size: Size | None = None
    ) -> OpenVINOBackbone:
        """The same model with other taps, or another grid or size of images.

        Raises:
            ParameterError: a selection that fits no layer, or a size the model does not take.
            ModelError: the file changed since it was loaded.
        """
        grid, size = self.grid if grid is None else check_grid(grid), size or self.size
        if (grid, size) == (self.grid, self.size):
            return self._tapped(selection)
        model = OpenVINOBackbone.load(
            self.path, taps=selection, grid=grid, size=size, threads=self.threads,
            class_names=self.class_names, output=self.output,
        )  # fmt: skip
        if model.fingerprint != self.fingerprint:
            raise ModelError(f"{self.path} changed since it was loaded: load it again")
        return model

    @cached_property
    def _runner(self) -> Runner:
        return self._run_of([self.anatomy.sources[place] for place in self.places])

    @cached_property
    def _answers(self) -> Runner:
        """The network without taps, which is what a device that only predicts runs."""
        return self._run_of([])

    def _run_of(self, sources: Sequence[Any]) -> Runner:
        end = self.anatomy.end
        return Runner(
            self.graph.model, self.inputs, sources, None if end is None else end.logits,
            batch=batch_of(self.graph.model), threads=self.threads, integers=self.graph.integers,
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

    def __reduce__(self) -> tuple[Any, ...]:
        names = [tap.layer for tap in self.taps]
        return _reload, (
            self.path, names, self.grid, self.size, self.threads, self.class_names, self.output
        )  # fmt: skip


def _reload(
    path: Path, taps: list[str], grid: int, size: Size | None, threads: int,
    class_names: Sequence[str] | None, output: str | int | None,
) -> OpenVINOBackbone:  # fmt: skip
    return OpenVINOBackbone.load(
        path, taps=taps, grid=grid, size=size, threads=threads, class_names=class_names,
        output=output,
    )  # fmt: skip
