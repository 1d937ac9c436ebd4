"""What taps and an exported adapter cost: milliseconds a prediction beside the plain model.

    python bench/tapping.py MODEL.onnx|MODEL.tflite ... [--rounds 20] [--json]

One sample at a time, one thread. The runs alternate, so that a change in the machine's speed meets
all of them, and ratios are formed round by round. A .tflite model is not exported.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import skip2lora as s2
from harness import Side
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.arrays import Inputs
from skip2lora.backbones.noise import random_samples
from skip2lora.bench import OPEN_SIZE

SECONDS = 0.2  # a side and round


def random_adapters(backbone: Any, rank: int = 4) -> SkipAdapters:
    random = np.random.default_rng(0)
    lora_a, lora_b = (
        tuple(random.normal(size=shape).astype(np.float32) for shape in shapes)
        for shapes in (
            [(width, rank) for width in backbone.tap_widths],
            [(rank, backbone.n_outputs or 2) for _ in backbone.tap_widths],
        )
    )
    return SkipAdapters(lora_a, lora_b)


def plain_onnx(path: Path, sample: Any) -> Callable[[], object]:
    from skip2lora.backbones.onnx.session import open_session

    session = open_session(path)
    given = session.get_inputs()
    feed = sample.arrays if isinstance(sample, Inputs) else {given[0].name: sample}
    wanted = [session.get_outputs()[0].name]
    return lambda: session.run(wanted, feed)


def plain_litert(path: Path, backbone: Any, sample: Any) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    arrays = list(sample.arrays.values()) if isinstance(sample, Inputs) else [sample]
    given = [
        (of["index"], spec.read(array).reshape(of["shape"]))
        for of, spec, array in zip(
            interpreter.get_input_details(), backbone.inputs, arrays, strict=True
        )
    ]
    wanted = interpreter.get_output_details()[0]["index"]

    def run() -> object:
        for index, array in given:
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return interpreter.get_tensor(wanted)

    return run


def plain_torch(module: Any, sample: Any) -> Callable[[], object]:
    import torch

    tensor = torch.from_numpy(sample)

    def run() -> object:
        with torch.no_grad():
            return module(tensor)

    return run


def measure(
    model: Any, *, rounds: int, sample: Any = None, adapted: s2.AdaptedModel | None = None
) -> dict[str, Any]:
    """Spreads of milliseconds of each side, and of the ratios to the plain model.

    ``model`` is a file or a PyTorch module with the one it was ``adapted`` to; ``sample`` is one or
    several that the backbone checked, by default a random one. Times are of one sample.
    """
    backbone: Any = s2.load(model) if adapted is None else adapted.backbone
    x = random_samples(backbone, 1, open_size=OPEN_SIZE) if sample is None else sample
    if x is None:
        raise s2.ModelError(f"{model} takes no noise, expected a model that does: pass a sample")
    calls = {}
    if not isinstance(model, Path):
        calls["plain"] = plain_torch(model, x)
    elif model.suffix == ".tflite":
        calls["plain"] = plain_litert(model, backbone, x)
    else:
        calls["plain"] = plain_onnx(model, x)
        calls["exported"] = exported(backbone, adapted, x)
    calls["tapped"] = lambda: backbone.forward(x)
    sides = {name: Side(call, len(x)) for name, call in calls.items()}
    took = harness.in_turn(sides, rounds=rounds, seconds=SECONDS)
    return {
        "ms": {name: harness.spread(seconds, 1000) for name, seconds in took.items()},
        "ratio": {
            name: harness.ratios(seconds, took["plain"])
            for name, seconds in took.items()
            if name != "plain"
        },
    }


def exported(backbone: Any, adapted: s2.AdaptedModel | None, x: Any) -> Callable[[], object]:
    from skip2lora.export.onnx import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "exported.onnx"
        export_onnx(backbone, adapted.adapters if adapted else random_adapters(backbone), out)
        return plain_onnx(out, x)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {}
    for path in options.models:
        try:
            result = results[str(path)] = measure(path, rounds=options.rounds)
        except s2.Skip2LoraError as error:
            parser.error(str(error))
        if options.json:
            continue
        print(f"{path.name}: {harness.shown(result['ms']['plain'], 'ms')}")
        for name, ratio in result["ratio"].items():
            ends = ", ".join(f"{100 * (ratio[end] - 1):+.1f}" for end in ("smallest", "largest"))
            print(f"  {name:9} {100 * (ratio['median'] - 1):+6.1f} %  ({ends})")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
