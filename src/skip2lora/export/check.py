"""Whether what is exported gives what was adapted: run on samples, before it is written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.adapters.rows import RowFormat
from skip2lora.arrays import SamplesLike
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.noise import random_samples
from skip2lora.backbones.onnx.backbone import OnnxBackbone
from skip2lora.backbones.onnx.session import open_session
from skip2lora.errors import DataError, ModelError
from skip2lora.tasks.task import softmax

#: What logits may differ by, of the largest one.
SHARE = 1e-4
# As much as a step of integers, or of half precision, where a sum that is rounded otherwise falls
# on the next.
ROUNDED_SHARE = 5e-2
_HALVES = (10, 16)  # float16 and bfloat16, as TensorProto numbers types
_N_SAMPLES = 4
_OPEN_SIZES = (64, 8, 224)
_N_TOKENS = (2, 0)  # any words, or one word alone


def check_export(
    model: Any,
    logits: str,
    own: OnnxBackbone,
    backbone: Backbone,
    adapters: SkipAdapters,
    samples: SamplesLike | None = None,
    *,
    columns: NDArray[np.float32] | None = None,
) -> None:
    """Compare a ModelProto with ``adapters`` on ``backbone``, for one sample and several at once.

    Its tensor ``logits`` and what is predicted are compared with the sum in float64, and no other
    output may say what the base said of a class. The samples are some of ``samples``, or random;
    the model is fed as its base ``own`` is. Logits times ``columns`` are the numbers in its graph.

    Raises:
        ModelError: onnxruntime does not run it, it gives something else, or it takes no random
            samples.
        DataError: samples the model cannot take.
    """
    states = () if own.stream is None else own.stream.states.values()
    shown = [value.name for value in model.graph.output]
    names = [name for name in shown if name not in (logits, *states)]
    hidden = logits not in shown
    if hidden:
        model.graph.output.add(name=logits)
    data = model.SerializeToString()
    if hidden:
        del model.graph.output[-1]
    session = replace(own.session, opener=partial(open_session, data))

    def run(some: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        sums, *others = own.values(session, some, [logits, *names])
        return sums, dict(zip(names, others, strict=True))

    share = ROUNDED_SHARE if _rounds(model) else SHARE
    compare_outputs(run, backbone, adapters, samples, share=share, columns=columns)


def compare_outputs(
    run: Callable[[Any], tuple[NDArray[Any], dict[str, Any]]],
    backbone: Backbone,
    adapters: SkipAdapters,
    samples: SamplesLike | None,
    *,
    share: float,
    columns: NDArray[np.float32] | None = None,
) -> None:
    """Compare what ``run`` gives of checked samples, the sum and other outputs, with ``adapters``.

    The logits may differ by ``share`` of the largest. Otherwise as :func:`check_export` does.

    Raises:
        ModelError: it gives something else, or the model takes no random samples.
        DataError: samples the model cannot take.
    """
    x = _drawn(backbone) if samples is None else backbone.check(samples)
    largest = 0.0
    row_format = RowFormat.of(
        backbone, adapters.first_tap, n_outputs=adapters.n_outputs, copy_input=True
    )
    for some in (x[:_N_SAMPLES], x[:1]):
        sums, others = run(some)
        rows = row_format.empty(len(some))
        row_format.compute(backbone, some, rows)
        base, exact = _exact(adapters, row_format, rows)
        predicted = adapters.logits_from_rows(row_format, rows, row_format.features(some))
        largest = max(largest, *(float(np.abs(each).max(initial=0)) for each in (exact, base)))
        _compare("predicted", predicted, exact, share * largest)
        numbers = exact if columns is None else exact @ columns
        _compare("exported", sums.reshape(len(some), -1), numbers, share * largest)
        base = base[:, : backbone.n_outputs]
        _refuse_stale(others, base, exact)


def exact_logits(
    backbone: Backbone, adapters: SkipAdapters, samples: SamplesLike
) -> NDArray[np.float64]:
    """Eq. 17 in float64, (samples, n_outputs).

    Raises:
        DataError: samples the model cannot take.
    """
    x = backbone.check(samples)
    row_format = RowFormat.of(
        backbone, adapters.first_tap, n_outputs=adapters.n_outputs, copy_input=True
    )
    rows = row_format.empty(len(x))
    row_format.compute(backbone, x, rows)
    return _exact(adapters, row_format, rows)[1]


def _drawn(backbone: Backbone) -> Any:
    """Random samples that the model takes, which may not take every size of an open axis."""
    reason = ""
    for size, n_tokens in itertools.product(_OPEN_SIZES, _N_TOKENS):
        x = random_samples(backbone, _N_SAMPLES, open_size=size, n_tokens=n_tokens)
        if x is None:
            break
        try:
            backbone.forward(x[:1])
            return x
        except DataError as error:
            reason = f" ({error})"
    raise ModelError(
        f"{backbone.base.path} takes no random samples{reason}, expected some to compare the "
        "exported model with the adapted one: pass a few with samples="
    )


def _exact(
    adapters: SkipAdapters, row_format: RowFormat, rows: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Base logits, and Eq. 17 in float64, both (samples, n_outputs)."""
    first = row_format.layout.logits_offset
    base = rows[:, first : first + row_format.n_outputs]
    exact = base.astype(np.float64) + (0 if adapters.bias is None else adapters.bias)
    taps = zip(row_format.layout.tap_offsets, adapters.lora_a, adapters.lora_b, strict=True)
    for at, a, b in taps:
        tap = rows[:, at : at + len(a)].astype(np.float64)
        exact += tap @ a.astype(np.float64) @ b.astype(np.float64)
    return base, exact


