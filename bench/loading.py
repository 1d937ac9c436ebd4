"""What loading a model as .onnx costs beside a plain open of the file and a few forward passes.

    python bench/loading.py MODEL.onnx ... [--repeat 5]

A line a model: sessions opened and samples run by ``skip2lora.load``, processor seconds of a plain
open, of as many passes in it (two or three), of ``load``, and of ``load`` with a first row.
"""

from __future__ import annotations

import one_thread  # noqa: F401  (first)

# isort: split
import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime

import skip2lora as s2
from skip2lora.backbones.alone import batches_of
from skip2lora.backbones.noise import random_samples


def least(call: Callable[[], Any], repeat: int) -> float:
    """The least processor seconds of some calls."""
    seconds = []
    for _ in range(repeat):
        began = time.process_time()
        call()
        seconds.append(time.process_time() - began)
    return min(seconds)


def plain(path: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])


def counted(path: str) -> tuple[int, int]:
    """Sessions and samples of a load."""
    counts = [0, 0]

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            counts[0] += 1
            super().__init__(*arguments, **options)

        def run(self, wanted: Any, feed: Any, options: Any = None) -> Any:
            counts[1] += len(next(iter(feed.values())))
            return super().run(wanted, feed, options)

    own, onnxruntime.InferenceSession = onnxruntime.InferenceSession, Session
    try:
        s2.load(path)
    finally:
        onnxruntime.InferenceSession = own
    return counts[0], counts[1]


def measure(path: str, repeat: int) -> str:
    model = s2.load(path)
    session, sizes = plain(path), [len(batch) for batch in batches_of(model.session.batch)]
    x = random_samples(model, max(sizes), open_size=16 if model.size is None else None)
    arrays = {
        spec.name: x if len(model.inputs) == 1 else x.arrays[spec.name] for spec in model.inputs
    }

    def passes() -> None:
        for size in sizes:
            session.run(None, {name: array[:size] for name, array in arrays.items()})

    passes()
    opened, ran = least(lambda: plain(path), repeat), least(passes, repeat)
    loaded = least(lambda: s2.load(path), repeat)
    first = least(lambda: s2.load(path).forward(model.check(x)), repeat)
    n_sessions, n_samples = counted(path)
    facts = {
        "sessions": n_sessions, "samples": n_samples, "open": opened, "passes": ran,
        "load": loaded, "over": loaded - opened - ran, "load and a row": first,
    }  # fmt: skip
    said = (f"{name} {f'{n:.3f}' if type(n) is float else n}" for name, n in facts.items())
    return f"{Path(path).name}: {', '.join(said)}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for path in options.models:
        print(measure(path, options.repeat), flush=True)


if __name__ == "__main__":
    main()
