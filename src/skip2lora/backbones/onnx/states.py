"""States that an ONNX graph takes from one call and gives to the next: which output is which input.

They are known by name and shape where a recurrent layer begins with one, else by what a ``.toml``
says (:mod:`skip2lora.backbones.onnx.chain`), which then stands in the metadata of the graph.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skip2lora.backbones.onnx.graph import RECURRENT, Graph, carried_by, sizes_of
from skip2lora.backbones.streams import CALLS, STREAM_KEY, Stream
from skip2lora.errors import ModelError

# Words by which names of a state differ between the input and the output.
_SIDES = re.compile(
    r"(?:^|(?<=[\W_]))(in|out|input|output|prev|previous|next|new|old|past|present|initial|init"
    r"|last|final|n|0|1)(?=$|[\W_])|(?<=[a-z])(In|Out)(?=$|[\W_])"
)
_NUMBER = re.compile(r"(?<=.)(n|N|0|1)$")


def stream_of(graph: Graph, path: Path) -> Stream | None:
    """The states of a graph, whose axes of samples are put into it; None where it has none.

    Raises:
        ModelError: which output is a state is not known, or how long a call is.
    """
    said = _said(graph, path)
    names = list(said.get("states") or ())
    if not names:
        of_layers = {name for node in _recurrent(graph) for name in carried_by(graph, node)}
        names = [value.name for value in graph.inputs if value.name in of_layers]
        if said and not names:
            names = _likely(graph)
    pairs = said.get("states") or _pairs(graph, names, path)
    if not pairs:
        if said:
            raise ModelError(
                f"{path} has no input that an output carries on, as far as names and shapes tell, "
                'expected states = {INPUT = "OUTPUT"} in [stream] of a .toml: add them'
            )
        return None
    data = [value for value in graph.inputs if value.name not in pairs]
    _check(graph, pairs, data, path)
    _check_hop(said.get("hop"), data, path)
    for name, output in pairs.items():
        axis = _axis(_input(graph, name), data[0])
        graph.states |= {name: axis, output: axis}
    return Stream.from_json({**said, "states": pairs})


def _said(graph: Graph, path: Path) -> dict[str, Any]:
    entries = {entry.key: str(entry.value) for entry in graph.model.metadata_props}
    try:
        said = json.loads(entries.get(STREAM_KEY, "{}"))
        Stream.from_json(said)
        return dict(said)
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} says wrongly which states it has, expected states and calls: export it again"
        ) from error


def checked_stream(stream: Any, n_models: int) -> dict[str, Any] | None:
    """What ``[stream]`` of a ``.toml`` says, if it is said rightly, of one model.

    Raises:
        ValueError, TypeError, AttributeError: it is not.
    """
    if stream is None:
        return None
    if n_models > 1:
        raise ValueError(f"stream of {n_models} models")
    constants = dict(stream).get("constants", {})
    if not all(type(each) in (int, float) for each in constants.values()):
        raise TypeError("constants")
    said = {name: value for name, value in stream.items() if name != "constants"}
    Stream.from_json(said)
    return {"calls": CALLS[0], **said, "constants": dict(constants)}


def say_states(onnx: Any, model: Any, stream: Mapping[str, Any], path: Path) -> Any:
    """Put what was said of its states into a ModelProto, and constants in the place of inputs.

    The first input that is no state.

    Raises:
        ModelError: there is no such input.
    """
    graph = Graph(model)
    for name, number in stream["constants"].items():
        value = next((value for value in graph.inputs if value.name == name), None)
        if value is None or not _fixed(sizes_of(value) or ()):
            raise ModelError(
                f"{path} has no input {name} of fixed size, expected one of "
                f"{', '.join(value.name for value in graph.inputs)}: correct constants of [stream]"
            )
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        full = np.full([int(size or 0) for size in sizes_of(value) or ()], number, kind)
        model.graph.initializer.append(onnx.numpy_helper.from_array(full, name))
    inputs = [value for value in model.graph.input if value.name not in stream["constants"]]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    said = {name: value for name, value in stream.items() if name != "constants"}
    model.metadata_props.add(key=STREAM_KEY, value=json.dumps(said, sort_keys=True))
    graph = Graph(model)
    states = stream.get("states") or _likely(graph)
    data = [value for value in graph.inputs if value.name not in states]
    return (data or graph.inputs)[0]


def _recurrent(graph: Graph) -> list[Any]:
    return [node for node in graph.model.graph.node if node.op_type in RECURRENT]


def _input(graph: Graph, name: str) -> Any:
    return next(value for value in graph.inputs if value.name == name)


def _likely(graph: Graph) -> list[str]:
    """Inputs that an output has nearly the name of, and the shape."""
    outputs = list(graph.model.graph.output)
    return [
        value.name
        for value in graph.inputs
        if any(_fits(value, other) and _same(value.name, other.name) for other in outputs)
    ]


def _same(name: str, other: str) -> bool:
    return bool(_words(name) & _words(other))


def _words(name: str) -> set[str]:
    """What a name may be without the word that says of which side it is."""
    bare = _SIDES.sub("", name).strip("._-/: ").lower() or name.lower()
    return {bare, _NUMBER.sub("", bare).strip("._-/: ")}


def _fits(value: Any, other: Any) -> bool:
    """Whether they have one type, and sizes that may be the same."""
    kinds = {each.type.tensor_type.elem_type for each in (value, other)}
    sizes, others = sizes_of(value), sizes_of(other)
    if len(kinds) > 1 or sizes is None or others is None or len(sizes) != len(others):
        return False
    pairs = zip(sizes, others, strict=True)
    return all(
        one == two or not (isinstance(one, int) and isinstance(two, int)) for one, two in pairs
    )


def _pairs(graph: Graph, names: Sequence[str], path: Path) -> dict[str, str]:
    """Each state with the output that carries it on; none where an output is wanting."""
    pairs: dict[str, str] = {}
    by_name: Callable[[str, str], bool]
    for by_name in (_equal, _same, lambda name, other: True):  # the surest first
        for name in names:
            value = _input(graph, name)
            fitting = [
                output.name
                for output in graph.model.graph.output
                if output.name not in pairs.values()
                and _fits(value, output)
                and by_name(name, output.name)
            ]
            if name in pairs or not fitting:
                continue
            if len(fitting) > 1 and by_name is not _equal:
                raise ModelError(
                    f"{path}: state {name} may be carried on by outputs {' or '.join(fitting)}, "
                    f'expected one of them: say states = {{{name} = "{fitting[0]}"}} in [stream] '
                    "of a .toml"
                )
            if len(fitting) == 1:
                pairs[name] = fitting[0]
    return pairs if len(pairs) == len(names) else {}


def _equal(name: str, other: str) -> bool:
    bare = [_SIDES.sub("", each).strip("._-/: ").lower() for each in (name, other)]
    return bare[0] == bare[1] != ""


def _check(graph: Graph, pairs: Mapping[str, str], data: Sequence[Any], path: Path) -> None:
    """Raise ModelError for pairs that are none, and where the length of a call is open."""
    outputs = {value.name: value for value in graph.model.graph.output}
    inputs = {value.name: value for value in graph.inputs}
    for name, output in pairs.items():
        if name not in inputs or output not in outputs or not _fits(inputs[name], outputs[output]):
            raise ModelError(
                f"{path} has no state {name} that output {output} carries on, expected an input "
                f"({', '.join(inputs)}) and an output ({', '.join(outputs)}) of one shape: correct "
                "[stream] of the .toml"
            )
    if not data or len(set(pairs.values())) < len(pairs):
        raise ModelError(
            f"{path} carries on {', '.join(pairs)} by {', '.join(pairs.values())}, expected an "
            "output for each, and a further input: correct [stream] of the .toml"
        )
    for value in data:
        if not _fixed((sizes_of(value) or ())[1:]):
            raise ModelError(
                f"{path} leaves open how much of input {value.name} a call takes, expected samples "
                "= NUMBER in a .toml that names it: add it"
            )
    for name in pairs:
        sizes, axis = sizes_of(inputs[name]) or (), _axis(inputs[name], data[0])
        if not _fixed((*sizes[:axis], *sizes[axis + 1 :])):
            raise ModelError(
                f"{path} leaves open how large state {name} is, expected fixed sizes: fix them "
                "when exporting it"
            )


def _check_hop(hop: int | None, data: Sequence[Any], path: Path) -> None:
    """Raise ModelError for calls that would leave something out, or go on by different steps."""
    sizes = [sizes_of(value) or () for value in data]
    if hop is None or (len(sizes) == 1 and len(sizes[0]) > 1 and hop <= int(sizes[0][1] or 0)):
        return
    taken = ", ".join(f"{of.name} {list(shape[1:])}" for of, shape in zip(data, sizes, strict=True))
    raise ModelError(
        f"{path} goes on by hop = {hop}, and takes {taken} a call, expected at most as much of one "
        "input: correct [stream] of the .toml"
    )


def _fixed(sizes: Sequence[Any]) -> bool:
    return all(isinstance(size, int) and size > 0 for size in sizes)


def _axis(state: Any, data: Any) -> int:
    """The axis of a state that holds the samples: as the data's is, or open, or of size 1."""
    sizes, batch = sizes_of(state) or (1,), (sizes_of(data) or (None,))[0]
    usual = [1, 0, 2] if len(sizes) == 3 else list(range(len(sizes)))  # as recurrent layers have it
    likely = [axis for axis in usual if sizes[axis] == batch and batch is not None]
    likely += [axis for axis in usual if not isinstance(sizes[axis], int) or sizes[axis] == 0]
    likely += [axis for axis in usual if sizes[axis] == 1]
    return [*likely, 0][0]
