"""Try real model files: each works from loading to export, or the line it is refused with.

    python tools/real_models.py FOLDER [--only PART] [--json]

prints one line a file below FOLDER. For each: load, a sample alone = in a batch, adapt to three
classes of random samples, save and load, export = predict, prepare, plan. Answers mean nothing
here, whether they agree does. Each file has a process of its own, and a time limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import skip2lora as s2
from skip2lora.arrays import Inputs
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.loading import load_for_images
from skip2lora.errors import DataError, ModelError, ParameterError, Skip2LoraError
from skip2lora.plan import plan

SUFFIXES = (".onnx", ".tflite", ".xml", ".safetensors", ".ort")
_LIMIT_SECONDS = 150
_SAMPLES = 9
_OPEN_SIZE = 64  # of an image, or tokens, where they are open
_SOUND = 8000  # values of a recording of any length
_ANSWERS = {"output": 0, "mask": "none"}  # to what a model asks
_SAME = 1e-4  # of the largest logit, as exported and predicted must agree


def models_below(folder: Path, part: str) -> list[Path]:
    """Files with a suffix of a model whose path has ``part`` in it, in order."""
    files = (path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    return sorted(path for path in files if part in str(path))


def loaded(path: Path) -> Backbone:
    """The model, with an answer to what it asks: the first output, a mask that is none."""
    told: dict[str, Any] = {}
    while True:
        try:
            return load_for_images(path, (_OPEN_SIZE, _OPEN_SIZE), **told)
        except ParameterError as error:
            asked = [key for key in _ANSWERS if key not in told and f" {key}=" in str(error)]
            if not asked:
                raise
            told[asked[0]] = _ANSWERS[asked[0]]


def samples_of(model: Backbone) -> Any:
    """Checked random samples that the model takes, with as many different tokens as it knows."""
    for n_tokens in (256, 9):
        samples = _random(model, n_tokens)
        try:
            model.forward(samples)
        except (DataError, ModelError):
            continue
        return samples
    return _random(model, 2)


def _random(model: Backbone, n_tokens: int) -> Any:
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    mask, _, meaning = (model.mask or "").partition("=")
    for spec in model.inputs:
        kind = np.dtype(spec.dtype).kind
        longest = _SOUND if spec.shape == (None,) and kind == "f" else _OPEN_SIZE
        shape = (_SAMPLES, *(size or longest for size in spec.shape))
        if spec.name == mask:  # all tokens count
            value = {"tokens": 1, "lengths": _OPEN_SIZE}.get(meaning, 0)
            arrays[spec.name] = np.full(shape, value, spec.dtype)
        elif kind == "f":
            arrays[spec.name] = random.normal(size=shape).astype(np.float32)
        else:
            arrays[spec.name] = random.integers(0, n_tokens, shape).astype(spec.dtype)
    return model.check(arrays if len(arrays) > 1 else next(iter(arrays.values())))


def part_of(samples: Any, index: slice) -> Any:
    """Some of the samples."""
    if isinstance(samples, Inputs):
        return Inputs({name: array[index] for name, array in samples.arrays.items()})
    return samples[index]


def apart(one: Any, other: Any) -> float:
    """The largest difference, of the largest number."""
    if one.size == 0:
        return 0.0
    return float(np.abs(one - other).max() / max(float(np.abs(one).max()), 1e-6))


def exported_logits(path: Path, samples: Any, model: Backbone) -> Any:
    """What the exported file gives in the stock runtime, in its output of new classes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    arrays = samples.arrays if isinstance(samples, Inputs) else {model.inputs[0].name: samples}
    names = [each.name for each in session.get_outputs()]
    wanted = next(name for name in reversed(names) if "logits" in name)
    from skip2lora.backbones.onnx.backbone import OnnxBackbone

    step = model.session.batch if isinstance(model, OnnxBackbone) else None
    step = step or _SAMPLES
    parts = []
    for at in range(0, _SAMPLES // step * step, step):
        feed = {name: array[at : at + step] for name, array in arrays.items()}
        parts.append(_last_of(session, wanted, feed, model, step))
    return np.concatenate(parts)


def _last_of(
    session: Any, wanted: str, feed: dict[str, Any], model: Backbone, n_samples: int
) -> Any:
    """The output of the last call, where samples are sequences of calls."""
    from skip2lora.backbones.onnx.backbone import OnnxBackbone

    stream = model.stream if isinstance(model, OnnxBackbone) else None
    if stream is None:
        return session.run([wanted], feed)[0]
    states = {
        each.name: np.zeros([size if isinstance(size, int) else n_samples for size in each.shape])
        for each in session.get_inputs()
        if each.name in stream.states
    }
    states = {name: state.astype(np.float32) for name, state in states.items()}
    values: list[Any] = []
    for number in range(next(iter(feed.values())).shape[1]):
        call = {name: array[:, number] for name, array in feed.items()}
        values = session.run([wanted, *stream.states.values()], call | states)
        states = dict(zip(stream.states, values[1:], strict=True))
    return values[0]


def tried(path: Path) -> dict[str, Any]:
    """What came of one file."""
    facts: dict[str, Any] = {"file": path.name, "wrong": [], "refused": []}
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _try(path, facts)
    except Skip2LoraError as error:
        facts["refused"].append(f"{facts.get('step', 'load')}: {error}")
    except Exception as error:  # noqa: BLE001, what has no line of its own is a defect
        facts["wrong"].append(f"{facts.get('step', 'load')}: {type(error).__name__}: {error}")
    facts["seconds"] = round(time.perf_counter() - start, 1)
    return facts


def _try(path: Path, facts: dict[str, Any]) -> None:
    model = loaded(path)
    facts |= {"taps": len(model.taps), "outputs": model.n_outputs, "notes": list(model.notes)}
    facts["step"] = "alone = batch"
    samples = samples_of(model)
    rows = model.forward(samples)
    alone = [model.forward(part_of(samples, slice(at, at + 1))) for at in range(_SAMPLES)]
    for number, tap in enumerate(rows.taps):
        single = np.concatenate([row.taps[number] for row in alone])
        if apart(tap, single) > _SAME:
            facts["wrong"].append(
                f"alone = batch: tap {model.taps[number].layer} {apart(tap, single):.2g}"
            )
    facts["step"] = "adapt"
    y = np.arange(_SAMPLES) % 3
    adapted = s2.adapt(model, samples, y, epochs=2, keep_outputs=False, task="classification")
    predicted = adapted.logits(samples)
    facts["step"] = "save and load"
    with tempfile.TemporaryDirectory() as folder:
        adapted.save(f"{folder}/adapter")
        again = s2.AdaptedModel.load(loaded(path), f"{folder}/adapter")
        if not np.array_equal(again.logits(samples), predicted):
            facts["wrong"].append("save and load: other logits")
        if path.suffix in (".onnx", ".toml"):
            _try_onnx(path, Path(folder), adapted, samples, predicted, facts)
    facts["step"] = "plan"
    plan(model, samples, n_outputs=3, keep_outputs=False)


def _try_onnx(
    path: Path, folder: Path, adapted: Any, samples: Any, predicted: Any, facts: dict[str, Any]
) -> None:
    from skip2lora.backbones.onnx.preparing import prepare
    from skip2lora.export.onnx import export_onnx

    model = adapted.base
    facts["step"] = "export"
    try:
        export_onnx(adapted.backbone, adapted.adapters, folder / "out.onnx", samples=samples)
    except Skip2LoraError as error:
        facts["refused"].append(f"export: {error}")
    else:
        exported = exported_logits(folder / "out.onnx", samples, model)
        difference = apart(predicted[: len(exported)], exported)
        facts["export"] = difference
        if not difference <= _SAME:
            facts["wrong"].append(f"export: {difference:.2g} from predict")
    facts["step"] = "prepare"
    out = folder / "tapped.onnx"
    prepare(path, out, size=model.size, output=model.output, mask=model.mask)
    prepared = s2.load(out)
    if prepared.tap_widths != model.tap_widths:
        facts["wrong"].append("prepare: other taps")


def line_of(facts: dict[str, Any]) -> str:
    """One line for a person."""
    if facts["wrong"]:
        return f"WRONG    {facts['file']}: {'; '.join(facts['wrong'])}"
    if facts["refused"]:
        word = "refused " if "taps" not in facts else "partly  "
        return f"{word} {facts['file']}: {'; '.join(facts['refused'])}"
    at = "" if "export" not in facts else f", exported within {facts['export']:.1e}"
    return f"works    {facts['file']}: {facts['taps']} taps, {facts['outputs']} outputs{at}"


def in_its_own_process(path: Path) -> dict[str, Any]:
    """The same, out of reach of a runtime that crashes or does not come back."""
    command = [sys.executable, __file__, "--one", str(path)]
    lost = {"file": path.name, "refused": []}
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return lost | {"wrong": [f"not done after {_LIMIT_SECONDS} s"]}
    if done.returncode:
        return lost | {"wrong": [f"exit {done.returncode}: {done.stderr.strip()[-200:]}"]}
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def main() -> None:
    """Print one line a file, and how many of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="files whose path has this in it")
    parser.add_argument("--json", action="store_true", help="one JSON object a file")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(tried(asked.folder)))
        return
    counts = dict.fromkeys(("works", "partly", "refused", "WRONG"), 0)
    for path in models_below(asked.folder, asked.only):
        facts = in_its_own_process(path)
        line = line_of(facts)
        counts[line.split()[0]] += 1
        print(json.dumps(facts) if asked.json else line, flush=True)
    print(", ".join(f"{count} {name}" for name, count in counts.items()), flush=True)


if __name__ == "__main__":
    main()
