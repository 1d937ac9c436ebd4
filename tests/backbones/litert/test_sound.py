"""Shapes of operators that do not fit together are refused before a runtime runs them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from skip2lora.backbones.litert.sound import fault_of
from skip2lora.errors import ModelError

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")

from tflite_models import Load, cnn, of_tensor, repacked

Refused = Callable[..., str]

SAME, VALID = 0, 1  # schema.Padding


def of_operator(number: int, **options: int) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        for name, value in options.items():
            setattr(graph.operators[number].builtinOptions, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # For this one the runtime fills memory for minutes.
        (of_tensor(0, 1, 8, 8323080, 2), "operator 0, CONV_2D, makes (8, 8323080) places of"),
        (of_tensor(0, 1, 8, 9, 2), "makes (8, 9) places of (8, 9), the file says (8, 8)"),
        (of_operator(0, strideH=0), "operator 0, CONV_2D, has strides (0, 1) and dilations (1, 1)"),
        (of_operator(0, dilationWFactor=-3), "has strides (1, 1) and dilations (1, -3)"),
        (of_operator(0, padding=1), "makes (6, 6) places of (8, 8), the file says (8, 8)"),
        (of_operator(1, strideW=3), "operator 1, DEPTHWISE_CONV_2D, makes (4, 3) places of (8, 8)"),
        (of_operator(2, filterHeight=0), "operator 2, AVERAGE_POOL_2D, has a window of (0, 2)"),
        (of_operator(2, strideH=1), "operator 2, AVERAGE_POOL_2D, makes (3, 2) places of (4, 4)"),
        (of_tensor(8, 1, 23), "operator 4, FULLY_CONNECTED, makes [1, 3] of [1, 23] with weights"),
        (of_tensor(10, 1, 4), "operator 4, FULLY_CONNECTED, makes [1, 4] of [1, 24] with weights"),
    ],
)
def test_shapes_that_do_not_fit(
    change: Callable[[Any], None], said: str, load: Load, refused: Refused
) -> None:
    message = refused(ModelError, load, repacked(cnn().content(), change))
    assert "model.tflite is damaged or truncated, expected a whole .tflite file" in message
    assert said in message
    load(repacked(cnn().content(), lambda graph: None))


def window(**changed: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"strideH": 1, "strideW": 1, "padding": SAME} | changed)


@pytest.mark.parametrize(
    ("size", "kept", "stride", "dilation", "padding", "places"),
    [
        (8, 3, 1, 1, SAME, 8), (8, 3, 2, 1, SAME, 4), (7, 3, 2, 1, SAME, 4),
        (8, 3, 1, 1, VALID, 6), (8, 3, 2, 1, VALID, 3), (8, 3, 1, 2, VALID, 4),
        (8, 8, 1, 1, VALID, 1), (2, 4, 1, 1, VALID, 0),
    ],
)  # fmt: skip
def test_places_of_a_window(
    size: int, kept: int, stride: int, dilation: int, padding: int, places: int
) -> None:
    options = window(
        strideH=stride, strideW=stride, padding=padding,
        dilationHFactor=dilation, dilationWFactor=dilation,
    )  # fmt: skip
    read = [(1, size, size, 2), (5, kept, kept, 2)]
    for name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        assert fault_of(name, options, read, [(1, places, places, 5)]) is None
        said = fault_of(name, options, read, [(1, places + 1, places, 5)])
        assert said is not None
        assert f"makes ({places}, {places}) places of ({size}, {size})" in said


def test_products() -> None:
    read = [(2, 3, 4), (5, 4)]
    assert fault_of("FULLY_CONNECTED", None, read, [(6, 5)]) is None
    assert fault_of("FULLY_CONNECTED", None, read, [(2, 3, 5)]) is None
    said = "makes [6, 4] of [2, 3, 4] with weights [5, 4]"
    assert fault_of("FULLY_CONNECTED", None, read, [(6, 4)]) == said
    assert fault_of("FULLY_CONNECTED", None, [(7,), (5, 4)], [(5,)]) is not None


def test_what_is_not_known_is_no_fault() -> None:
    assert fault_of("FULLY_CONNECTED", None, [(2, 4), None], [(9, 9)]) is None
    assert fault_of("CONV_2D", window(), [(1, 8, 8, 2), None], [(1, 1, 1, 1)]) is None
    assert fault_of("CONV_2D", window(), [None, (5, 3, 3, 2)], [(1, 1, 1, 1)]) is None
    assert fault_of("ADD", None, [(1, 8)], [(1, 9)]) is None


@pytest.mark.parametrize(
    ("data", "weight", "out"),
    [((2, 3), (4, 3), ()), ((), (4, 1), (7, 4)), ((2, 3), (4, 3, 1), (7,)), ((2, 3), (4, 0), (7,)),
     ((2, 3), (0, 3), (7,)), (None, (4, 3), (7,)), ((2, 3), None, (7,)), ((2, 3), (4, 3), None),
     ((2, 3), (4, 3), (2, 4)), ((2, 3), (4, 6), (1, 4)), ((2, 2, 3), (4, 3), (4, 4))],
)  # fmt: skip
def test_products_that_fit_or_of_which_not_all_is_known(data: Any, weight: Any, out: Any) -> None:
    assert fault_of("FULLY_CONNECTED", None, [data, weight], [out]) is None


def test_a_product_without_weights() -> None:
    assert fault_of("FULLY_CONNECTED", None, [(2, 3)], [(2, 4)]) is None
