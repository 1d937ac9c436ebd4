"""What a model as ``.onnx`` and its exports must give: rows, and logits with random adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import onnx_models as nets
import skip2lora as s2
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.taps import rows_of
from skip2lora.tasks.task import softmax

Feed = dict[str, np.ndarray]


def random_adapters(
    backbone: Backbone, *, new: int = 0, rank: int = 3, seed: int = 0, first_tap: int = 0
) -> s2.SkipAdapters:
    random = np.random.default_rng(seed)
    widths, n_outputs = backbone.tap_widths[first_tap:], backbone.n_outputs + new

    def normal(*shape: int) -> np.ndarray:
        return (random.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)

    return s2.SkipAdapters(
        tuple(normal(width, rank) for width in widths),
        tuple(normal(rank, n_outputs) for _ in widths),
        first_tap,
        random.normal(size=n_outputs).astype(np.float32),
    )


def expected(backbone: Any, adapters: s2.SkipAdapters, feed: Feed) -> np.ndarray:
    """Eq. 17 in float64, without the code under test."""
    made = backbone.forward(backbone.check(feed))
    logits = np.zeros((len(made.base_logits), adapters.n_outputs))
    logits[:, : backbone.n_outputs] = made.base_logits
    if adapters.bias is not None:
        logits += adapters.bias
    taps = made.taps[adapters.first_tap :]
    for rows, a, b in zip(taps, adapters.lora_a, adapters.lora_b, strict=True):
        logits += rows.astype(np.float64) @ a @ b
    return logits


def activated(model: Any, logits: np.ndarray) -> np.ndarray:
    last = model.graph.node[-1].op_type
    if last == "Sigmoid":
        return 1 / (1 + np.exp(-logits))
    return softmax(logits) if last == "Softmax" else logits


def session_of(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options)


def expected_rows(path: Path, backbone: OnnxBackbone, feed: Feed) -> list[np.ndarray]:
    """By plain onnxruntime on the model as it was, and NumPy; one sample after another."""
    count = len(next(iter(feed.values())))
    fixed = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    rows: list[list[np.ndarray]] = [[] for _ in backbone.taps]
    for sample in range(count):
        alone = {name: np.repeat(v[sample : sample + 1], fixed, 0) for name, v in feed.items()}
        values = nets.raw(path, [tap.tensor for tap in backbone.taps], alone)
        for kept, tap, value in zip(rows, backbone.taps, values, strict=True):
            if tap.kind == "sequence":
                value = value.reshape(fixed, -1, value.shape[-1])
            kept.append(rows_of(tap, value, alone.get("attention_mask"))[:1])
    return [np.concatenate(each) for each in rows]
