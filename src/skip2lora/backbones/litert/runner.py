"""Runs a .tflite model sample by sample, and reads its taps from the runtime's memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skip2lora._core import pool
from skip2lora.backbones.masks import mask_of
from skip2lora.backbones.taps import Tap, rows_of
from skip2lora.errors import ModelError, first_line

if TYPE_CHECKING:
    from skip2lora.backbones.litert.backbone import LiteRTBackbone
    from skip2lora.backbones.litert.file import Graph, Tensor

_CHUNK = 32  # samples whose small taps are made into rows at once
_POOLED = ("float32", "int8", "uint8", "int16")  # what the core averages
_Fill = Callable[[NDArray[Any], NDArray[np.float32]], None]


class Runner:
    """The interpreter with the taps among its outputs, and what is read from it."""

    def __init__(self, model: LiteRTBackbone) -> None:
        graph, self.end = model.graph, model.end
        by_name = {layer.name: layer.input for layer in graph.layers(model.end)}
        self.taps = [(tap, by_name[tap.layer]) for tap in model.taps]
        wanted = {tensor.index for _, tensor in self.taps} | {of.written for of in graph.variables}
        wanted |= set() if model.end is None else {model.end.logits.index}
        if model.end is not None and model.end.end.says is not None:
            wanted |= {model.end.tensor.index}
        # The memory of an input may be reused: what is tapped there is the sample itself.
        self.inputs = (*graph.inputs, *graph.states)
        self.given = {tensor.index: at for at, tensor in enumerate(self.inputs)}
        wanted -= set(self.given)
        content = graph.with_outputs(sorted(wanted))
        self.interpreter = open_interpreter(content, model.threads, graph.path)
        _check_shapes(self.interpreter, wanted, graph)
        # Views of the runtime's memory, to be gone before the next sample.
        self.views = {index: self.interpreter.tensor(index) for index in wanted}
        self.sizes = [math.prod(tensor.shape or ()) for _, tensor in self.taps]
        self.fills = [_fill_of(tap, tensor) for tap, tensor in self.taps]
        self.stream = model.stream
        self.written = [graph.tensors[of.written] for of in graph.variables]
        self.first = first_values(graph, model.threads)
        self.mask = None
        if model.mask is not None:
            self.mask = mask_of(model.mask, model.inputs, graph.path)

    def agrees(self, arrays: Sequence[NDArray[Any]]) -> bool:
        """Whether the output of the model is what follows from its logits, in a first call."""
        if self.end is None:
            return True
        if self.stream is not None:
            states = [np.stack([each] * len(arrays[0])) for each in self.first.values()]
            arrays = [*(array[:, 0] for array in arrays), *states]
        logits: list[NDArray[Any]] = []
        outputs: list[NDArray[Any]] = []
        for number in range(len(arrays[0])):
            self._invoke([array[number : number + 1] for array in arrays], number)
            for tensor, values in ((self.end.logits, logits), (self.end.tensor, outputs)):
                values.append(_real(tensor, self.views[tensor.index]().reshape(-1)))
        return self.end.end.agrees(np.stack(logits), np.stack(outputs))

    def values(
        self, arrays: Sequence[NDArray[Any]], widths: Sequence[int]
    ) -> list[NDArray[np.float32]]:
        """Rows of all taps, or of none at all, by their ``widths``; the logits behind them."""
        n_samples = len(arrays[0])

        def call(given: Mapping[str, Any], wanted: Sequence[Any]) -> list[Any]:
            counts = len(wanted) > len(self.first)
            rows = [np.empty((n_samples, width), np.float32) for width in widths if counts]
            after = [np.empty((n_samples, *each.shape), each.dtype) for each in self.first.values()]
            logits = self.run([*given.values()], rows, after)
            return [*rows, logits, *after] if counts else after

        named = {tensor.name: array for tensor, array in zip(self.inputs, arrays, strict=False)}
        wanted = [*map(str, range(len(widths) + 1))]
        if self.stream is None:
            return call(named, wanted)
        return self.stream.over(call, self.first, named, wanted)

    def run(
        self,
        arrays: Sequence[NDArray[Any]],
        rows: Sequence[NDArray[np.float32]],
        after: Sequence[NDArray[Any]] = (),
    ) -> NDArray[np.float32]:
        """Fill ``rows``, one a tap or none at all, and the states ``after``; return the logits."""
        n_samples = len(arrays[0])
        width = 0 if self.end is None else math.prod(self.end.logits.sample_shape)
        logits = np.empty((n_samples, width), np.float32)
        for start in range(0, n_samples, _CHUNK):
            stop = min(start + _CHUNK, n_samples)
            parts = [array[start:stop] for array in arrays]
            self._run_chunk(parts, rows, logits, [each[start:stop] for each in after], start)
        if self.end is None:
            return logits
        tensor = self.end.logits
        if tensor.scale:
            logits -= tensor.zero_point
            logits *= np.float32(tensor.scale)
        return self.end.end.rows(logits)

    def _run_chunk(
        self,
        arrays: Sequence[NDArray[Any]],
        rows: Sequence[NDArray[np.float32]],
        logits: NDArray[np.float32],
        after: Sequence[NDArray[Any]],
        start: int,
    ) -> None:
        waiting: dict[int, list[NDArray[Any]]] = {}
        for number in range(len(arrays[0])):
            self._invoke([array[number : number + 1] for array in arrays], start + number)
            for tensor, state in zip(self.written, after, strict=False):
                at, shape = self.given.get(tensor.index), state.shape[1:]
                if at is None:
                    state[number] = self.views[tensor.index]().reshape(shape)
                else:  # an input that is handed on as it is
                    state[number] = arrays[at][number].reshape(shape)
            if self.end is not None:
                logits[start + number] = self.views[self.end.logits.index]().reshape(-1)
            for place, out in enumerate(rows):
                fill = self.fills[place]
                if fill is not None:
                    fill(self._values(place, arrays, number), out[start + number])
                else:
                    values = self._values(place, arrays, number).copy()
                    waiting.setdefault(place, []).append(values)
        mask = None
        if self.mask is not None:
            names = [tensor.name for tensor in self.inputs]
            mask = self.mask.counts(dict(zip(names, arrays, strict=True)))
        for place, each in waiting.items():
            rows[place][start : start + len(each)] = _rows(*self.taps[place], np.stack(each), mask)

    def _values(self, place: int, arrays: Sequence[NDArray[Any]], number: int) -> NDArray[Any]:
        """A view of what a layer reads of this sample."""
        tap, tensor = self.taps[place]
        at = self.given.get(tensor.index)
        values: NDArray[Any] = self.views[tensor.index]() if at is None else arrays[at][number]
        if values.size != self.sizes[place]:
            raise ModelError(
                f"layer {tap.layer} reads {tensor.name} as {values.shape} of one sample, "
                f"{tensor.shape} of another, expected one size: leave the layer out with taps="
            )
        return values

    def _invoke(self, sample: Sequence[NDArray[Any]], number: int) -> None:
        try:
            for tensor, array in zip(self.inputs, sample, strict=True):
                self.interpreter.set_tensor(tensor.index, array.reshape(tensor.shape or ()))
            self.interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"LiteRT failed on sample {number} (from 0), {reason_of(error)}, expected outputs: "
                "check its values"
            ) from error


def together(model: LiteRTBackbone, arrays: Sequence[NDArray[Any]]) -> NDArray[np.float32] | None:
    """The logits of samples in one batch; None where the file takes but one at a time."""
    if model.end is None:
        return None
    tensor, inputs, n_samples = model.end.logits, model.graph.inputs, len(arrays[0])
    content = model.graph.with_outputs([tensor.index])
    interpreter = open_interpreter(content, model.threads, model.path)
    signatures = [list(each["shape_signature"]) for each in interpreter.get_input_details()]
    if any(sizes[:1] != [-1] for sizes in signatures):
        return None
    shapes = [(n_samples, *(each.shape or ())[1:]) for each in inputs]
    try:
        for each, shape in zip(inputs, shapes, strict=True):
            interpreter.resize_tensor_input(each.index, shape)
        interpreter.allocate_tensors()
        for each, shape, array in zip(inputs, shapes, arrays, strict=True):
            interpreter.set_tensor(each.index, array.reshape(shape))
        interpreter.invoke()
        values = interpreter.get_tensor(tensor.index)
    except (RuntimeError, ValueError):
        return None  # its inside is made for one
    if values.ndim < 1 or len(values) != n_samples:
        return None
    return model.end.end.rows(_real(tensor, values.reshape(n_samples, -1)))


def _real(tensor: Tensor, values: NDArray[Any]) -> NDArray[Any]:
    """A copy of values as real numbers, by the scale of quantised ones."""
    if not tensor.scale:
        return values.copy()
    real: NDArray[np.float32] = (values.astype(np.float32) - tensor.zero_point) * tensor.scale
    return real


def _fill_of(tap: Tap, tensor: Tensor) -> _Fill | None:
    """Averages a map while it is in the processor's caches; None for what is no such map."""
    *before, height, width, channels = (size or 0 for size in (1, 1, 1, *tap.shape))
    if tap.kind != "map" or tensor.dtype not in _POOLED or math.prod(before) != 1:
        return None
    grid = tap.grid[-2], tap.grid[-1]
    scale, zero_point = tensor.scale or 1.0, tensor.zero_point if tensor.scale else 0

    def fill(values: NDArray[Any], row: NDArray[np.float32]) -> None:
        pool(values.reshape(1, height, width, channels), grid, scale, zero_point, row[None])

    return fill


