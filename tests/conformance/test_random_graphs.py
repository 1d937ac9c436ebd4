"""Random graphs: a sample alone is the sample in a batch, exported, and in float64; or refused.

``pytest tests/conformance/test_random_graphs.py --graphs 20000`` tries more than the suite does;
``--first-graph`` is the first seed, so that one that failed can be tried alone.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnxruntime

import onnx_models as nets
import skip2lora as s2
from conformance.random_graphs import N_SAMPLES, Drawn, draw
from skip2lora.backbones.standins import Bare, Headless
from skip2lora.errors import ModelError
from skip2lora.export.onnx import export_onnx
from skip2lora.tasks.task import softmax

SHARE = 1e-4  # of the largest number
A_TEST = 25  # graphs in a test


def close(one: Any, other: Any, what: str, largest: float = 0) -> None:
    """Equal to ``SHARE`` of the largest number, here or of all samples."""
    assert np.shape(one) == np.shape(other), f"{what} {np.shape(one)} for {np.shape(other)}"
    apart, largest = np.abs(one - other).max(initial=0), np.abs(other).max(initial=largest)
    assert apart <= SHARE * max(1e-3, largest), f"{what} {apart:.2g} apart, of {largest:.2g}"


def session_of(model: bytes | Path) -> Any:
    """In stock onnxruntime, every node as it stands there."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    if isinstance(model, bytes):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options)


