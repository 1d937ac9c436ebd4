"""A model and its adapters as what a device needs of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapted import AdaptedModel
from skip2lora.adapters.adapters import SkipAdapters
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.derived import LOGITS, DerivedTap, derived_taps
from skip2lora.backbones.ends import PAIR
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.standins import Binary, Headless, StandIn
from skip2lora.errors import MissingExtraError, ModelError
from skip2lora.export.c_blob import MOST_TAPS, Network
from skip2lora.export.c_layers import Dense, Layer
from skip2lora.tasks.task import CLASSIFICATION


def network_of(model: Backbone | AdaptedModel, *, taps_only: bool = False) -> Network:
    """What a device needs of ``model``; without layers where it computes taps itself.

    Raises:
        ModelError: C lacks a layer, adapters that are none from taps, or another task than classes.
    """
    adapted = model if isinstance(model, AdaptedModel) else None
    backbone = model.backbone if isinstance(model, AdaptedModel) else model
    task = model.task
    if task != CLASSIFICATION.name:
        raise ModelError(
            f"{_name(backbone)} is of {task}, expected one of classes, which a device learns: "
            "export such a model"
        )
    derived, start, of_logits = ((), None, None) if adapted is None else _start(adapted)
    n_outputs = backbone.n_outputs if start is None else start.n_outputs
    if n_outputs < 2:
        raise ModelError(
            f"{_name(backbone)} has {n_outputs} outputs, expected two classes at least: adapt it "
            "to labels first"
        )
    widths = tuple(backbone.tap_widths) if start is None else tuple(map(len, start.lora_a))
    if len(widths) > MOST_TAPS:
        raise ModelError(
            f"{_name(backbone)} has {len(widths)} taps, expected at most {MOST_TAPS} on a device: "
            "choose some with taps="
        )
    if taps_only and (derived or of_logits is not None):
        read = f"a {derived[0].kind} of the sample" if derived else "its logits"
        raise ModelError(
            f"the adapters of {_name(backbone)} read {read}, expected inputs of layers alone: "
            "adapt with recipe='paper', or leave taps_only out"
        )
    if taps_only:
        return Network((), widths, n_outputs, start=start)
    layers, eps = _layers_of(_below(backbone))
    layers = _with_outputs(layers, backbone, n_outputs, of_logits)
    layers = _with_taps(layers, widths[len(derived) :], backbone)
    return Network(layers, widths, n_outputs, eps, start=start, derived=derived)


def _with_taps(
    layers: tuple[Dense | Layer, ...], widths: tuple[int, ...], backbone: Backbone
) -> tuple[Dense | Layer, ...]:
    """The layers with as many taps as the adapters have: of those that may be, the last."""
    tapped = [place for place, layer in enumerate(layers) if layer.tap_width]
    first = tapped[-len(widths)] if len(widths) <= len(tapped) else 0
    if tuple(layers[place].tap_width for place in tapped[-len(widths) :]) != widths:
        raise ModelError(
            f"{_name(backbone)} has taps of {list(widths)}, expected the inputs of its last "
            f"{len(widths)} layers: leave taps= out"
        )
    return tuple(
        replace(layer, tapped=False) if isinstance(layer, Dense) and place < first else layer
        for place, layer in enumerate(layers)
    )


def _name(backbone: Backbone) -> Any:
    return backbone.base.path or type(backbone.base).__name__


def _below(backbone: Backbone) -> Backbone:
    """What runs: an MLP with the statistics of the field stays one."""
    while isinstance(backbone, StandIn):
        backbone = backbone.backbone
    return backbone


def _start(
    adapted: AdaptedModel,
) -> tuple[tuple[DerivedTap, ...], SkipAdapters, NDArray[np.float64] | None]:
    """Taps derived from the sample, the adapters of these and of layers' inputs.

    The third is the matrix that adapters of the model's logits are, None without such.
    """
    adapters = adapted.adapters
    if not isinstance(adapters, SkipAdapters):
        raise ModelError(
            f"the adapters are of {adapted.method}, expected skip adapters, which a device goes on "
            "from: adapt with skip2-lora"
        )
    derived = derived_taps(adapted.backbone)
    pairs = list(zip(adapters.lora_a, adapters.lora_b, strict=True))
    of_logits = [place for place, tap in enumerate(derived) if tap.kind == LOGITS]
    changes = [pairs[place][0].astype(np.float64) @ pairs[place][1] for place in of_logits]
    others = [pair for place, pair in enumerate(pairs) if place not in of_logits]
    rest = replace(adapters, lora_a=tuple(a for a, _ in others), lora_b=tuple(b for _, b in others))
    of_sample = tuple(tap for tap in derived if tap.kind != LOGITS)
    return of_sample, rest, np.sum(changes, axis=0) if changes else None


def _layers_of(model: Backbone) -> tuple[tuple[Dense | Layer, ...], float]:
    """Layer after layer, and what batch norm adds to each variance."""
    if isinstance(model, MLP):
        last = len(model.layers) - 1
        layers = list[Dense | Layer]()
        for number, layer in enumerate(model.merged().layers):
            weight, bias, *norm, _, _ = layer.arrays()
            norm = [] if norm[0] is None else norm
            layers.append(Dense(f"layers.{number}", weight, bias, tuple(norm), relu=number < last))
        return tuple(layers), float(model.bn_eps)
    if (layers_of_graph := _of_onnx(model)) is not None:
        return layers_of_graph, 0.0
    raise ModelError(
        f"{_name(model)} is a {type(model).__name__}, expected an MLP or an ONNX model, whose "
        "layers C can have: export the taps alone with taps_only=True, and let the firmware's own "
        "runtime compute them"
    )


def _of_onnx(model: Backbone) -> tuple[Dense | Layer, ...] | None:
    """None of a model that is not ONNX Runtime's, which a board that exports may not have."""
    try:
        from skip2lora.export.c_onnx import layers_of
    except MissingExtraError:
        return None
    return layers_of(model)


def _with_outputs(
    layers: tuple[Dense | Layer, ...],
    backbone: Backbone,
    n_outputs: int,
    of_logits: NDArray[np.float64] | None,
) -> tuple[Dense | Layer, ...]:
    """The last layer gives base logits: none of a model without its outputs, 0 of new classes.

    What adapters make of the model's own logits, by a matrix, is linear in its inputs too.
    """
    *others, last = layers
    if not isinstance(last, Dense):
        raise ModelError(
            f"{_name(backbone)} ends in layer {last.layer}, expected a fully connected one on a "
            "device: export the taps alone with taps_only=True"
        )
    own = np.vstack([last.weight, last.bias]).astype(np.float64)
    joined_rows, below = own, backbone
    while isinstance(below, StandIn):
        if isinstance(below, Binary):
            joined_rows = own @ PAIR
        if isinstance(below, Headless):
            joined_rows = np.zeros((len(own), n_outputs))
        below = below.backbone
    joined_rows = np.pad(joined_rows, ((0, 0), (0, n_outputs - joined_rows.shape[1])))
    if of_logits is not None:
        joined_rows = joined_rows + own @ of_logits
    *weight, bias = joined_rows.astype(np.float32)
    return *others, replace(last, weight=np.array(weight), bias=bias)
