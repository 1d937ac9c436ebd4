"""An adapted model as one .tflite file: base, taps, pooling and adapters inside.

The adapters' sum is added to the base logits, before the last activation; inputs, outputs and
signatures are those of the base, whose bytes stay behind a new front part
(:mod:`skip2lora.export.tflite_front`). Integers end in floats: what stands behind integer logits is
computed again in float, so that the sum is not rounded or cut off. Where the base has no logits, or
they are left out or taken for another task, the sum is an output of its own (Eq. 17).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from skip2lora.adapters.adapters import Result
from skip2lora.arrays import SamplesLike
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.derived import DerivedTap
from skip2lora.backbones.litert.exported import ENTRY
from skip2lora.backbones.masks import mask_of
from skip2lora.backbones.taps import Tap
from skip2lora.errors import FileError, ModelError, warn
from skip2lora.export.labels import decides
from skip2lora.export.tflite_base import Base, read_base
from skip2lora.export.tflite_check import check_tflite
from skip2lora.export.tflite_front import Front
from skip2lora.export.tflite_head import Head
from skip2lora.export.tflite_nodes import Node, Nodes
from skip2lora.export.tflite_rows import Row, add_counts, add_derived, add_tap
from skip2lora.export.tflite_zip import with_labels
from skip2lora.files import check_output, label_lines, write_together
from skip2lora.tasks.thresholds import Thresholds

#: The file of names of classes, beside a model.
LABELS = "labels.txt"


def export_tflite(
    backbone: Backbone,
    adapters: Result,
    out: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    description: Mapping[str, str] | None = None,
    samples: SamplesLike | None = None,
    replace_labels: bool = False,
    thresholds: Thresholds | None = None,
) -> list[Path]:
    """Write base and adapters as one file for the stock LiteRT interpreter.

    ``class_names`` are written as ``labels.txt`` beside it, a line each; one that is there with
    other names, such as that of the base, is replaced if told so. ``description`` joins
    fingerprint, rank and layers in the metadata: ``said.entries()`` of an adapted model, so that
    the file is loaded again with its names. Before anything is written, the logits are
    compared with those of the adapted model on a few of ``samples``, or random ones.
    ``thresholds`` are written into the metadata as the adapter's folder has them; outputs that say
    what is predicted, not how likely it is, would not go by them, and are left out with a warning.

    Returns the files that were written.

    Raises:
        ModelError: the base has a state or control flow, sizes that change or tables of a later
            format; the adapters do not fit it; logits differ; no output is left; or the file would
            pass 2 GB.
        DataError: samples the model cannot take.
        ParameterError: a name of a class is no line of text.
        FileError: the system refused, or there are other labels.
    """
    target = check_output(out, force=True)
    labels = {} if class_names is None else {target.with_name(LABELS): label_lines(class_names)}
    for path, lines in labels.items():
        if not replace_labels and path.is_file() and path.read_bytes() != lines:
            raise FileError(
                f"{path} exists and has other names than the {len(class_names or ())} classes, "
                "expected none: write the model into another folder, or pass replace_labels=True"
            )
    content, _ = tflite_with(
        backbone, adapters, description=description, samples=samples, thresholds=thresholds
    )
    content = with_labels(content, backbone.base.n_outputs, class_names, target)
    files = {target: content, **labels}
    write_together({path: _writer(data) for path, data in files.items()})
    return list(files)


def _writer(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def tflite_with(
    backbone: Backbone,
    adapters: Result,
    *,
    description: Mapping[str, str] | None = None,
    samples: SamplesLike | None = None,
    thresholds: Thresholds | None = None,
) -> tuple[bytes, int]:
    """The bytes of the file, checked as :func:`export_tflite` says; the tensor of the logits.

    Raises:
        ModelError, DataError: as there.
    """
    base = read_base(backbone, adapters)
    front = Front(base.graph.content, base.backbone.path)
    head = Head(base, Nodes(front), samples)
    bias, lora_b = base.adapters.bias, np.concatenate(base.adapters.lora_b).astype(np.float64)
    if bias is None:
        bias = np.zeros(base.adapters.n_outputs, np.float32)
    turned = None if base.apart or base.columns is None else np.linalg.pinv(base.columns)
    if turned is not None:
        lora_b, bias = lora_b @ turned, (bias @ turned).astype(np.float32)
    rows = _rows(base, front, head)
    head.nodes.behind = head.last
    hidden = [
        head.nodes.product(row.node, row.lora_a, f"hidden.{number}")
        for number, row in enumerate(rows)
    ]
    joined = head.nodes.joined(hidden, "hidden")
    added = head.nodes.product(joined, lora_b.astype(np.float32), "added", bias)
    logits = head.plug(added)
    if thresholds is not None:
        _leave_labels_out(base, front)
    _describe(base, front, logits, description, thresholds)
    content = front.content()
    check_tflite(content, logits, base, samples)
    return content, logits


def _rows(base: Base, front: Front, head: Head) -> list[Row]:
    """The rows of all sources, each behind the operator that makes what it reads."""
    nodes, makers, counts = head.nodes, base.makers(), None
    backbone = base.backbone
    mask = backbone.mask and mask_of(backbone.mask, backbone.inputs, backbone.path)
    sequences = [of for of in base.sources if isinstance(of, Tap) and of.kind == "sequence"]
    if mask and sequences:
        nodes.behind = -1
        counts = add_counts(nodes, base.graph, mask)
    rows: list[Row] = []
    shared: dict[str, Node] = {}
    for number, (source, tensor) in enumerate(zip(base.sources, base.tensors, strict=True)):
        title, lora_a = f"tap.{number}", base.adapters.lora_a[number]
        if isinstance(source, DerivedTap):
            nodes.behind = -1
            sample = Node(base.graph.inputs[0].index, base.graph.inputs[0].sample_shape)
            node = add_derived(nodes, source, sample, head.base_logits, shared, title)
            rows.append(Row(node, lora_a))
        elif tensor is not None:
            nodes.behind = makers.get(tensor.index, -1)
            rows.append(add_tap(nodes, source, tensor, lora_a, title, counts))
    return rows


def _leave_labels_out(base: Base, front: Front) -> None:
    """Leave out what follows from the logits and says what is predicted, whatever thresholds.

    Raises:
        ModelError: there is no other output.
    """
    end, path = base.end, base.backbone.path
    if end is None or base.apart:
        return
    outputs = zip(base.graph.outputs, base.backbone.outputs, strict=True)
    deciding = {
        of.tensor.index: of.name for of, spec in outputs
        if of.tensor.index in front.outputs
        and end.logits.index in base.graph.ancestors(of.tensor.index)
        and (decides(of.end) or spec.ending == "labels")
    }  # fmt: skip
    names = ", ".join(deciding.values())
    front.outputs = [index for index in front.outputs if index not in deciding]
    if not front.outputs:
        raise ModelError(
            f"{path}: output {names} cannot go by the thresholds of the adapter, expected another "
            "output, of probabilities: adapt without precision="
        )
    if deciding:
        warn(
            f"{path}: output {names} is left out, as it cannot go by the thresholds of the adapter"
        )


def _output(base: Base, front: Front, logits: int) -> int | None:
    """The number of the output that has the adapted ``logits``, or follows from them."""
    end = base.backbone.end
    if base.apart or end is None:
        return front.outputs.index(logits)
    same = [of.tensor.index for of in base.graph.outputs if of.logits == end.logits]
    shown = (index for index in (end.tensor.index, *same) if index in front.outputs)
    return next(map(front.outputs.index, shown), None)


def _describe(
    base: Base,
    front: Front,
    logits: int,
    description: Mapping[str, str] | None,
    thresholds: Thresholds | None,
) -> None:
    facts = {
        "base_fingerprint": base.fingerprint,
        "rank": base.adapters.rank,
        "taps": [of.layer if isinstance(of, Tap) else of.kind for of in base.sources],
        "version": version("skip2lora"),
        **(description or {}),
        **({} if thresholds is None else {"thresholds": thresholds.to_json()}),
    }
    if (output := _output(base, front, logits)) is not None:
        facts["output"] = output
    front.metadata(ENTRY, json.dumps(facts).encode())