def _compare(what: str, got: NDArray[Any], exact: NDArray[np.float64], most: float) -> None:
    apart = float(np.abs(got - exact).max()) if got.shape == exact.shape else np.inf
    if not apart <= most:  # NaN as well
        raise ModelError(
            f"the {what} logits of {len(exact)} samples at once differ by {apart:.2g} from those "
            f"of the taps in float64, expected {most:.2g} at most: adapt again, and report the "
            "model where that does not help"
        )


def _refuse_stale(
    outputs: Mapping[str, Any], base: NDArray[np.float32], exact: NDArray[np.float64]
) -> None:
    """Raise ModelError for an output that is what the base says of a class."""
    if not base.shape[1] or len(base) < 2:
        return
    for name, given in outputs.items():
        if _tells(given, base) and not _tells(given, exact):
            raise ModelError(
                f"output {name} would give what the base says of a class, expected what was "
                "learned: export the model without that output, then adapt that"
            )


def _tells(given: Any, logits: NDArray[Any]) -> bool:
    """Whether an output is the logits, their probabilities or the label of the largest one."""
    if isinstance(given, list):  # of ZipMap: a dict of class and probability a sample
        given = np.array([list(row.values()) for row in given])
    flat = np.asarray(given).reshape(len(logits), -1)
    if flat.dtype.kind == "f":
        halves = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
        meant = [logits, softmax(logits), halves, np.concatenate([1 - halves, halves], axis=1)]
        return any(flat.shape == each.shape and np.allclose(flat, each, 1e-3) for each in meant)
    classes = logits > 0 if logits.shape[1] == 1 else logits.argmax(axis=1)
    pairs = list(zip(classes.ravel().tolist(), flat[:, 0].tolist(), strict=True))
    n_classes, n_values = (len(set(each)) for each in zip(*pairs, strict=True))
    return flat.shape[1] == 1 and len(set(pairs)) == n_classes == n_values > 1


def _rounds(model: Any) -> bool:
    """Whether a graph computes with integers or with half precision."""
    kinds = {node.op_type for node in model.graph.node}
    words = ("Quantize", "Integer", "QLinear", "QAttention", "QGemm")
    return any(word in kind for kind in kinds for word in words) or any(
        tensor.data_type in _HALVES for tensor in model.graph.initializer
    )
