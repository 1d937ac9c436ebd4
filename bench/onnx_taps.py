"""What taps and an exported adapter cost: milliseconds a prediction beside the plain model.

Usage: python bench/onnx_taps.py MODEL.onnx [--batch 1] [--rounds 50] [--taps N] [--json]
The runs alternate, so that a change in the machine's speed meets all of them. Printed is the
fastest tenth, as other programs may run beside.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from skip2lora.adapters import SkipAdapters
from skip2lora.backbones.onnx import OnnxBackbone
from skip2lora.backbones.onnx_session import open_session, run_options
from skip2lora.export.onnx_graph import export_onnx

OPEN_SIZE = 64  # where the model leaves a size open


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--taps", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    best = measure(options.model, options.batch, options.rounds, options.taps)
    base = best["base"]
    if options.json:
        print(json.dumps(best))
        return
    for name, milliseconds in best.items():
        print(f"{name:9} {milliseconds:9.3f} ms  {100 * (milliseconds / base - 1):+6.1f} %")


def measure(model: Path, batch: int, rounds: int, taps: int | None) -> dict[str, float]:
    backbone = OnnxBackbone.load(model, taps=taps)
    random = np.random.default_rng(0)
    feed = {}
    for spec in backbone.inputs:
        shape = [batch, *(size or OPEN_SIZE for size in spec.shape)]
        floats = spec.dtype.startswith("float")
        values = random.normal(size=shape) if floats else np.ones(shape)
        feed[spec.name] = values.astype(spec.dtype)
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "exported.onnx"
        export_onnx(backbone, random_adapters(backbone, random), exported)
        sessions = {"base": open_session(model), "exported": open_session(exported)}
    names = {name: [sessions[name].get_outputs()[0].name] for name in sessions}
    described = backbone.description
    wanted = [*described.outputs, *([described.logits] if described.logits else [])]
    calls: dict[str, Callable[[], object]] = {
        "base": lambda: sessions["base"].run(names["base"], feed),
        "tapped": lambda: backbone.session.run(wanted, feed, run_options()),
        "exported": lambda: sessions["exported"].run(names["exported"], feed),
    }
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 3):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_ >= 3:
                spent[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.quantile(times, 0.1)) for name, times in spent.items()}


def random_adapters(
    backbone: OnnxBackbone, random: np.random.Generator, rank: int = 4
) -> SkipAdapters:
    lora_a, lora_b = (
        tuple(random.normal(size=shape).astype(np.float32) for shape in shapes)
        for shapes in (
            [(width, rank) for width in backbone.tap_widths],
            [(rank, backbone.n_outputs or 2) for _ in backbone.tap_widths],
        )
    )
    return SkipAdapters(lora_a, lora_b)


if __name__ == "__main__":
    main()