def _rows(
    tap: Tap, tensor: Tensor, values: NDArray[Any], mask: NDArray[Any] | None
) -> NDArray[np.float32]:
    values = values.reshape(len(values), *(size or -1 for size in tap.shape))
    if tap.kind != "sequence" or mask is None or mask.shape != values.shape[:2]:
        mask = None
    rows = rows_of(tap, values.astype(np.float32, copy=False), mask)
    if tensor.scale:
        # Averages weigh to one, so the few averages are scaled rather than all values.
        rows = (rows - np.float32(tensor.zero_point)) * np.float32(tensor.scale)
    return rows


def first_values(graph: Graph, threads: int) -> dict[str, NDArray[Any]]:
    """What variables hold before the first call, which a new interpreter reads in it.

    Raises:
        ModelError: the runtime cannot run the model.
    """
    if not graph.variables:
        return {}
    reads = [of.read for of in graph.variables]
    interpreter = open_interpreter(graph.with_outputs(reads, streaming=True), threads, graph.path)
    _invoke_on_zeros(interpreter, graph)
    return {of.name: interpreter.get_tensor(of.read) for of in graph.variables}


def open_interpreter(content: bytes, threads: int, path: Any) -> Any:
    """An interpreter with its memory.

    Raises:
        ModelError: the runtime cannot run the model.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"LiteRT cannot run {path}: {reason_of(error)}, expected operators of the LiteRT "
            "runtime and a whole file: convert it again"
        ) from error
    return interpreter


def with_shapes(graph: Graph, path: Any, threads: int) -> Graph:
    """The graph with the shapes that are not in the file, found by running it once."""
    unknown = graph.without_shape()
    if not unknown:
        return graph
    interpreter = open_interpreter(graph.with_outputs(unknown), threads, path)
    _invoke_on_zeros(interpreter, graph)
    return graph.with_shapes({index: interpreter.get_tensor(index).shape for index in unknown})


def _invoke_on_zeros(interpreter: Any, graph: Graph) -> None:
    try:
        for tensor in graph.inputs:  # their memory holds anything
            zeros = np.zeros(tensor.shape or (), tensor.dtype)
            interpreter.set_tensor(tensor.index, zeros)
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"LiteRT cannot run {graph.path} on zeros ({reason_of(error)}), expected outputs: "
            "convert it again"
        ) from error


def _check_shapes(interpreter: Any, wanted: set[int], graph: Graph) -> None:
    """Raise ModelError where the runtime gives another shape than the file announces."""
    for output in interpreter.get_output_details():
        tensor, shape = graph.tensors[output["index"]], tuple(map(int, output["shape"]))
        fixed = len(output["shape_signature"]) > 0 and -1 not in output["shape_signature"][1:]
        if tensor.index in wanted and fixed and tensor.shape != shape:
            raise ModelError(
                f"{graph.path} says that tensor {tensor.name} has shape {tensor.shape}, LiteRT "
                f"makes it {shape}, expected the same: copy the damaged file again"
            )


def reason_of(error: BaseException) -> str:
    """The reason of an error of the runtime, which may end in a point."""
    return first_line(error).rstrip(".")
