"""Files of OpenVINO: read, checked, and told apart by what they compute."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from skip2lora.backbones.openvino.runtime import core, reason_of
from skip2lora.errors import ModelError
from skip2lora.files import unreadable
from skip2lora.limits import check_file

_HEAD = re.compile(r'\ufeff?\s*(?:<\?xml[^>]*\?>)?\s*<net\b[^<]*?\bversion="(\d+)"')
_OLDEST = 10  # of the format; what OpenVINO reads since 2020
_DATA = re.compile(r"<data\b[^>]*>")
_OFFSET, _SIZE = re.compile(r'\boffset="(\d+)"'), re.compile(r'\bsize="(\d+)"')


def read_model(path: Path) -> Any:
    """The network at ``path``, whose weights are in the ``.bin`` of the same name.

    Raises:
        FileError: a file is missing or cannot be read.
        ModelError: damaged, no model of OpenVINO, or the weights of another model.
    """
    weights = path.with_suffix(".bin")
    check_file(path, "a model of OpenVINO")
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{path} is damaged: {error}, expected UTF-8: copy or convert it again"
        ) from error
    head = _HEAD.match(text)
    if head is None:
        raise ModelError(
            f"{path} is no model of OpenVINO, expected <net ...> with a version: write one with "
            "openvino.save_model"
        )
    if int(head[1]) < _OLDEST:
        raise ModelError(
            f"{path} has version {int(head[1])} of the format, expected {_OLDEST} or later: "
            "convert the model again with a newer OpenVINO"
        )
    _check_weights(path, text, weights)
    try:
        model = core().read_model(str(path), str(weights))
    except RuntimeError as error:
        raise ModelError(
            f"{path} is damaged or not supported: {reason_of(error)}, expected a whole model: "
            "copy or convert it again"
        ) from error

    _check_pads(path, model)
    return model


def _check_pads(path: Path, model: Any) -> None:
    """Refuse a Pad beyond any size, with which the runtime writes where it must not."""
    for node in model.get_ordered_ops():
        if node.get_type_info().name != "Pad":
            continue
        for source in node.input_values()[1:3]:
            of = source.get_node()
            if (
                of.get_type_info().name == "Constant"
                and (abs(of.data.astype(float)) >= 2**31).any()
            ):
                raise ModelError(
                    f"{path} is damaged: {node.get_friendly_name()} pads by {of.data.tolist()}, "
                    "expected sizes of an image: copy or convert it again"
                )


def _check_weights(path: Path, text: str, weights: Path) -> None:
    """Whether ``weights`` is as long as the .xml says, which a file of another model is not."""
    places = [(_OFFSET.search(data), _SIZE.search(data)) for data in _DATA.findall(text)]
    ends = [int(offset[1]) + int(size[1]) for offset, size in places if offset and size]
    size = check_file(weights, f"the weights of {path.name}")
    if size != max(ends, default=0):
        raise ModelError(
            f"{weights} has {size} bytes, {path.name} expects {max(ends, default=0)}, so "
            "it is truncated or belongs to another model: copy both files again"
        )


def fingerprint(model: Any) -> str:
    """SHA-256 of what the network computes: operators, weights, inputs and outputs.

    Names of files and of operators do not count, nor what is said about them; names of tensors do,
    as inputs, outputs and taps are called by them.
    """
    state = hashlib.sha256()
    places: dict[str, int] = {}
    for place, node in enumerate(model.get_ordered_ops()):
        places[node.get_name()] = place
        kind = node.get_type_info()
        read = [each.get_source_output() for each in node.inputs()]
        operator = [
            kind.name,
            kind.version_id,
            node.get_attributes(),
            [(places.get(each.get_node().get_name(), -1), each.get_index()) for each in read],
            [sorted(output.get_names()) for output in node.outputs()],
        ]
        state.update(json.dumps(operator, sort_keys=True, default=str).encode())
        if kind.name == "Constant":
            state.update(node.data)
    return f"sha256:{state.hexdigest()}"
