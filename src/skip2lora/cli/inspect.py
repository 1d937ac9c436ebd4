"""``skip2lora inspect``: what a model, an adapter or a data file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from skip2lora.adapt import CONFIG_FILE, describe
from skip2lora.backbones import load
from skip2lora.cli import common
from skip2lora.data import read_samples
from skip2lora.errors import FileError
from skip2lora.rows import RowFormat

_DATA = (".npz", ".csv", ".parquet")


def _model(path: Path) -> dict[str, Any]:
    model = load(path)
    return {
        "kind": "model",
        "widths": list(model.widths),
        "batch_norm": model.batch_norm,
        "n_parameters": model.n_parameters,
        "class_names": model.class_names,
        "taps": list(model.tap_widths),
        "cache_bytes_a_sample": 4 * RowFormat.of(model).payload_floats,
        "fingerprint": model.fingerprint,
    }


def _data(path: Path) -> dict[str, Any]:
    samples = read_samples(path, labels_required=False)
    counts = None
    if samples.y is not None:
        numbers, n = np.unique(samples.y, return_counts=True)
        names = samples.class_names or tuple(map(str, range(int(numbers.max()) + 1)))
        counts = {names[number]: int(of) for number, of in zip(numbers, n, strict=True)}
    return {
        "kind": "data",
        "n_samples": samples.x.shape[0],
        "n_features": samples.x.shape[1],
        "smallest": float(samples.x.min()),
        "largest": float(samples.x.max()),
        "samples_a_class": counts,
    }


def _facts(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileError(f"{path} does not exist, expected a model, an adapter folder or data")
    if path.is_dir() and (path / CONFIG_FILE).exists():
        return {"kind": "adapter", **describe(path)}
    if path.suffix in _DATA:
        return _data(path)
    return _model(path)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return (
            "-".join(map(str, value))
            if all(isinstance(v, int) for v in value)
            else ", ".join(value)
        )
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@click.command(short_help="Describe a model, an adapter or a data file.")
@click.argument("path", metavar="FILE-OR-FOLDER", type=click.Path(path_type=Path))
@common.as_json
def command(path: Path, as_json: bool) -> None:
    """Describe a model, an adapter folder or a data file."""
    facts = _facts(path)
    shown = {name.replace("_", " "): value for name, value in facts.items() if value is not None}
    if "tensors" in shown:
        shown["tensors"] = [
            f"{name} {' x '.join(map(str, of))}" for name, of in facts["tensors"].items()
        ]
    width = max(map(len, shown))
    common.show(
        facts,
        [f"{name:<{width}}  {_text(value)}" for name, value in shown.items()],
        as_json=as_json,
    )
