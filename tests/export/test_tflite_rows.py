"""Taps in the graph: maps of any grid, sequences with a mask, blocks, no axis of samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert: group runtimes")

import tflite_models as nets
from onnx_exports import expected, random_adapters
from skip2lora.backbones.litert.file import Tensor
from skip2lora.backbones.taps import Tap, rows_of, tap_of
from skip2lora.errors import ModelError
from skip2lora.export.tflite import export_tflite
from skip2lora.export.tflite_front import Front
from skip2lora.export.tflite_nodes import Nodes
from skip2lora.export.tflite_rows import add_tap
from tflite_exports import Stock

Refused = Callable[..., str]
SHAPES = {
    "vector": (5,),
    "a single place": (1, 1, 5),
    "sequence": (4, 3),
    "even grid": (8, 4, 3),
    "uneven grid": (7, 5, 3),
    "even and uneven": (8, 6, 2),
    "narrow": (2, 9, 2),
    "blocks": (2, 6, 4, 3),
}


def row_in_graph(
    tap: Tap, shape: tuple[int, ...], x: np.ndarray, *, batched: bool = True
) -> np.ndarray:
    """The row of ``x`` times the unit matrix, which shows what each column of it is."""
    file = nets.File()
    sizes = (1, *shape) if batched else shape
    given, out = file.tensor("x", sizes), file.tensor("y", (1, tap.width))
    front = Front(file.pack([given], [out]), "a test")
    nodes = Nodes(front)
    tensor = Tensor(given, "x", "float32", sizes)
    row = add_tap(nodes, tap, tensor, np.eye(tap.width, dtype=np.float32), "tap")
    made = nodes.product(row.node, row.lora_a, "row")
    nodes.reshaped(made, made.shape, "out", into=out)
    return next(iter(Stock(front.content()).run(x).values()))


@pytest.mark.parametrize("name", SHAPES)
def test_a_row_is_that_of_the_cache(name: str) -> None:
    shape = SHAPES[name]
    squeezed = shape if np.prod(shape[:-1]) != 1 else shape[-1:]
    tap = tap_of("layer", "x", squeezed, grid=4, most_axes=2)
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    want = rows_of(tap, x.reshape(3, *squeezed))
    np.testing.assert_allclose(row_in_graph(tap, shape, x), want, rtol=0, atol=2e-6)


def test_a_tensor_without_an_axis_of_samples() -> None:
    """(4, 3) as such, as a flattened product has it, is one sequence of four tokens."""
    tap = tap_of("layer", "x", (4, 3))
    x = np.random.default_rng(1).normal(size=(2, 4, 3)).astype(np.float32)
    got = row_in_graph(tap, (4, 3), x, batched=False)
    np.testing.assert_allclose(got, rows_of(tap, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("meaning", "counting", "padding", "dtype"),
    [
        ("tokens", 1, 0, "int32"), ("padding", 0, 1, "int32"), ("tokens", 1, 0, "float32"),
        ("additive", 0, -1e4, "float32"),
    ],
)  # fmt: skip
def test_a_mask(
    meaning: str, counting: float, padding: float, dtype: str, tmp_path: Path
) -> None:  # fmt: skip
    """The mean of the tokens that count alone, as in the cache; each meaning of a mask."""
    file, random = nets.File(), np.random.default_rng(0)
    x, mask = file.tensor("tokens", (1, 4, 3)), file.tensor("mask", (1, 4), dtype)
    weight = file.constant("w", random.normal(size=(2, 3)).astype(np.float32))
    bias = file.constant("b", np.zeros(2, np.float32))
    made, y = file.tensor("made", (1, 4, 2)), file.tensor("y", (1, 2))
    axis = file.constant("axis", np.array(1, np.int32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [made], keepNumDims=True)
    file.operator("MEAN", [made, axis], [y], keepDims=False)
    model = nets.loader(tmp_path)(file.pack([x, mask], [y]), mask=f"mask={meaning}")
    tokens = random.normal(size=(5, 4, 3)).astype(np.float32)
    counts = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    masks = np.where(counts == 1, counting, padding).astype(dtype)
    adapters, feed = random_adapters(model), {"tokens": tokens, "mask": masks}
    out = tmp_path / "a.tflite"
    export_tflite(model, adapters, out, samples=feed)
    (got,) = Stock(out).run(tokens, masks).values()
    np.testing.assert_allclose(got, expected(model, adapters, feed), rtol=0, atol=1e-5)


def test_sizes_that_change_are_refused(refused: Refused) -> None:
    file = nets.File()
    given, out = file.tensor("x", (1, 4, 3)), file.tensor("y", (1, 3))
    nodes = Nodes(Front(file.pack([given], [out]), "a test"))
    tensor, lora_a = Tensor(given, "x", "int8", None), np.eye(6, dtype=np.float32)
    tap = tap_of("layer", "x", (4, 3))
    assert "tensor x has sizes that change" in refused(
        ModelError, add_tap, nodes, tap, tensor, lora_a, "tap"
    )
    tap = tap_of("layer", "x", (None, 3))
    assert "layer layer reads (None, 3) of a sample" in refused(
        ModelError, add_tap, nodes, tap, tensor, lora_a, "tap"
    )


def test_floats_whose_sizes_only_running_shows(tmp_path: Path) -> None:
    """As BirdNET's spectrogram has its frames and the batch in one axis."""
    random, file = np.random.default_rng(0), nets.File()
    x = file.tensor("x", (1, 12), signature=(-1, 12))
    frames = file.tensor("frames", (1, 1), signature=(-1, -1))
    seen = file.tensor("seen", (1, 3), signature=(-1, 3))
    fields = file.constant("fields", np.array([-1, 4], np.int32))
    row = file.constant("row", np.array([-1, 9], np.int32))
    weight, last = (random.normal(size=size).astype(np.float32) for size in ((3, 4), (2, 9)))
    weights = [file.constant("w", weight), file.constant("b", np.zeros(3, np.float32))]
    ends = [file.constant("v", last), file.constant("c", np.zeros(2, np.float32))]
    line, out = file.tensor("line", (1, 9)), file.tensor("out", (1, 2))
    file.operator("RESHAPE", [x, fields], [frames], newShape=[-1, 4])
    file.operator("FULLY_CONNECTED", [frames, *weights], [seen], keepNumDims=True)
    file.operator("RESHAPE", [seen, row], [line], newShape=[-1, 9])
    file.operator("FULLY_CONNECTED", [line, *ends], [out])
    model = nets.loader(tmp_path)(file.pack([x], [out]))
    assert [tap.shape for tap in model.taps] == [(3, 4), (9,)]
    samples, adapters = random.normal(size=(5, 12)).astype(np.float32), random_adapters(model)
    made = tmp_path / "a.tflite"
    export_tflite(model, adapters, made, samples=samples)
    (got,) = Stock(made).run(samples).values()
    np.testing.assert_allclose(got, expected(model, adapters, samples), rtol=0, atol=1e-5)
