"""Where the logits of a LiteRT graph are, and what stands behind them."""

from __future__ import annotations

import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")

from skip2lora.backbones.ends import End
from skip2lora.backbones.litert.ends import end_of
from skip2lora.backbones.litert.file import Operator

WEIGHT, BIAS = 90, 91
CONSTANTS = {WEIGHT, BIAS}
LAYER = Operator("FULLY_CONNECTED", (0, WEIGHT), (1,))


def end(*behind: str | Operator, layer: Operator = LAYER, beta: float = 1.0) -> End:
    """The end of a layer that makes tensor 1, with operators in a row behind it."""
    operators = [layer]
    for at, each in enumerate(behind, start=1):
        inputs = (at, WEIGHT) if each in ("RESHAPE", "ARG_MAX", "MUL") else (at,)
        name = isinstance(each, str)
        operators.append(Operator(each, inputs, (at + 1,), beta) if name else each)
    makers = {index: each for each in operators for index in each.outputs}
    return end_of(len(operators), makers, CONSTANTS, {1})


@pytest.mark.parametrize(
    ("behind", "logits", "ending"),
    [
        ((), 1, "logits"),
        (("SOFTMAX",), 1, "softmax"),
        (("LOG_SOFTMAX",), 1, "softmax"),
        (("LOGISTIC",), 1, "sigmoid"),
        (("ARG_MAX",), 1, "softmax"),
        (("SOFTMAX", "ARG_MAX"), 1, "softmax"),
        (("DEQUANTIZE", "SOFTMAX", "RESHAPE", "QUANTIZE"), 2, "softmax"),
        (("SQUEEZE",), 2, "logits"),
        (("LOGISTIC", "SOFTMAX"), 2, "softmax"),  # the last activation alone is left out
        (("SOFTMAX", "MUL"), 3, "probabilities"),  # by a constant that is not known
        (("TANH",), 2, "unknown"),
    ],
    ids=str,
)
def test_the_last_activation_is_what_ends_it(
    behind: tuple[str, ...], logits: int, ending: str
) -> None:
    walked = end(*behind)
    assert (walked.logits, walked.ending, walked.factor) == (logits, ending, 1.0)


def test_beta_is_that_of_the_softmax() -> None:
    walked = end("SOFTMAX", beta=2.0)
    assert (walked.logits, walked.ending, walked.factor) == (1, "softmax", 2.0)
    assert end("TANH", beta=2.0).factor == 1.0


@pytest.mark.parametrize(
    ("add", "ending"),
    [
        (Operator("ADD", (1, BIAS), (2,)), "logits"),
        (Operator("ADD", (BIAS, 1), (2,)), "logits"),
        (Operator("ADD", (1, BIAS), (2,), activated=True), "unknown"),
        (Operator("ADD", (1, 0), (2,)), "unknown"),  # a residual
        (Operator("MUL", (1, BIAS), (2,)), "unknown"),
    ],
    ids=["bias", "bias first", "with RELU", "residual", "factor"],
)
def test_a_layer_may_have_its_bias_behind_it(add: Operator, ending: str) -> None:
    assert (end(add).logits, end(add).ending) == (2, ending)


@pytest.mark.parametrize(
    "layer",
    [
        Operator("FULLY_CONNECTED", (0, WEIGHT), (1,), activated=True),
        Operator("BATCH_MATMUL", (0, 7), (1,)),
    ],
    ids=["with RELU", "of two activations"],
)
def test_what_is_no_layer_of_logits(layer: Operator) -> None:
    assert end(layer=layer).ending == "unknown"
    assert end("SOFTMAX", layer=layer).ending == "softmax"


def test_an_input_of_the_graph_is_no_layer() -> None:
    walked = end_of(0, {}, CONSTANTS, {1})
    assert (walked.logits, walked.ending) == (0, "unknown")
