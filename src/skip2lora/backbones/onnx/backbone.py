"""Models as ``.onnx``, run by ONNX Runtime; their taps are outputs of a copy of the graph.

The package ``onnx`` is needed to make that copy. A file that :func:`prepare` wrote has its taps in
it and needs ONNX Runtime and NumPy alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs, SamplesLike, whole
from skip2lora.backbones import masks
from skip2lora.backbones.base import MOST_THREADS, Backbone, Size, Taps
from skip2lora.backbones.inputs import InputSpec, check_inputs
from skip2lora.backbones.onnx.external import check_sealed, external_tensors
from skip2lora.backbones.onnx.file import damaged, need_onnx, read_model, without_weights
from skip2lora.backbones.onnx.graph import Graph, input_specs
from skip2lora.backbones.onnx.session import RUNTIME, Session, open_session
from skip2lora.backbones.onnx.sizes import any_size, batch_of, leaves_open
from skip2lora.backbones.onnx.tapped import (
    KEY,
    Asked,
    Description,
    entries_of,
    metadata_of,
    said_in,
    tap_model,
)
from skip2lora.backbones.outputs import named
from skip2lora.backbones.said import Said
from skip2lora.backbones.streams import Stream, laid_out
from skip2lora.backbones.taps import GRID, Selection, Tap, check_grid
from skip2lora.data.image_layout import check_size as checked_size
from skip2lora.errors import MissingExtraError, ModelError, warn

_TOKENS = 128  # assumed where their number changes


@dataclass(frozen=True, eq=False, repr=False)
class OnnxBackbone(Backbone):
    """A frozen model in ONNX Runtime.

    ``inputs`` are what a sample consists of, ``layers`` all taps there could be, in order. What
    ``description`` says stands beside it: ``n_outputs`` is 0 for a model without logits, such as a
    text encoder, ``task`` is "multi-label" after Sigmoid, else "classification", ``fingerprint``
    the SHA-256 of the model alone: weights, nodes, inputs and outputs. With a ``stream``, a sample
    is a sequence of calls. ``said`` is what an exported file says of its ``output``.
    """

    path: Path
    description: Description
    inputs: tuple[InputSpec, ...]
    threads: int
    session: Session = field(repr=False)
    said: Said = field(default_factory=Said)
    class_names: tuple[str, ...] | None = None
    layers: tuple[Tap, ...] = field(init=False)
    tappable: tuple[Tap, ...] = field(init=False)
    taps: tuple[Tap, ...] = field(init=False)
    tap_widths: tuple[int, ...] = field(init=False)
    grid: int = field(init=False)
    size: Size | None = field(init=False)
    n_outputs: int = field(init=False)
    task: str = field(init=False)
    fingerprint: str = field(init=False)
    mask: str | None = field(init=False)
    stream: Stream | None = field(init=False)
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
    ) -> OnnxBackbone:
        """Read a model; ``taps`` chooses layers, ``grid`` the places an axis of a map keeps (4).

        ``size`` fixes height and width of images where the model leaves them open, so that their
        maps keep a grid; without it they are averaged over all places, as sizes may change. A file
        written by :func:`prepare` has taps, grid, size and output already: what is None here is as
        there. ``output`` is the name or number of the output that is taken, by default the one that
        classifies (:func:`~skip2lora.backbones.outputs.choose`). ``mask`` is what says which
        tokens count, by default as running the model tells (``skip2lora.backbones.masks``).

        Raises:
            FileError: no such file.
            ModelError: truncated, too large, control flow or state, or no layers with weights.
            MissingExtraError: onnxruntime is missing, or onnx where the taps must be added.
            ParameterError: ``taps``, ``grid``, ``size`` or ``threads`` is out of range, there is no
                such ``output``, or it must be chosen.
        """
        return cls._load(
            path, taps=taps, grid=grid, size=size, threads=threads, class_names=class_names,
            output=output, mask=mask,
        )  # fmt: skip

    @classmethod
    def load_for_images(
        cls, path: str | os.PathLike[str], size: Size | None, **options: Any
    ) -> OnnxBackbone:
        """As :meth:`load`, but ``size`` counts only where the model takes images of any size."""
        return cls._load(path, size=size, if_open=True, **options)

    @classmethod
    def _load(
        cls,
        path: str | os.PathLike[str],
        *,
        threads: int = 1,
        class_names: Sequence[str] | None = None,
        **asked: Any,
    ) -> OnnxBackbone:
        model = cls._read(Path(path), Asked(**asked), threads)
        for note in filter(None, (model.description.cut, model.description.rounded)):
            warn(f"{path}: {note}")
        return model.named(class_names)

    @classmethod
    def _read(cls, file: Path, asked: Asked, threads: int) -> OnnxBackbone:
        whole("threads", threads, 1, MOST_THREADS)
        if asked.grid is not None:
            check_grid(asked.grid)
        if asked.size is not None:
            checked_size(asked.size)
        try:
            model = read_model(file)
        except MissingExtraError:
            check_sealed(file)
            return cls._read_prepared(file, asked, threads)
        if asked.if_open and asked.size is not None and not leaves_open(model):
            asked = replace(asked, size=None)
        text = metadata_of(model)
        if text is not None:
            known = Description.from_json(text, file)
            if asked.fits(known):
                del model
                return cls._read_prepared(file, asked, threads)
            # Its axes are fixed for good.
            asked = replace(
                asked, grid=asked.grid or known.grid, size=asked.size or known.size,
                output=known.output if asked.output is None else asked.output,
                mask=asked.mask or known.mask,
            )  # fmt: skip
        description = tap_model(
            model, file, taps=asked.taps, grid=asked.grid or GRID, size=asked.size,
            output=asked.output, mask=asked.mask, keep_outputs=False,
        )  # fmt: skip
        session = _session_of(model, file, description.axes, threads)
        said = said_in(entries_of(model), file)
        del model
        backbone = cls(file, description, session.inputs, threads, session, said)
        if asked.mask is None and description.mask is not None:
            mask = masks.find_mask(backbone)
            if mask not in (None, description.mask):
                return cls._read(file, replace(asked, mask=mask), threads)
        return backbone

    @classmethod
    def _read_prepared(cls, file: Path, asked: Asked, threads: int) -> OnnxBackbone:
        runtime = open_session(file, threads=threads)
        entries = runtime.get_modelmeta().custom_metadata_map
        text = entries.get(KEY)
        if text is None:
            need_onnx(f"adding taps to {file.name}")
            raise damaged(file)
        description = Description.from_json(text, file)
        session = Session.of(runtime, description.axes)
        if asked.if_open and not any_size(session.inputs):
            asked = replace(asked, size=None)
        if not asked.fits(description):
            what = "other taps" if asked.same_output(description) else "another output"
            need_onnx(f"{what} than {file.name} was prepared with")
        said, chosen = said_in(entries, file), description.chosen(asked.taps)
        return cls(file, chosen, session.inputs, threads, session, said)

    def __post_init__(self) -> None:
        of, said = self.description, self.said.at(self.description.output)
        own = said.fitting(of.n_outputs)
        vars(self).update(
            layers=of.layers, tappable=of.layers, taps=of.taps, tap_widths=of.tap_widths,
            grid=of.grid, size=of.size, n_outputs=of.n_outputs, task=own.task or of.task,
            fingerprint=of.fingerprint, mask=of.mask, stream=of.stream, said=said,
            columns=said.columns, images=said.images, thresholds=own.thresholds,
        )  # fmt: skip
        if of.stream is not None:
            vars(self)["inputs"] = of.stream.sequences(self.session.inputs)
        if self.class_names is None:
            vars(self)["class_names"] = own.class_names or of.class_names
        if of.model_outputs:  # a file prepared before names none
            vars(self).update(outputs=of.model_outputs, output=of.output)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the model is left out, how much batches change, and its states, if any."""
        of = self.description
        shapes = {spec.name: spec.shape for spec in self.session.inputs}
        states = None if of.stream is None else of.stream.note(shapes)
        return tuple(filter(None, (of.cut, of.rounded, states)))

    def with_taps(
        self,
        selection: Selection,
        *,
        grid: int | None = None,
        size: Size | None = None,
    ) -> OnnxBackbone:
        """The same model with other taps, or another grid or size of images.

        Raises:
            ParameterError: a selection that fits no layer.
            ModelError: the file changed since it was loaded.
        """
        grid, size = self.grid if grid is None else grid, size or self.size
        asked = Asked(selection, grid, size, self.description.output, self.mask)
        if asked.fits(self.description) and selection is not None:
            return replace(self, description=self.description.chosen(selection))
        return replace(self._again(asked), class_names=self.class_names)

    def with_output(self, output: str | int) -> OnnxBackbone:
        """The same model, of which another output is taken, its taps chosen by default again.

        Raises:
            ParameterError: there is none, or it is no row of numbers a sample.
            ModelError: the file changed since it was loaded.
        """
        name = self.outputs[named(self.outputs, output, self.path)].name
        asked = Asked(None, self.grid, self.size, name, self.mask)
        return self if name == self.output else self._again(asked)

    def with_mask(self, mask: str) -> OnnxBackbone:
        """The same model with the same taps, in which other tokens count.

        Raises:
            ParameterError: there is no such input or meaning.
            ModelError: the file changed since it was loaded.
        """
        if mask == self.mask:
            return self
        names = [tap.layer for tap in self.taps]
        asked = Asked(names, self.grid, self.size, self.description.output, mask)
        return replace(self._again(asked), class_names=self.class_names)

    def _again(self, asked: Asked) -> OnnxBackbone:
        """The same file, read with other options."""
        model = self._read(self.path, asked, self.threads)
        if model.fingerprint != self.fingerprint:
            raise ModelError(
                f"{self.path} changed since it was loaded, expected it unchanged: load it again"
            )
        return model

    def check(self, x: Any) -> NDArray[Any] | Inputs:
        """What the user passes as the model takes it: an array, or named arrays.

        Raises:
            DataError: a missing input, another shape or type, NaN, no samples.
        """
        x = self.columns.take(x)
        return check_inputs(x if self.stream is None else laid_out(x, self.inputs), self.inputs)

    def forward(self, x: NDArray[Any] | Inputs) -> Taps:
        """Taps and base logits of checked samples.

        Raises:
            DataError: onnxruntime refuses the values, such as a token beyond the vocabulary.
        """
        logits = self.description.logits
        wanted = [*self.description.outputs, *([logits] if logits else [])]
        values = self._run(x, wanted)
        rows = values[: len(self.description.outputs)]
        base = values[-1] if logits else np.zeros((len(x), 0), np.float32)
        return Taps(tuple(rows), base)

    def logits(self, x: SamplesLike) -> NDArray[np.float32]:
        """Outputs before the last activation, (samples, n_outputs).

        Raises:
            DataError: as :meth:`check`.
            ModelError: the model has no logits.
        """
        self.need_outputs()
        rows: NDArray[np.float32] = self._run(self.check(x), [str(self.description.logits)])[0]
        return rows

    def _run(self, x: NDArray[Any] | Inputs, wanted: list[str]) -> list[NDArray[np.float32]]:
        values = self.values(self.session, x, wanted)
        for name, rows in zip(wanted, values, strict=True):
            if len(rows) != len(x):
                raise ModelError(
                    f"{self.path}: output {name} has {len(rows)} rows for {len(x)} samples, "
                    "expected one a sample: leave its layer out with taps="
                )
        return values

    def values(
        self, session: Session, x: NDArray[Any] | Inputs, wanted: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """The ``wanted`` outputs of ``session``, which has the inputs of this model, of samples."""
        arrays = x.arrays if isinstance(x, Inputs) else {self.inputs[0].name: x}
        run = partial(session.run, largest_tap=self._largest_tap)
        if self.stream is None:
            return run(arrays, wanted)
        return self.stream.over(run, self.stream.zeros(session.inputs), arrays, wanted)

    @cached_property
    def _largest_tap(self) -> int:
        """Floats of one sample in the largest tensor that a layer reads."""
        return max(
            math.prod(_TOKENS if size is None else size for size in tap.shape)
            for tap in self.description.layers
        )

    def __reduce__(self) -> tuple[Any, ...]:
        names = [tap.layer for tap in self.taps]
        asked = Asked(names, self.grid, self.size, self.description.output, self.mask)
        return _reload, (self.path, asked, self.threads, self.class_names)


def _session_of(model: Any, path: Path, axes: Mapping[str, int], threads: int) -> Session:
    """Of a tapped ModelProto, to be opened when a row is asked for.

    At once where weights lie in other files, which may change till then.
    """
    graph, (bare, weights) = Graph(model), without_weights(model)
    opener = partial(
        open_session, bare.SerializeToString(), folder=path.parent, threads=threads, path=path,
        weights=weights,
    )  # fmt: skip
    if any(external_tensors(model)):
        return Session.of(opener(), axes)
    return Session(opener, input_specs(graph, axes), batch_of(graph, axes), axes)


def _reload(path: Path, asked: Asked, threads: int, class_names: Any) -> OnnxBackbone:
    return replace(OnnxBackbone._read(path, asked, threads), class_names=class_names)
