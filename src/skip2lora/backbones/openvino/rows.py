"""Runs an OpenVINO network, and reads its taps from the runtime's memory."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora._core import pool
from skip2lora.backbones.inputs import InputSpec
from skip2lora.backbones.openvino.anatomy import Source
from skip2lora.backbones.openvino.graph import Output
from skip2lora.backbones.openvino.runtime import compiled, openvino, outputs_of, reason_of
from skip2lora.backbones.taps import Tap, rows_of
from skip2lora.errors import DataError

_MOST_SAMPLES = 64  # in one run
_MOST_FLOATS = 1 << 21  # of the largest tap, in one run
_TOKENS = 128  # assumed where their number changes

Arrays = Mapping[str, NDArray[Any]]


class Runner:
    """The compiled network, whose outputs are the taps and the logits.

    ``batch`` is the number of samples it was fixed to, None where any will do.
    """

    def __init__(
        self,
        model: Any,
        inputs: Sequence[InputSpec],
        sources: Sequence[Source],
        output: Output | None,
        *,
        batch: int | None,
        threads: int,
        integers: bool,
        path: Path,
    ) -> None:
        self.inputs, self.batch, self.sources = inputs, batch, sources
        parameters = model.get_parameters()
        numbers = {node.get_name(): number for number, node in enumerate(parameters)}
        # What is tapped in an input is the sample itself.
        self.given = [numbers.get(each.source.get_node().get_name()) for each in sources]
        wanted = [each.source for each, at in zip(sources, self.given, strict=True) if at is None]
        self.end = None if output is None else output.end
        wanted += [output.logits] if output is not None else []
        network = outputs_of(wanted, parameters)
        self.request = compiled(
            network, threads, integers=integers, path=path
        ).create_infer_request()
        self.n_views = len(wanted)
        self.floats = max(
            (math.prod(size or _TOKENS for size in each.tap.shape) for each in sources), default=1
        )
        self.lock = threading.Lock()  # the views of a run are gone with the next one

    def run(
        self, arrays: Arrays, rows: Sequence[NDArray[np.float32]], logits: NDArray[np.float32]
    ) -> None:
        """Fill ``rows``, an array (samples, width) a tap, and ``logits`` (samples, n_outputs).

        Raises:
            DataError: the runtime refuses the values.
        """
        with self.lock:
            for start, count, feed in self._feeds(arrays):
                views = iter(self.infer(feed))
                part = slice(start, start + count)
                for source, at, row in zip(self.sources, self.given, rows, strict=True):
                    values = next(views) if at is None else feed[at]
                    _fill(source, values, feed, self.inputs, row[part])
                if logits.shape[1]:
                    values = next(views)
                    numbers = values.reshape(len(values), -1)[:count]
                    logits[part] = numbers if self.end is None else self.end.rows(numbers)

    def infer(self, feed: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Views of the outputs for one array an input, to be gone with the next call.

        Raises:
            DataError: the runtime refuses the values.
        """
        try:
            for number, array in enumerate(feed):  # a third of the time that infer(feed) takes
                self.request.set_input_tensor(number, openvino.Tensor(array, shared_memory=True))
            # Unlike this, `infer` on one thread ends without an error where an operator failed, and
            # leaves the outputs of the run before.
            self.request.start_async()
            self.request.wait()
        except RuntimeError as error:
            raise DataError(
                f"OpenVINO refused the samples: {reason_of(error)}, expected such as the model was "
                "made for: are their values right?"
            ) from error
        return [self.request.get_output_tensor(number).data for number in range(self.n_views)]

    def _feeds(self, arrays: Arrays) -> Iterator[tuple[int, int, list[NDArray[Any]]]]:
        """Start, number and arrays of the samples of each run; a fixed batch is filled up."""
        given = [arrays[spec.name] for spec in self.inputs]
        floats = max(self.floats, *(math.prod(array.shape[1:]) for array in given))
        size = self.batch or max(1, min(_MOST_SAMPLES, _MOST_FLOATS // floats))
        n_samples = len(given[0])
        for start in range(0, n_samples, size):
            # The runtime reads them where they lie, and takes none that it may not write.
            parts = (array[start : start + size] for array in given)
            feed = [np.require(part, requirements=["C", "W"]) for part in parts]
            count = len(feed[0])
            if self.batch and count < size:
                feed = [np.concatenate([a, np.repeat(a[-1:], size - count, axis=0)]) for a in feed]
            yield start, count, feed


def _fill(
    source: Source,
    values: NDArray[Any],
    feed: Sequence[NDArray[Any]],
    inputs: Sequence[InputSpec],
    rows: NDArray[np.float32],
) -> None:
    """The rows of one tap, whose tensor may hold more samples than are asked for."""
    tap, n_samples = source.tap, len(feed[0])
    if source.layout is not None:
        width = values.shape[-1]
        values = source.layout.by_sample(values, n_samples).reshape(n_samples, -1, width)
    values = values[: len(rows)]
    if len(values) != len(rows) or values.size == 0:
        raise DataError(
            f"{tap.tensor} has shape {values.shape} for {n_samples} samples, expected a row each: "
            "is the model whole? copy or convert it again"
        )
    if tap.kind == "map" and len(tap.grid) == 2 and values.dtype == np.float32:
        _pool(tap, values, rows)
        return
    mask = None
    if source.mask is not None:
        arrays = dict(zip([spec.name for spec in inputs], feed, strict=True))
        mask = source.mask.counts(arrays)[: len(rows)]
    rows[:] = rows_of(tap, values.astype(np.float32, copy=False), mask)


def _pool(tap: Tap, values: NDArray[np.float32], rows: NDArray[np.float32]) -> None:
    """A map averaged in the core; one with its channels first as maps of one channel each."""
    grid, shape = (tap.grid[0], tap.grid[1]), values.shape
    if not tap.channels_last:
        values = values.reshape(shape[0] * shape[1], *shape[2:], 1)
        rows = rows.reshape(len(values), -1)
    pool(np.ascontiguousarray(values), grid, 1.0, 0, rows)
