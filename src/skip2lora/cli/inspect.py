"""``skip2lora inspect``: what a model, an adapter, a lab set or a data file holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from skip2lora.adapted import MODEL_FILE
from skip2lora.adapters.folder import describe, is_adapter
from skip2lora.adapters.rows import FLOAT_BYTES, RowFormat
from skip2lora.arrays import Inputs, listing
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.inputs import NO_MASK
from skip2lora.backbones.loading import CONFIG_FILE, load
from skip2lora.backbones.masks import MEANINGS
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.outputs import OutputSpec
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.data.file_folder import SENSORS, SOUNDS
from skip2lora.data.file_folder import kind_of as kind_of_files
from skip2lora.data.images import describe_images
from skip2lora.data.media import KEYS, media_from_json
from skip2lora.data.reading import is_data, read_samples
from skip2lora.data.recordings import describe_recordings
from skip2lora.data.samples import Samples
from skip2lora.data.sensors import describe_sensors
from skip2lora.errors import DataError, ParameterError
from skip2lora.files import kind_of
from skip2lora.limits import check_file, is_folder
from skip2lora.plan import TapPlan, described
from skip2lora.training.lab_set import KIND, LabSet


def _model(path: Path, output_name: str | None, mask: str | None) -> dict[str, Any]:
    model = load(path, output=output_name, mask=mask)
    layers = described(model.tappable, copied=not model.first_tap_is_input)
    facts: dict[str, Any] = {"kind": "model"}
    if isinstance(model, MLP):
        facts |= {
            "widths": list(model.widths),
            "batch_norm": model.batch_norm,
            "n_parameters": model.n_parameters,
        }
    else:
        facts |= {
            "inputs": [
                {"name": of.name, "shape": list(of.shape), "dtype": str(np.dtype(of.dtype))}
                for of in model.inputs
            ],
            "n_outputs": model.n_outputs,
            "task": model.task,
            "mask": model.mask,
            "notes": list(model.notes) or None,
        }
    chosen = {tap.layer for tap in model.taps}
    return facts | {
        "class_names": model.class_names,
        "columns": model.columns.to_json() or None,
        **({} if model.images is None else {model.images.key: model.images.to_json()}),
        **common.output_facts(model),
        "taps": list(model.tap_widths),
        "layers": [asdict(layer) | {"tapped": layer.layer in chosen} for layer in layers],
        "cache_bytes_a_sample": _row_bytes(model),
        "fingerprint": model.fingerprint,
    }


def _row_bytes(model: Backbone) -> int:
    """Of an encoder, whose rows have outputs once some are learned: those of its taps."""
    if model.n_outputs == 0:
        return FLOAT_BYTES * sum(model.tap_widths)
    return RowFormat.of(model).payload_bytes


def _layer_lines(layers: list[dict[str, Any]]) -> list[str]:
    """A table of layers; those that would be tapped are marked."""
    plans = [TapPlan(**{k: v for k, v in of.items() if k != "tapped"}) for of in layers]
    head, *lines = common.tap_lines(plans)
    marks = ["*" if of["tapped"] else " " for of in layers]
    n_tapped = marks.count("*")
    return [
        f"{len(layers)} layers that can be tapped, {n_tapped} by default (*)",
        f" {head}",
        *(f"{mark}{line}" for mark, line in zip(marks, lines, strict=True)),
    ]


def _outputs(facts: dict[str, Any]) -> dict[str, str]:
    """The output that is taken, and the others, for a person."""
    specs = [OutputSpec(**of) for of in facts["outputs"]]
    taken = None if facts["output"] is None else facts["output"]["name"]
    others = ", ".join(str(spec) for spec in specs if spec.name != taken)
    lines = {"output": next((str(spec) for spec in specs if spec.name == taken), "none")}
    return {**lines, "other outputs": others} if others else lines


def _answers(samples: Samples) -> dict[str, Any]:
    """How many samples each class has, or from where to where each number goes."""
    y = samples.y
    if y is None:
        return {"samples_a_class": None}
    if y.ndim == 1:
        numbers, counts = np.unique(y, return_counts=True)
        names = samples.class_names
        of = {
            str(number) if names is None else names[number]: int(n)
            for number, n in zip(numbers.tolist(), counts, strict=True)
        }
        return {"samples_a_class": of}
    names = samples.class_names or tuple(map(str, range(y.shape[1])))
    if ((y == 0) | (y == 1)).all():
        totals = y.sum(axis=0).astype(int).tolist()
        return {"samples_a_label": dict(zip(names, totals, strict=True))}
    ranges = zip(names, y.min(axis=0).tolist(), y.max(axis=0).tolist(), strict=True)
    return {"targets": {name: {"smallest": low, "largest": high} for name, low, high in ranges}}


def _data(path: Path, columns: dict[str, Any]) -> dict[str, Any]:
    samples = read_samples(path, task=None, labels_required=False, **columns)
    common.say_notes(samples.notes)
    if isinstance(samples.x, Inputs):
        shapes = {name: list(array.shape[1:]) for name, array in samples.x.arrays.items()}
        return {
            "kind": "data",
            "n_samples": len(samples.x),
            "inputs": shapes,
            **_answers(samples),
        }
    table = samples.x.ndim == 2
    return {
        "kind": "data",
        "n_samples": len(samples.x),
        "n_features" if table else "shape": samples.x.shape[1] if table else samples.x.shape[1:],
        "smallest": float(samples.x.min()),
        "largest": float(samples.x.max()),
        **_answers(samples),
    }


def _lab_set(path: Path) -> dict[str, Any]:
    lab_set = LabSet.read(path)
    return {
        "kind": KIND,
        "n_samples": len(lab_set),
        "task": lab_set.task.name,
        **_answers(Samples(lab_set.base_logits, lab_set.answers)),
        "n_outputs": lab_set.base_logits.shape[1],
        "taps": [tap.shape[1] for tap in lab_set.taps],
        "tapped": list(lab_set.layers),
        "base_fingerprint": lab_set.fingerprint,
        "bytes": path.stat().st_size,
    }


def _facts(
    path: Path, columns: dict[str, Any], output_name: str | None, mask: str | None
) -> dict[str, Any]:
    if not is_folder(path):
        check_file(path, "a model, an adapter folder or data")
    for option, value in (("--output-name", output_name), ("--mask", mask)):
        if value is not None and not _is_model(path):
            raise ParameterError(
                f"{option} is {value}, but {path} is no model, expected one: leave it out"
            )
    if is_adapter(path):
        return {"kind": "adapter", **describe(path)}
    if is_data(path):
        return _data(path, columns)
    if not is_folder(path) and SENSORS.holds(path):
        return describe_sensors(path)
    if _is_model(path):
        return _model(path, output_name, mask)
    return _images(path) if is_folder(path) else _lab_set(path)


def _is_model(path: Path) -> bool:
    """Whether it is one as far as its name tells."""
    if is_folder(path):
        return (path / MODEL_FILE).exists() and not is_adapter(path)
    return not is_data(path) and kind_of(path) != KIND


def _images(path: Path) -> dict[str, Any]:
    """A folder of images, recordings or streams, or one that is none of ours."""
    kind = kind_of_files(path)
    if kind is SOUNDS:
        return describe_recordings(path)
    try:
        return describe_sensors(path) if kind is SENSORS else describe_images(path)
    except DataError as error:
        raise DataError(
            f"{path} holds no adapter, no model and no images by class ({error}), expected "
            f"{CONFIG_FILE}, {MODEL_FILE} or a folder of images a class: check the path"
        ) from error


def _text(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"smallest", "largest"}:
        return f"{_text(value['smallest'])} to {_text(value['largest'])}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        integers = all(isinstance(v, int) for v in value)
        return "-".join(map(str, value)) if integers else ", ".join(map(_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@click.command(
    cls=Command, short_help="Describe a model, an adapter, a lab set or a data file.",
    example="skip2lora inspect model.onnx",
)  # fmt: skip
@click.argument("path", metavar="FILE-OR-FOLDER", type=click.Path(path_type=Path))
@shared.columns
@shared.output_name
@shared.mask
@shared.as_json
def command(
    path: Path, output_name: str | None, mask: str | None, as_json: bool, **options: Any
) -> None:
    """Describe a model, an adapter folder, a lab set or a data file."""
    facts = _facts(path, common.columns_of(options, "train"), output_name, mask)
    layers = facts.get("layers")
    shown = {name.replace("_", " "): value for name, value in facts.items() if value is not None}
    shown.pop("layers", None)
    if facts["kind"] == "model":
        del shown["outputs"]
        shown |= _outputs(facts)
    if facts["kind"] == "model" and facts.get("mask") not in (None, NO_MASK):
        shown["mask"] = f"{facts['mask']} ({MEANINGS[facts['mask'].rpartition('=')[2]]})"
    for key in KEYS if facts["kind"] in ("adapter", "model") else ():
        if key in shown:
            media = media_from_json(shown.pop(key))
            shown[media.files] = str(media)
    for name, names in (shown.pop("columns", None) or {}).items():
        shown[name if name == "features" else f"columns {name}"] = listing(names)
    if "input size" in shown:
        shown["input size"] = common.shape_text(shown["input size"])
    if "inputs" in shown and facts["kind"] == "model":
        shown["inputs"] = [
            f"{of['name']} {of['dtype']} {common.shape_text(of['shape'])}" for of in facts["inputs"]
        ]
    if "tensors" in shown:
        shown["tensors"] = [
            f"{name} {' x '.join(map(str, of))}" for name, of in facts["tensors"].items()
        ]
    width = max(map(len, shown))
    common.show(
        facts,
        [f"{name:<{width}}  {_text(value)}" for name, value in shown.items()]
        + (_layer_lines(layers) if layers else []),
        as_json=as_json,
    )
