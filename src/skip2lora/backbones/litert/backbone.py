"""A .tflite model as a backbone, run by LiteRT, float or quantised to integers."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs, whole
from skip2lora.backbones import masks
from skip2lora.backbones.alone import (
    N_SAMPLES,
    batches_of,
    mixed,
    note_of_one_by_one,
    unseen,
    verdict_of,
)
from skip2lora.backbones.base import MOST_THREADS, Backbone, Size, Taps
from skip2lora.backbones.formats import refuse
from skip2lora.backbones.inputs import NO_MASK, drawn
from skip2lora.backbones.litert.inputs import (
    LiteRTInput,
    check_arrays_of,
    check_samples_of,
    input_of,
)
from skip2lora.backbones.litert.runner import Runner, together, with_shapes
from skip2lora.backbones.noise import random_samples
from skip2lora.backbones.outputs import (
    OutputSpec,
    candidates_of,
    choose,
    named,
    spec_of,
    task_of,
)
from skip2lora.backbones.said import Said
from skip2lora.backbones.streams import CALLS, Stream, laid_out
from skip2lora.backbones.taps import GRID, Selection, Tap, check_grid, chosen, tap_of, widths_of
from skip2lora.errors import DataError, MissingExtraError, ModelError, first_line, warn
from skip2lora.files import unreadable
from skip2lora.limits import check_file

if TYPE_CHECKING:
    from skip2lora.backbones.litert.file import Graph, Output

_FIXED = "whose sizes are fixed"


@dataclass(frozen=True, eq=False, repr=False)
class LiteRTBackbone(Backbone):
    """A frozen .tflite model.

    Samples run one by one, so that a row's bits do not depend on its batch; the call costs some
    10 us a sample. Taps and logits of a quantised model are real numbers, by the scale and zero
    point of each tensor. ``layers`` are the taps there could be, ``taps`` those that are taken, the
    input of each layer with weights on the way to ``end``, the output that is taken.
    ``fingerprint`` is the SHA-256 of the file's bytes, so another conversion of the same network is
    another model. ``calls`` says which calls of one with variables count, ``said`` is what an
    exported file says of its output. Not safe to call from two threads at once.
    """

    graph: Graph
    layers: tuple[Tap, ...]
    taps: tuple[Tap, ...]
    end: Output | None
    fingerprint: str
    grid: int = GRID
    threads: int = 1
    class_names: tuple[str, ...] | None = None
    mask: str | None = None
    note: str | None = None
    calls: str = CALLS[0]
    said: Said = field(default_factory=Said)
    # Taps of a file are copies that its runtime makes, of shapes that the file says.
    first_tap_is_input, network, sample_shapes = False, None, None

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
    ) -> LiteRTBackbone:
        """Read a .tflite file.

        ``taps`` selects layers (:func:`~skip2lora.backbones.taps.chosen`), feature maps are
        averaged to ``grid`` x ``grid`` places (4), LiteRT runs on ``threads`` threads. ``output``
        is the name or number of the output that is taken, by default the one that classifies
        (:func:`~skip2lora.backbones.outputs.choose`). A softmax, sigmoid or argmax it ends in is
        left out of the logits. ``mask`` is what says which tokens count, by default as running the
        model tells (``skip2lora.backbones.masks``).

        Raises:
            FileError: the file cannot be read.
            ModelError: damaged, stateful, with control flow, without layers that hold weights,
                with operators or shapes that cannot be run.
            ParameterError: a layer, grid, number of threads or output that does not exist.
            MissingExtraError: LiteRT is not installed.
        """
        grid, threads = check_grid(grid), whole("threads", threads, 1, MOST_THREADS)
        refuse(path, _FIXED, size=size)
        parse = _parser(path)
        from skip2lora.backbones.litert.exported import said_of
        from skip2lora.backbones.litert.variables import calls_of

        file, calls = calls_of(Path(path))
        check_file(file, "a .tflite model")
        try:
            content = file.read_bytes()
        except OSError as error:
            raise unreadable(file, error) from error
        graph = parse(content, str(path))
        if file != Path(path) and not graph.variables:
            raise ModelError(
                f"{path} says which calls count, {file.name} has no variables that go from call to "
                "call, expected some: name that file itself"
            )
        check_arrays_of(graph, path)
        more = b"" if calls == CALLS[0] else calls.encode()  # which give other rows
        fingerprint = f"sha256:{hashlib.sha256(content + more).hexdigest()}"
        graph = with_shapes(graph, path, threads)
        picked = _pick_output(graph, output if output is not None else said_of(graph).output, path)
        layers = _layers(graph, picked, grid, path)
        model = cls(graph, layers, (), picked, fingerprint, grid, threads, calls=calls)
        model = model.with_taps(taps)
        model._runner  # noqa: B018  - what the runtime refuses is said here
        model = replace(model, note=_seen(model))
        if mask is None and len(model.inputs) > 1:
            mask = masks.find_mask(model)
        model = model if mask is None else model.with_mask(mask)
        for note in filter(None, (graph.cut, model.note)):
            warn(f"{path}: {note}")
        return model._checked(output)._as_said().named(class_names)

    def _as_said(self) -> LiteRTBackbone:
        """Itself, with what the file says of its output."""
        from skip2lora.backbones.litert.exported import said_of

        said = said_of(self.graph).at(self.output)
        names = said.fitting(self.n_outputs).class_names
        return replace(self, said=said, class_names=names)

    def with_taps(
        self, selection: Selection, *, grid: int | None = None, size: Size | None = None
    ) -> LiteRTBackbone:
        """The same model with other taps or another grid; ParameterError for no such layer."""
        refuse(self.path, _FIXED, size=size)
        layers, grid = self.layers, self.grid if grid is None else check_grid(grid)
        if grid != self.grid:
            layers = _layers(self.graph, self.end, grid, self.graph.path)
        places = chosen([tap.layer for tap in layers], selection)
        return replace(self, layers=layers, taps=tuple(layers[at] for at in places), grid=grid)

    def with_output(self, output: str | int) -> LiteRTBackbone:
        """The same model, of which another output is taken, its taps chosen by default again.

        Raises:
            ParameterError: there is none, or it is no row of numbers a sample.
        """
        end = self.graph.outputs[named(self.outputs, output, self.path)]
        if end == self.end:
            return self
        layers = _layers(self.graph, end, self.grid, self.path)
        model = replace(self, end=end, layers=layers).with_taps(None)
        return replace(model, note=_seen(model))._checked(output)._as_said()

    def _checked(self, asked: str | int | None) -> LiteRTBackbone:
        """Itself, without logits where the output does not follow from them on random samples.

        Raises ParameterError where that is the output ``asked`` for.
        """
        if self.end is None or (self.end.end.says is None and self.end.end.ending != "unknown"):
            return self
        samples = random_samples(self, 3, open_size=1)  # of calls, where there are several
        try:
            if samples is None or self._runner.agrees(self._arrays(samples)):
                return self
        except ModelError:  # it takes no noise, as is said
            return self
        end = replace(self.end, end=self.end.end.refuted())
        outputs = tuple(end if each is self.end else each for each in self.graph.outputs)
        model = replace(self, graph=replace(self.graph, outputs=outputs), end=None)
        if asked is not None:
            named(model.outputs, asked, self.path)
        return model

    def with_mask(self, mask: str) -> LiteRTBackbone:
        """The same model, in which other tokens count; ParameterError for no such mask."""
        counting = masks.mask_of(mask, self.inputs, self.path)
        return replace(self, mask=str(counting or NO_MASK))

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """All outputs, in the order of the file."""
        return _specs(self.graph)

    @property
    def output(self) -> str | None:
        """The name of the output that is taken, None where no output has logits."""
        return None if self.end is None else self.end.name

    @property
    def tappable(self) -> tuple[Tap, ...]:
        """All of ``layers``."""
        return self.layers

    @property
    def path(self) -> str:
        """The file it was read from."""
        return self.graph.path

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """Width of each tap."""
        return widths_of(self.taps)

    @property
    def n_outputs(self) -> int:
        """Width of the logits; 0 where there are none."""
        return 0 if self.end is None else _output_spec(self.end).width

    @property
    def task(self) -> str:
        """What the file says, or the end tells (``skip2lora.backbones.outputs.task_of``)."""
        own = self.said.fitting(self.n_outputs).task
        return own or task_of(None if self.end is None else _output_spec(self.end))

    @property
    def runtime(self) -> str:
        """What computes rows, with its version."""
        return f"LiteRT {version('ai-edge-litert')}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out, what batches change or is not known, and its states, if any."""
        states = None
        if self.stream is not None:
            every = (*self.graph.inputs, *self.graph.states)
            states = self.stream.note({of.name: of.sample_shape for of in every})
        return tuple(filter(None, (self.graph.cut, self.note, states)))

    @cached_property
    def inputs(self) -> tuple[LiteRTInput, ...]:
        """What the model reads, in its order; calls of it where it has a state between them."""
        inputs = tuple(input_of(self.graph, tensor) for tensor in self.graph.inputs)
        return inputs if self.stream is None else self.stream.sequences(inputs)

    @cached_property
    def stream(self) -> Stream | None:
        """The variables that go from call to call, None where there are none."""
        names = {each.name: each.name for each in self.graph.variables}
        return Stream(names, self.calls) if names else None

    @cached_property
    def _runner(self) -> Runner:
        return Runner(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_runner"}

    def check(self, X: Any) -> NDArray[Any] | Inputs:
        """Samples as the model reads them, from what a user passes.

        Raises:
            DataError: see ``litert.inputs.check_samples_of``.
        """
        X = self.columns.take(X)
        X = X if self.stream is None else laid_out(X, self.inputs)
        return check_samples_of(self.inputs, X)

    def forward(self, x: NDArray[Any] | Inputs) -> Taps:
        """Taps and base logits of samples that :meth:`check` gave.

        Raises:
            ModelError: the runtime failed on a sample.
        """
        *rows, logits = self._runner.values(self._arrays(x), self.tap_widths)
        return Taps(tuple(rows), logits)

    def logits(self, x: Any) -> NDArray[np.float32]:
        """Outputs before softmax or sigmoid, (samples, n_outputs).

        Raises:
            DataError: samples the model cannot take.
            ModelError: the runtime failed on a sample, or the model has no logits.
        """
        self.need_outputs()
        return self._runner.values(self._arrays(self.check(x)), ())[-1]

    def _arrays(self, x: NDArray[Any] | Inputs) -> list[NDArray[Any]]:
        given = [x.arrays[spec.name] for spec in self.inputs] if isinstance(x, Inputs) else [x]
        return [spec.read(array) for spec, array in zip(self.inputs, given, strict=True)]


def _seen(model: LiteRTBackbone) -> str | None:
    """What is said of a sample alone and the same one in a batch.

    Raises:
        ModelError: a sample has other logits after another than at first, or none without others.
    """
    try:
        samples = model.check(drawn(model.inputs, N_SAMPLES, n_tokens=2))
        alone = [
            (batch, model.forward(samples[np.array(batch)]).base_logits) for batch in batches_of(1)
        ]
    except (ModelError, DataError) as error:
        return unseen(first_line(error).partition(", expected")[0])
    verdict = verdict_of(alone)
    if not verdict.holds():
        raise mixed(model.path, f"what {model.output} is made of", verdict, random=True)
    if model.stream is not None:
        return None
    *batches, last = batches_of(None)
    runs = [(last, dict(alone)[last])]
    for batch in batches:
        values = together(model, model._arrays(samples[np.array(batch)]))
        if values is None:
            return None
        runs.append((batch, values))
    verdict = verdict_of(runs)
    if not verdict.holds() and np.array_equal(alone[0][1], alone[1][1]):
        raise mixed(model.path, f"what {model.output} is made of", verdict)
    return note_of_one_by_one(verdict)


def _parser(path: str | os.PathLike[str]) -> Any:
    try:
        from skip2lora.backbones.litert.file import parse
    except ImportError as error:
        if not (error.name or "").startswith("ai_edge_litert"):
            raise
        raise MissingExtraError(
            f"reading {path} needs ai-edge-litert: pip install 'skip2lora[litert]'"
        ) from error
    return parse


def _specs(graph: Graph) -> tuple[OutputSpec, ...]:
    """A number alone is a row of one."""
    return tuple(map(_output_spec, graph.outputs))


def _output_spec(output: Output) -> OutputSpec:
    logits = output.logits
    labels = "float" not in logits.dtype and not logits.scale
    return spec_of(output.name, logits.sample_shape or (1,), output.end, labels=labels)


def _pick_output(graph: Graph, asked: str | int | None, path: Any) -> Output | None:
    """The output to take; None where those there are have no logits."""
    specs, sources = _specs(graph), [each.logits.index for each in graph.outputs]
    candidates = candidates_of(specs, sources, [graph.ancestors(source) for source in sources])
    at = choose(candidates, asked, path)
    return None if at is None else graph.outputs[at]


def _layers(graph: Graph, output: Output | None, grid: int, path: Any) -> tuple[Tap, ...]:
    layers = graph.layers(output)
    way = "" if output is None else f" on the way to {output.name}"
    if not layers:
        raise ModelError(
            f"{path} has no layer with weights{way}, expected "
            "FULLY_CONNECTED, convolutions or BATCH_MATMUL with constant weights: "
            "use another model"
        )
    # Layers that share a tensor are one tap, in the place of the last of them.
    names = {layer.input.index: layer for layer in reversed(layers)}
    last = {layer.input.index: at for at, layer in enumerate(layers)}
    return tuple(_tap(names[index], grid) for index in sorted(last, key=last.__getitem__))


def _tap(layer: Any, grid: int) -> Tap:
    shape = layer.input.sample_shape or (1,)
    name, tensor = layer.name, layer.input.name
    *places, channels = shape
    if math.prod(places) == 1:
        shape = (channels,)
    # Places before the last two are the blocks of a dilated convolution.
    return tap_of(name, tensor, shape, grid=grid, most_axes=2)
