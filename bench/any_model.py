"""Adapts real pretrained models with the defaults; writes any_model.json, docs/any-model.md.

    python bench/any_model.py [MODEL ...] [--seeds 3] [--json]

Weights and data are fetched once by `python bench/models/fetch.py`. Named models replace those of
an earlier any_model.json, the others stay. Last-layer LoRA is the same training with the input of
the last layer as its only tap.
"""

from __future__ import annotations

from harness import environment  # isort: skip  # first: one thread

import argparse
import importlib.metadata
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import any_model_page
import models
import skip2lora as s2
import tapping
import text
from skip2lora.backbones.base import Backbone

BENCH = Path(__file__).resolve().parent
RESULTS = BENCH / "any_model.json"
ROUNDS = 100  # of predictions: the pace of a shared machine swings by a tenth
AT_ONCE = 64  # samples that a PyTorch module predicts, as many as when a cache is filled
LIBRARIES = ("numpy", "scikit-learn", "onnxruntime", "ai-edge-litert", "torch")


def opened(job: models.Job) -> Any:
    """The backbone of a job, with the default taps."""
    if isinstance(job.model, Path):
        return s2.load(job.model)
    from skip2lora.backbones.torch.backbone import TorchBackbone

    return TorchBackbone(job.model, example=job.x[:2])


def _score(adapted: s2.AdaptedModel, job: models.Job) -> float:
    return float((adapted.predict(job.test_x) == job.test_y).mean())


def logistic_regression(job: models.Job, last: Backbone) -> float:
    """Accuracy of scikit-learn's on the scaled inputs of the last layer, run to its end."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    given, tests = (
        last.forward(last.check(x)).taps[-1] for x in (job.x, job.test_x)
    )  # fmt: skip
    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    return float(peer.fit(given, job.y).score(tests, job.test_y))


def run_seed(
    job: models.Job, model: Backbone, last: Backbone, seed: int
) -> tuple[dict[str, float], s2.AdaptedModel]:
    """Accuracies on the test samples and what the defaults cost, and what they made."""
    samples = model.check(job.x)
    model.forward(samples[:2])  # warm
    adapted = s2.adapt(model, job.x, job.y, new_classes=job.new_classes, seed=seed)
    lora_last = s2.adapt(last, job.x, job.y, new_classes=job.new_classes, seed=seed)
    plain = s2.adapt(last, job.x, job.y, new_classes=job.new_classes, seed=seed, standardize=False)
    if adapted.timing is None:
        raise SystemExit("a trained model has its timing")
    made = {
        "none": 0.0 if job.new_classes else model.score(job.test_x, job.test_y),  # type: ignore[attr-defined]
        "last_layer": _score(lora_last, job),
        "logistic": logistic_regression(job, last),
        "last_layer_unscaled": _score(plain, job),
        "skip2_lora": _score(adapted, job),
        "cache_bytes_per_sample": adapted.cache_bytes / len(job.y),
        "parameters": adapted.trainable_parameters,
        "cache_fill_ms": adapted.timing.cache_fill_ms,
        "training_ms": adapted.timing.training_ms,
    }
    return made, adapted


def run_model(name: str, n_seeds: int) -> dict[str, Any]:
    make, runs, job, model = models.maker(name), [], None, None
    for seed in range(n_seeds):
        job = make(seed)
        if model is None:
            model = opened(job)
            last = model.with_taps([-1])
        start = time.perf_counter()
        made, adapted = run_seed(job, model, last, seed)
        runs.append(made)
        took = time.perf_counter() - start
        print(f"{name}, seed {seed}: {runs[-1]} ({took:.0f} s)", file=sys.stderr, flush=True)
    if job is None or model is None:
        raise SystemExit("--seeds must be at least 1")
    said = models.about(name)
    n_samples = 1 if isinstance(job.model, Path) else AT_ONCE
    sample = model.check(job.x)[:n_samples]
    prediction = tapping.measure(job.model, rounds=ROUNDS, sample=sample, adapted=adapted)
    print(f"{name}: {prediction}", file=sys.stderr, flush=True)
    return {
        "title": said.title, "modality": said.modality, "model": said.model, "task": said.task,
        "own_labels": not job.new_classes, "n_samples": len(job.y), "n_test": len(job.test_y),
        "n_taps": len(model.tap_widths), "widths": list(model.tap_widths),
        "n_layers": len(model.layers),
        "accuracy": {
            key: [round(run[key], 4) for run in runs]
            for key in ("none", "last_layer", "last_layer_unscaled", "logistic", "skip2_lora")
        },
        "cache_bytes_per_sample": round(runs[0]["cache_bytes_per_sample"]),
        "parameters": runs[0]["parameters"],
        **{
            key: round(statistics.median(run[key] for run in runs), 1)
            for key in ("cache_fill_ms", "training_ms")
        },
        "prediction": prediction,
        "environment": environment(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(models.NAMES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.models) - set(models.NAMES))
    if unknown:
        parser.error(f"{unknown[0]} is no model, expected one of {', '.join(models.NAMES)}")
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for name in arguments.models or models.NAMES:
        results[name] = run_model(name, arguments.seeds)
        ordered = {key: results[key] for key in models.NAMES if key in results}
        text.write_text(RESULTS, text.compact(ordered))
        any_model_page.write(ordered)
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