def row_of(tap: Any, values: np.ndarray) -> np.ndarray:
    """The row of one sample, whose tensor was computed alone, in float64."""
    values = values.astype(np.float64)
    if tap.kind == "vector":
        return values.ravel()
    if tap.kind == "sequence":
        tokens = values.reshape(-1, values.shape[-1])
        return np.concatenate([tokens.mean(axis=0), tokens[0]])
    if tap.channels_last:
        values = np.moveaxis(values, -1, 1)
    sample = values[0]
    for axis, n_cells in enumerate(tap.grid, start=1):
        size = sample.shape[axis]
        cells = [
            sample.take(range(at * size // n_cells, -(-(at + 1) * size // n_cells)), axis).mean(
                axis
            )
            for at in range(n_cells)
        ]
        sample = np.stack(cells, axis)
    return sample.ravel()


class Reference:
    """The graph in stock onnxruntime, one sample at a time, with any tensor as an output."""

    def __init__(self, drawn: Drawn, tensors: list[str]) -> None:
        model = type(drawn.model)()
        model.CopyFrom(drawn.model)
        if drawn.batch and drawn.batch > 1:  # nothing inside says so
            for value in (*model.graph.input, *model.graph.output):
                value.type.tensor_type.shape.dim[0].dim_param = "n"
        shown = {value.name for value in model.graph.output} | {"x"}
        model.graph.output.extend(
            nets.value(name, None) for name in dict.fromkeys(tensors) if name not in shown
        )
        self.session = session_of(model.SerializeToString())
        self.axis = drawn.axis

    def alone(self, x: np.ndarray, name: str) -> list[np.ndarray]:
        """A tensor for each sample."""
        if name == "x":
            return [x[at : at + 1] for at in range(len(x))]
        return [self.run(x[at : at + 1], [name])[0] for at in range(len(x))]

    def run(self, x: np.ndarray, names: list[str]) -> list[np.ndarray]:
        return self.session.run(names, {"x": x.swapaxes(0, 1) if self.axis else x})


def adapt_drawn(backbone: Any, drawn: Drawn, random: np.random.Generator) -> Any:
    """With any task, new classes, outputs left out."""
    x, n_outputs = drawn.feed["x"], backbone.n_outputs
    keep = bool(random.random() < 0.8)
    new = keep and drawn.end != "Sigmoid" and bool(random.random() < 0.3)
    task, y = "classification", np.arange(len(x)) % (n_outputs + new)
    if drawn.end == "Sigmoid":
        task, y = "multi-label", np.arange(len(x) * n_outputs).reshape(len(x), -1) % 2
    elif not new and random.random() < 0.3:
        task, y = "regression", random.normal(size=(len(x), n_outputs))
    return s2.adapt(
        backbone, x, y, task=task, new_classes=new, keep_outputs=keep, epochs=2, rank=2,
        learning_rate=0.05,
    )  # fmt: skip


def exact_logits(adapted: Any, base: np.ndarray, rows: list[np.ndarray]) -> np.ndarray:
    """Eq. 17 in float64."""
    adapters = adapted.adapters
    logits = np.zeros((len(base), adapters.n_outputs))
    if not isinstance(adapted.backbone, Headless):
        logits[:, : base.shape[1]] = base
    for row, a, b in zip(rows, adapters.lora_a, adapters.lora_b, strict=True):
        logits += row @ a.astype(np.float64) @ b.astype(np.float64)
    return logits + (0 if adapters.bias is None else adapters.bias)


def check_outputs(drawn: Drawn, adapted: Any, out: Path, reference: Reference, some: Any) -> None:
    """All outputs of the exported file for ``some`` samples."""
    session, x = session_of(out), drawn.feed["x"][some]
    names = [value.name for value in session.get_outputs()]
    fed = x.swapaxes(0, 1) if drawn.axis else x
    values = dict(zip(names, session.run(None, {"x": fed}), strict=True))
    all_logits = adapted.logits(drawn.feed["x"]).astype(np.float64)
    logits, largest = all_logits[some], float(np.abs(all_logits).max())
    kept = not isinstance(adapted.backbone, Headless | Bare)
    if not kept:  # as is what says of classes in a way that was not learned
        close(values.pop(names[-1]), logits, f"output {names[-1]}", largest)
    for name, made in values.items():
        what = drawn.outputs[name] if kept else "other"
        if what == "label":
            assert made.tolist() == logits.argmax(axis=1).tolist(), "label"
        elif what == "other":
            close(made, np.concatenate(reference.alone(x, name)), name)
        elif what == "logits":
            close(made, logits, name, largest)
        else:
            want = softmax(logits) if drawn.end == "Softmax" else 1 / (1 + np.exp(-logits))
            close(made, want, name)


def check(seed: int, folder: Path) -> str:
    """The graph of a seed is right, refused for the reason that it has, or constant."""
    drawn, random = draw(seed), np.random.default_rng([seed, 1])
    path = nets.save(drawn.model, folder / "m.onnx")
    named = next(name for name, what in drawn.outputs.items() if what in ("logits", "end"))
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            backbone = s2.load(path, output=named if len(drawn.outputs) > 1 else None)
    except ModelError as error:
        if any(f"node {name} " in str(error) for name in drawn.mixing):
            return "refused"
        raise
    for warning in said:
        if "gives the same logits for all samples of noise" in str(warning.message):
            return "constant"
        assert "same in several orders of the samples" in str(warning.message)
    reference = Reference(drawn, ["logits", *(tap.tensor for tap in backbone.taps)])
    x = drawn.feed["x"]
    base = np.concatenate(reference.alone(x, "logits")).astype(np.float64)
    if drawn.mixing:  # it may be nothing in numbers, as where attention looks at its own sample
        close(reference.run(x, ["logits"])[0], base, f"loaded, though {drawn.mixing} mixes")
    if base.std(axis=0).max() < 1e-3 * np.abs(base).max():  # no sample can be told from another
        return "constant"
    tensors = [reference.alone(x, tap.tensor) for tap in backbone.taps]
    rows = [
        np.stack([row_of(tap, values) for values in each])
        for tap, each in zip(backbone.taps, tensors, strict=True)
    ]
    order = random.permutation(N_SAMPLES)
    for some in (slice(None), slice(0, 1), slice(4, 5), order, order[:3]):
        made = backbone.forward(backbone.check(x[some]))
        close(made.base_logits, base[some], "base logits", float(np.abs(base).max()))
        for tap, got, want in zip(backbone.taps, made.taps, rows, strict=True):
            close(got, want[some], f"{tap}", float(np.abs(want).max()))
    adapted = adapt_drawn(backbone, drawn, random)
    exact = exact_logits(adapted, base, rows)
    close(adapted.logits(x), exact, "predicted")
    close(adapted.logits(x[1:2]), exact[1:2], "predicted alone", float(np.abs(exact).max()))
    export_onnx(adapted.backbone, adapted.adapters, folder / "e.onnx")
    batches = {None: [slice(None), slice(1, 2)], 1: [slice(1, 2)]}.get(drawn.batch, [slice(1, 4)])
    for some in batches[1:] if drawn.baked else batches:
        check_outputs(drawn, adapted, folder / "e.onnx", reference, some)
    return "right"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" not in metafunc.fixturenames:
        return
    first = metafunc.config.getoption("--first-graph")
    count = metafunc.config.getoption("--graphs")
    starts = range(first, first + count, A_TEST)
    metafunc.parametrize("seeds", [range(at, min(at + A_TEST, first + count)) for at in starts])


def test_alone_in_a_batch_exported_and_in_float64(seeds: range, tmp_path: Path) -> None:
    faults = {}
    for seed in seeds:
        try:
            check(seed, tmp_path)
        except Exception as error:  # noqa: BLE001, all are told
            faults[seed] = f"{type(error).__name__}: {error}"
    assert not faults, "\n".join(f"--first-graph {seed}: {text}" for seed, text in faults.items())


def test_tokens_as_many_as_samples_whose_numbers_are_the_same(tmp_path: Path) -> None:
    """Signs behind a norm of width 2: which axis has the samples does not show."""
    assert check(37764, tmp_path) == "right"
    with pytest.warns(UserWarning, match="matmul39, /matmul84 reads is not tapped"):
        backbone = s2.load(tmp_path / "m.onnx")
    assert not {"/matmul39", "/matmul84"} & {tap.layer for tap in backbone.tappable}


def test_what_noise_cannot_tell_is_said(tmp_path: Path) -> None:
    """Signals that are 0 for all of it, behind which samples are mixed."""
    assert check(50881, tmp_path) == "constant"


@pytest.mark.parametrize("seed", [21369, 23126])
def test_attention_that_rounds_alone_is_not_taken_for_what_mixes(seed: int, tmp_path: Path) -> None:
    """Its weights are equal but for the last bits; what mixes the samples comes behind it."""
    assert check(seed, tmp_path) == "refused"
