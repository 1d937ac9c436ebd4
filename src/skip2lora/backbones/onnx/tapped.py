"""A tapped copy of an ONNX model, and the description it carries in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from skip2lora.backbones.onnx.anatomy import Anatomy, anatomy
from skip2lora.backbones.onnx.branches import without_branches
from skip2lora.backbones.onnx.ends import REWRITTEN, float_activations
from skip2lora.backbones.onnx.file import damaged, fingerprint
from skip2lora.backbones.onnx.graph import RECURRENT, Fault, Graph, faults_of
from skip2lora.backbones.onnx.rows import PREFIX, add_rows
from skip2lora.backbones.onnx.sizes import fix_size
from skip2lora.backbones.onnx.states import stream_of
from skip2lora.backbones.onnx.straight import straight_part
from skip2lora.backbones.outputs import OutputSpec
from skip2lora.backbones.said import DAMAGED, Said
from skip2lora.backbones.streams import STREAM_KEY, Stream
from skip2lora.backbones.taps import Selection, Tap, chosen, chosen_taps
from skip2lora.errors import ModelError, first_line

KEY = "skip2lora"
#: Of the entries that an exported file says of what was learned.
SAID_PREFIX = "skip2lora."
#: The entry in which a chain says what it leaves out.
CHAIN_KEY = "skip2lora.chain"
_VERSION = 1


@dataclass(frozen=True)
class Description:
    """What a tapped model says of itself.

    ``outputs[k]`` is the name of the output with the rows of ``layers[places[k]]``. ``logits`` is
    the name of the output with the base logits, None for a model without any. ``size`` is the
    height and width that open axes of its images were fixed to. ``output`` is the name of that of
    ``model_outputs`` whose logits these are. ``axes`` hold the samples of inputs that do not have
    them along the first. ``mask`` says which input says what tokens count, None where none may.
    ``cut`` says before what the model was cut, None for one that runs straight through; ``rounded``
    by how much a sample alone differs from the same one in a batch, or what of it is not known;
    None for next to nothing. ``class_names`` are what a table in the model calls the outputs.
    ``stream`` are the states of a model that is called again and again, None for one without.
    """

    fingerprint: str
    layers: tuple[Tap, ...]
    places: tuple[int, ...]
    outputs: tuple[str, ...]
    logits: str | None
    n_outputs: int
    task: str
    grid: int
    size: tuple[int, int] | None = None
    model_outputs: tuple[OutputSpec, ...] = ()
    output: str | None = None
    axes: dict[str, int] = field(default_factory=dict)
    mask: str | None = None
    cut: str | None = None
    rounded: str | None = None
    class_names: tuple[str, ...] | None = None
    stream: Stream | None = None

    @cached_property
    def taps(self) -> tuple[Tap, ...]:
        """The layers that were chosen, in order."""
        return tuple(self.layers[place] for place in self.places)

    @cached_property
    def tap_widths(self) -> tuple[int, ...]:
        """Floats of each of their rows."""
        return tuple(tap.width for tap in self.taps)

    def chosen(self, taps: Selection) -> Description:
        """The same of fewer taps, all of them for None."""
        if taps is None:
            return self
        places = chosen([tap.layer for tap in self.layers], taps)
        outputs = tuple(self.outputs[self.places.index(place)] for place in places)
        return replace(self, places=tuple(places), outputs=outputs)

    def to_json(self) -> str:
        """The text that stands in the metadata."""
        return json.dumps({"version": _VERSION, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, path: Path) -> Description:
        """What :meth:`to_json` wrote.

        Raises:
            ModelError: it is damaged, or of another version.
        """
        try:
            fields = json.loads(text)
            if fields.pop("version") != _VERSION:
                raise ModelError(
                    f"{path} was prepared by another version of skip2lora than expected: prepare "
                    "it again"
                )
            layers = tuple(_tap(layer) for layer in fields.pop("layers"))
            places, outputs = tuple(fields.pop("places")), tuple(fields.pop("outputs"))
            size = fields.pop("size", None)
            fixed = None if size is None else (int(size[0]), int(size[1]))
            names, stream = fields.pop("class_names", None), fields.pop("stream", None)
            specs = tuple(_spec(output) for output in fields.pop("model_outputs", ()))
            return cls(
                layers=layers, places=places, outputs=outputs, size=fixed, model_outputs=specs,
                class_names=None if names is None else tuple(map(str, names)),
                stream=None if stream is None else Stream.from_json(stream), **fields,
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, ModelError):
                raise
            raise damaged(path, "its taps are described wrongly") from error


def _tap(fields: dict[str, Any]) -> Tap:
    shape, grid = tuple(fields.pop("shape")), tuple(fields.pop("grid"))
    return Tap(shape=shape, grid=grid, **fields)


def _spec(fields: dict[str, Any]) -> OutputSpec:
    reason = str(fields.get("reason", ""))  # a file prepared before has none
    return OutputSpec(str(fields["name"]), tuple(fields["shape"]), str(fields["ending"]), reason)


@dataclass(frozen=True)
class Asked:
    """How a file is to be tapped; what is None is as in the file, or by default.

    With ``if_open``, ``size`` counts only where the model takes images of any size.
    """

    taps: Selection = None
    grid: int | None = None
    size: tuple[int, int] | None = None
    output: str | int | None = None
    mask: str | None = None
    if_open: bool = False

    def same_output(self, known: Description) -> bool:
        """Whether the output asked for, if any, is that of a prepared file."""
        if type(self.output) is not int:
            return self.output in (None, known.output)
        named = [spec.name == known.output for spec in known.model_outputs]
        return 0 <= self.output < len(named) and named[self.output]

    def fits(self, known: Description) -> bool:
        """Whether a prepared file has all that is asked for."""
        if self.grid not in (None, known.grid) or self.size not in (None, known.size):
            return False
        if not self.same_output(known) or self.mask not in (None, known.mask):
            return False
        names = [tap.layer for tap in known.layers]
        return self.taps is None or set(chosen(names, self.taps)) <= set(known.places)


def metadata_of(model: Any, key: str = KEY) -> str | None:
    """The description in a ModelProto, None in one that was not tapped."""
    return entries_of(model).get(key)


def entries_of(model: Any) -> dict[str, str]:
    """The metadata of a ModelProto."""
    return {entry.key: str(entry.value) for entry in model.metadata_props}


def said_in(entries: Mapping[str, str], path: Path) -> Said:
    """What the metadata of an exported file say of what was learned.

    Raises:
        ModelError: they are damaged.
    """
    own = {
        key.removeprefix(SAID_PREFIX): text
        for key, text in entries.items() if key.startswith(SAID_PREFIX)
    }  # fmt: skip
    try:
        return Said.from_entries(own)
    except DAMAGED as error:
        raise damaged(path, "what it says of what was learned is damaged") from error


def strip(model: Any) -> None:
    """Remove what was added to a base model: nodes, constants, outputs and the description."""
    graph = model.graph
    for parts in (graph.node, graph.initializer, graph.output):
        rest = [part for part in parts if not part.name.startswith(PREFIX)]
        if len(rest) < len(parts):
            del parts[:]
            parts.extend(rest)
    entries = [entry for entry in model.metadata_props if entry.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(entries)


def tap_model(
    model: Any,
    path: Path,
    *,
    taps: Selection,
    grid: int,
    size: tuple[int, int] | None = None,
    output: str | int | None = None,
    mask: str | None = None,
    keep_outputs: bool,
) -> Description:
    """Turn ``model`` into its tapped copy; its taps and the base logits become outputs.

    Raises:
        ModelError: no layers with weights, control flow, state.
        ParameterError: ``taps``, ``grid``, ``size`` or ``output`` does not fit.
    """
    if output is None:  # that which an exported file was adapted for
        adapted = said_in(entries_of(model), path).output
        output = adapted if adapted in {value.name for value in model.graph.output} else None
    parts, graph, print_of_base = understand(
        model, path, grid=grid, size=size, output=output, mask=mask
    )
    states = [value for value in model.graph.output if value.name in graph.states]
    layers = tuple(source.tap for source in parts.sources)
    places, _ = chosen_taps(layers, taps)
    end = None if parts.head is None else parts.head.logits
    logits, outputs = add_rows(graph, parts, [parts.sources[place] for place in places])
    description = Description(
        fingerprint=print_of_base,
        layers=layers,
        places=tuple(places),
        outputs=outputs,
        logits=logits,
        n_outputs=parts.n_outputs,
        task=parts.task,
        grid=grid,
        size=size,
        model_outputs=parts.outputs,
        output=None if parts.head is None else parts.head.output,
        axes={name: axis for name, axis in parts.look.axes.items() if axis},
        mask=parts.mask,
        cut=parts.cut,
        rounded=parts.look.note(end, parts.unsure),
        class_names=parts.class_names,
        stream=parts.stream,
    )
    if not keep_outputs:
        del model.graph.output[:]
        model.graph.output.extend(states)
    _add_outputs(graph, description)
    model.metadata_props.add(key=KEY, value=description.to_json())
    return description


def understand(
    model: Any,
    path: Path,
    *,
    grid: int,
    size: tuple[int, int] | None = None,
    output: str | int | None = None,
    mask: str | None = None,
) -> tuple[Anatomy, Graph, str]:
    """What is in a model, stripped and fixed to ``size`` first, and the fingerprint of its base."""
    text, streams = metadata_of(model), metadata_of(model, STREAM_KEY) is not None
    cut = metadata_of(model, CHAIN_KEY) if text is None else None
    strip(model)
    branched = any(node.op_type == "If" for node in model.graph.node)
    if text is None:
        print_of_base = fingerprint(model, path.parent)
    else:  # taps of integers leave an equal graph, but not the same
        print_of_base = Description.from_json(text, path).fingerprint
    if size is not None:
        fix_size(model, path, size)
    known = None if text is None else Description.from_json(text, path).cut
    if branched:
        cut = "; ".join(filter(None, (cut, without_branches(model, path))))
    cut = cut or known
    graph, said = Graph(model), cut
    faults = tuple(faults_of(graph, path))
    stream = None
    if (faults or streams) and all(map(_carries, faults)):
        stream = stream_of(graph, path)
    if faults and stream is None:
        graph, cut = straight_part(graph, faults)
        cut = "; ".join(filter(None, (said, cut)))
    if not REWRITTEN.isdisjoint(map(attrgetter("op_type"), model.graph.node)):
        reads, states, graph = graph.reads, graph.states, float_activations(graph)
        graph.reads, graph.states = reads, states
    try:
        parts = anatomy(graph, path, grid=grid, output=output, mask=mask)
    except ModelError as error:
        if not faults or stream is not None:
            raise
        raise ModelError(
            f"{path}: {faults[0].what}, and what is before it cannot be tapped "
            f"({first_line(error)}), expected layers with weights there: export the model without "
            "control flow or state"
        ) from error
    return replace(parts, cut=cut, stream=stream), graph, print_of_base


def _carries(fault: Fault) -> bool:
    """Whether a node begins with a state, and is none of chance, loops or branches."""
    return fault.node.op_type in RECURRENT


def _add_outputs(graph: Graph, description: Description) -> None:
    """Make rows and logits outputs, by name and width."""
    widths = dict(zip(description.outputs, description.tap_widths, strict=True))
    if description.logits is not None:
        widths[description.logits] = description.n_outputs
    model, onnx = graph.model, graph.onnx
    for name, width in widths.items():
        kind = onnx.TensorProto.FLOAT
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, [None, width]))
