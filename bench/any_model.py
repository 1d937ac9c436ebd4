"""Adapts real pretrained models with the defaults; writes any_model.json, docs/any-model.md.

    python bench/any_model.py [MODEL ...] [--seeds 7] [--accuracy] [--json]

Weights and data are fetched once by `python bench/models/fetch.py`. Named models replace those of
an earlier any_model.json, the others stay; with --accuracy the times of predictions stay too.
Last-layer LoRA is the same training with the input of the last layer as its only tap. Every sample
passes a model once, in whatever seeds it is: all that is compared reads the same rows.
"""

from __future__ import annotations

from harness import environment  # isort: skip  # first: one thread

import argparse
import hashlib
import importlib.metadata
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import any_model_page
import models
import row_peers
import skip2lora as s2
import tapping
import text
from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.known_rows import KnownRows

BENCH = Path(__file__).resolve().parent
RESULTS = BENCH / "any_model.json"
ROUNDS = 100  # of predictions: the pace of a shared machine swings by a tenth
AT_ONCE = 64  # samples that a PyTorch module predicts, as many as when a cache is filled
ACCURACIES = (
    "none", "last_layer", "last_layer_unscaled", "logistic_last", "ridge_last", "logistic_all",
    "ridge_all", "skip2_lora", "auto",
)  # fmt: skip
LIBRARIES = ("numpy", "scikit-learn", "onnxruntime", "ai-edge-litert", "torch")


def opened(job: models.Job) -> Any:
    """The backbone of a job, with the default taps."""
    if isinstance(job.model, Path):
        return s2.load(job.model)
    from skip2lora.backbones.torch.backbone import TorchBackbone

    return TorchBackbone(job.model, example=job.x[:2])


class Rows:
    """Rows of samples, all taps copied: each passes the model once, whatever seeds have it."""

    def __init__(self, model: Backbone) -> None:
        self._model, self.format = model, RowFormat.of(model, copy_input=True)
        self._rows: dict[bytes, NDArray[np.float32]] = {}

    def of(self, x: Any) -> tuple[NDArray[np.float32], float]:
        """Rows of the samples, and the CPU seconds that those not seen before took."""
        inputs = list(x.values()) if isinstance(x, dict) else [x]
        keys = [
            hashlib.blake2b(b"".join(of[row].tobytes() for of in inputs)).digest()
            for row in range(len(inputs[0]))
        ]
        new = [row for row, key in enumerate(keys) if key not in self._rows]
        samples = self._model.check(x)[np.array(new, np.int64)]
        cache = SkipCache.of(self.format, len(new))
        start = time.process_time()
        if new:
            cache.fill(self._model, samples)
        took = time.process_time() - start
        self._rows |= {keys[row]: of.copy() for row, of in zip(new, cache.rows, strict=True)}
        rows = self.format.empty(len(keys))
        for row, key in zip(rows, keys, strict=True):
            row[:] = self._rows[key]
        return rows, took


def peers(
    known: KnownRows, job: models.Job, rows: NDArray[np.float32], tests: NDArray[np.float32]
) -> dict[str, float]:
    """Accuracies of scikit-learn's linear models on the last tap, and on all of them."""
    places = list(zip(known.layout.tap_offsets, known.tap_widths, strict=True))
    accuracies = {}
    for name, chosen in (("last", places[-1:]), ("all", places)):
        parts = (
            np.concatenate([of[:, at : at + width] for at, width in chosen], axis=1)
            for of in (rows, tests)
        )
        train, test = row_peers.axes(*parts)
        for peer in (row_peers.logistic, row_peers.ridge):
            accuracies[f"{peer.__name__}_{name}"] = peer(train, job.y, test, job.test_y)
    return accuracies


