"""Operations become layers where C has them in that order, and are named where it has not."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.errors import ModelError
from skip2lora.export.c_chain import Operation, joined

ONES = np.ones(2, np.float32)
DENSE = Operation("product", "dense", "fc", (np.eye(2, dtype=np.float32), ONES))
NORM = Operation("norm", "norm", arrays=(ONES, ONES, ONES, 3 * ONES), eps=0.5)
RELU = Operation("relu", "relu")


def test_norm_and_relu_belong_to_the_layer_before() -> None:
    first, second = joined([DENSE, NORM, RELU, DENSE], "m")
    assert (first.layer, first.relu, len(first.norm)) == ("fc", True, 4)
    np.testing.assert_array_equal(first.norm[3], 3.5 * ONES)
    assert (second.relu, second.norm) == (False, ())


@pytest.mark.parametrize("wrong", [[NORM], [DENSE, RELU, NORM], [DENSE, NORM, NORM], [RELU]])
def test_another_order(wrong: list[Operation], refused) -> None:
    said = refused(ModelError, joined, wrong, "m.onnx")
    assert f"m.onnx: {wrong[-1].title} has no counterpart in C where it stands" in said
    assert "taps_only=True" in said
