"""Operations become layers where C has them in that order, and are named where it has not."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.errors import ModelError
from skip2lora.export.c_chain import Operation, joined
from skip2lora.export.c_layers import (
    ACTIVATION,
    CONVOLUTION,
    LSTM,
    MAX_POOL,
    Steps,
    Window,
    recurrent,
)

ONES = np.ones(2, np.float32)
DENSE = Operation("product", "dense", "fc", (np.eye(2, dtype=np.float32), ONES))
NORM = Operation("norm", "norm", arrays=(ONES, ONES, ONES, 3 * ONES), eps=0.5)
RELU = Operation("relu", "relu")


def test_norm_and_relu_belong_to_the_layer_before() -> None:
    first, second = joined([DENSE, NORM, RELU, DENSE], "m")
    assert (first.layer, first.relu, len(first.norm)) == ("fc", True, 4)
    np.testing.assert_array_equal(first.norm[3], 3.5 * ONES)
    assert (second.relu, second.norm) == (False, ())


@pytest.mark.parametrize(
    "wrong",
    [[RELU], [DENSE, RELU, RELU],
     [DENSE, Operation("last", "last", map_shape=(1, 2))], [Operation("last", "last")]],
)  # fmt: skip
def test_another_order(wrong: list[Operation], refused) -> None:
    said = refused(ModelError, joined, wrong, "m.onnx")
    assert f"m.onnx: {wrong[-1].title} has no counterpart in C where it stands" in said
    assert "taps_only=True" in said


@pytest.mark.parametrize("before", [[], [DENSE, RELU], [DENSE, NORM]])
def test_a_norm_that_stands_alone_is_a_layer(before: list[Operation]) -> None:
    """With the ReLU behind it; as of each place of a map."""
    *others, last = joined([*before, NORM, RELU], "m")
    assert len(others) == (len(before) > 0)
    assert (last.kind, last.n_in, last.n_out, last.relu) == (CONVOLUTION, 2, 2, True)
    np.testing.assert_allclose(last.matrices[0].ravel(), 1 / np.sqrt(3.5 * ONES), rtol=1e-6)
    np.testing.assert_allclose(last.vectors[0], 1 - 1 / np.sqrt(3.5 * ONES), rtol=1e-6)


def test_relu_of_a_map_without_weights() -> None:
    pool = Window(2, (4, 4), 2, (2, 2), (2, 2), (2, 2)).layer("pool", MAX_POOL, 0)
    _, relu = joined([Operation("pool", "layer", whole=pool), RELU], "m")
    assert (relu.kind, relu.n_in, relu.words[:2]) == (ACTIVATION, 8, (1, 0.0))


def test_the_last_step_of_a_sequence(refused) -> None:
    arrays = [np.ones((20, 3)), np.ones((20, 5)), np.ones(20), np.ones(20)]
    of = recurrent("rnn", LSTM, Steps(7, 3, 5), [each.astype(np.float32) for each in arrays])
    sequence = Operation("rnn", "layer", whole=of)
    (layer,) = joined([sequence, Operation("last", "last", map_shape=(7, 5))], "m")
    assert layer.n_out == 5
    last = Operation("last", "last", map_shape=(7, 5))
    for wrong in ([Operation("last", "last", map_shape=(5, 7))], [RELU, last], [last, last]):
        assert "where it stands" in refused(ModelError, joined, [sequence, *wrong], "m")