def run_seed(job: models.Job, model: Backbone, rows_of: Rows, seed: int) -> dict[str, Any]:
    """Accuracies on the test samples and what they cost."""
    model.forward(model.check(job.x)[:2])  # warm
    rows, seconds = rows_of.of(job.x)
    tests, _ = rows_of.of(job.test_x)
    layout = rows_of.format.layout
    known = KnownRows(model.tap_widths, model.n_outputs, layout)

    def adapted(**options: Any) -> tuple[float, s2.AdaptedModel, float]:
        start = time.process_time()
        of = s2.adapt(known, rows, job.y, **job.options, **options)
        took = time.process_time() - start
        return float((of.predict(tests) == job.test_y).mean()), of, took

    accuracy, defaults, by_steps = adapted(solver="steps", seed=seed)
    of_auto, auto, by_auto = adapted(recipe="auto")
    if auto.history is None:
        raise SystemExit("a trained model has its history")
    held_out = auto.history.held_out
    base = tests[:, layout.logits_offset :][:, : model.n_outputs].argmax(axis=1)
    return {
        "none": 0.0 if job.new_classes else float((base == job.test_y).mean()),
        "last_layer": adapted(method="lora-last", seed=seed)[0],
        "last_layer_unscaled": adapted(method="lora-last", seed=seed, standardize=False)[0],
        "skip2_lora": accuracy,
        "auto": of_auto,
        **peers(known, job, rows, tests),
        "held_out": None if held_out is None else [held_out.value, held_out.low, held_out.high],
        "mix": {each.name: round(each.weight, 3) for each in auto.history.tried},
        "cache_bytes_per_sample": defaults.cache_bytes / len(job.y),
        "parameters": defaults.trainable_parameters,
        "auto_parameters": auto.trainable_parameters,
        "cache_fill_ms": 1e3 * seconds,
        "training_ms": 1e3 * by_steps,
        "auto_ms": 1e3 * by_auto,
    }


def run_model(name: str, n_seeds: int, earlier: Any = None) -> dict[str, Any]:
    """What is written of a model; ``earlier`` has the time of its predictions, else measured."""
    make, runs, job, model = models.maker(name), [], None, None
    for seed in range(n_seeds):
        before, job = job, make(seed)
        if model is None or before is None or before.model != job.model:
            model = opened(job)
            rows = Rows(model)
        start = time.perf_counter()
        runs.append(run_seed(job, model, rows, seed))
        took = time.perf_counter() - start
        print(f"{name}, seed {seed}: {runs[-1]} ({took:.0f} s)", file=sys.stderr, flush=True)
    if job is None or model is None:
        raise SystemExit("--seeds must be at least 1")
    said, at = models.about(name), environment()
    timed = {"prediction": None, "environment": at} if earlier is None else earlier
    if earlier is None:
        adapted = s2.adapt(model, job.x, job.y, **job.options, solver="steps")
        sample = model.check(job.x)[: 1 if isinstance(job.model, Path) else AT_ONCE]
        timed["prediction"] = tapping.measure(
            job.model, rounds=ROUNDS, sample=sample, adapted=adapted
        )
        print(f"{name}: {timed['prediction']}", file=sys.stderr, flush=True)
    return {
        "title": said.title, "modality": said.modality, "model": said.model, "task": said.task,
        "own_labels": not job.new_classes, "n_samples": len(job.y), "n_test": len(job.test_y),
        "n_taps": len(model.tap_widths), "widths": list(model.tap_widths),
        "n_layers": len(model.layers),
        "accuracy": {key: [round(run[key], 4) for run in runs] for key in ACCURACIES},
        "held_out": [run["held_out"] and [round(of, 4) for of in run["held_out"]] for run in runs],
        "mix": [run["mix"] for run in runs],
        "cache_bytes_per_sample": round(runs[0]["cache_bytes_per_sample"]),
        **{key: runs[0][key] for key in ("parameters", "auto_parameters")},
        "cache_fill_ms": round(runs[0]["cache_fill_ms"], 1),  # no row is known yet
        **{
            key: round(statistics.median(run[key] for run in runs), 1)
            for key in ("training_ms", "auto_ms")
        },
        "accuracy_commit": at["commit"],
        "prediction": timed["prediction"],
        "environment": timed["environment"],
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(models.NAMES))
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--accuracy", action="store_true", help="keep the times of predictions")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.models) - set(models.NAMES))
    if unknown:
        parser.error(f"{unknown[0]} is no model, expected one of {', '.join(models.NAMES)}")
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for name in arguments.models or models.NAMES:
        earlier = results.get(name) if arguments.accuracy else None
        results[name] = run_model(name, arguments.seeds, earlier)
        ordered = {key: results[key] for key in models.NAMES if key in results}
        text.write_text(RESULTS, text.compact(ordered))
        any_model_page.write(ordered)
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
