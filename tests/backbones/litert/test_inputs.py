"""Samples as a ``.tflite`` model reads them: names, types, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skip2lora.arrays import Inputs
from skip2lora.backbones.litert.inputs import LiteRTInput, check_samples_of
from skip2lora.errors import DataError

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")


from ai_edge_litert import schema_py_generated as schema

from tflite_models import File, Load, cnn, mlp

Refused = Callable[..., str]


def two_inputs() -> bytes:
    file = File()
    left, ids = file.tensor("left:0", (1, 2)), file.tensor("ids", (1, 1), "int32")
    real, both, y = (
        file.tensor(name, shape)
        for name, shape in [("real", (1, 1)), ("both", (1, 3)), ("y", (1, 3))]
    )
    bias = file.constant("b", np.zeros(3, np.float32))
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    file.operator("CAST", [ids], [real])
    file.operator("CONCATENATION", [left, real], [both], axis=1)
    file.operator("FULLY_CONNECTED", [both, weight, bias], [y])
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex, signature.outputs = "run", 0, []
    signature.inputs = [schema.TensorMapT(), schema.TensorMapT()]
    for entry, (name, index) in zip(
        signature.inputs, [("left", left), ("ids", ids)], strict=True
    ):  # fmt: skip
        entry.name, entry.tensorIndex = name, index
    file.model.signatureDefs = [signature]
    return file.pack([left, ids], [y])


def test_several_inputs(load: Load) -> None:
    model = load(two_inputs())
    left, ids = [[1, 2], [3, 4]], [[7.0], [8.0]]
    want = [[1, 2, 7], [3, 4, 8]]
    assert model.logits({"left": left, "ids": ids}).tolist() == want
    assert model.logits({"ids": ids, "left:0": left}).tolist() == want
    assert model.logits([np.array(left), np.array(ids)]).tolist() == want
    checked = model.check({"left": left, "ids": ids})
    assert isinstance(checked, Inputs)
    assert model.logits(checked).tolist() == want
    assert model.forward(checked[1:]).taps[0].tolist() == want[1:]


def test_whole_numbers_of_several_inputs_stay_as_they_are() -> None:
    """However they are passed: by name, or in the order of the inputs."""
    inputs = [LiteRTInput(name, (2,), "int8", 0.5, 3) for name in ("a", "b")]
    own = [np.array([[1, 2]], np.int8), np.array([[-128, 127]], np.int8)]
    for given in (own, tuple(own), {"b": own[1], "a": own[0]}):
        checked = check_samples_of(inputs, given)
        assert isinstance(checked, Inputs)
        assert [checked.arrays[name].tolist() for name in "ab"] == [[[1, 2]], [[-128, 127]]]
    real = check_samples_of(inputs, [each.astype(np.float32) for each in own])
    assert isinstance(real, Inputs)
    assert [real.arrays[name].tolist() for name in "ab"] == [[[5, 7]], [[-128, 127]]]
    mixed = check_samples_of(inputs, [own[0], own[1].astype(np.float32)])
    assert isinstance(mixed, Inputs)
    assert [mixed.arrays[name].tolist() for name in "ab"] == [[[1, 2]], [[-128, 127]]]
    one = check_samples_of(inputs[:1], [[1.0, 2.0]])
    assert one.tolist() == [[5, 7]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"left": [[1, 2]]}, "X has no input ids, expected left:0, ids: pass an array for each"),
        (
            {"left": [[1, 2]], "left:0": [[1, 2]]},
            "X has the inputs left, left:0, some of them twice, expected left:0, ids",
        ),
        (
            [[1, 2, 3]],
            "X is list, the model takes 2 inputs: pass a dict of arrays named left:0, ids",
        ),
        (np.zeros((2, 3)), "X is ndarray, the model takes 2 inputs"),
        ({"left": [[1, 2]], "ids": [[1], [2]]}, "numbers of samples (left:0 1, ids 2)"),
        ({"left": [[1, 2]], "ids": [[1.5]]}, "ids has fractions, expected whole numbers (int32)"),
        ({"left": [[1, 2]], "ids": [[2**31]]}, "expected int32, -2147483648 to 2147483647"),
        (
            {"left": [[1, np.nan]], "ids": [[1]]},
            "left:0 has NaN or infinite values, the first in sample 0",
        ),
        (
            {"left": [[1, 2, 3]], "ids": [[1]]},
            "left:0 has shape (1, 3), the model expects (samples, 2)",
        ),
    ],
)
def test_bad_inputs(given: Any, said: str, load: Load, refused: Refused) -> None:
    assert said in refused(DataError, load(two_inputs()).check, given)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((8, 8, 2)), "add the missing axis, X[None] for one sample"),
        (np.zeros((4, 2, 8, 8)), "move channels last, np.moveaxis(X, 1, -1)"),
        (np.zeros((4, 127)), "pass each sample with all its axes"),
        (np.zeros((4, 9, 9, 2)), "X has shape (4, 9, 9, 2), the model expects (samples, 8, 8, 2)"),
        (np.zeros((0, 8, 8, 2)), "X has no samples, expected at least one"),
        (
            np.zeros((1, 8, 8, 2), complex),
            "X has dtype complex128, expected float32 (samples, 8, 8, 2)",
        ),
        (np.full((2, 8, 8, 2), np.inf), "X has NaN or infinite values, the first in sample 0"),
        ([[1], [1, 2]], "X has samples of different sizes"),
    ],
)
@pytest.mark.parametrize("integers", [None, "int8"])
def test_bad_samples(
    x: Any, said: str, integers: str | None, load: Load, refused: Refused
) -> None:  # fmt: skip
    model = load(cnn(integers=integers).content())
    for call in (model.check, model.predict, model.logits):
        assert said in refused(DataError, call, x)


def test_quantised_input_is_clipped(load: Load) -> None:
    model = load(mlp([9, 16, 5, 3], integers="int8").content())
    x = np.array([[1e9, -1e9, 0, 0, 0, 0, 0, 0, 0]])
    whole = model.check(x)
    spec = model.inputs[0]
    assert whole[0, :3].tolist() == [127, -128, spec.zero_point]


QUANTISED = LiteRTInput("x", (3,), "int8", scale=0.5, zero_point=10, alias="given")


def test_real_numbers_are_quantised() -> None:
    made = QUANTISED.read(np.array([[-1.0, 0.24, 1e9]], np.float32))
    assert made.dtype == np.int8
    assert made.tolist() == [[8, 10, 127]]
    own = np.array([[1, 2, 3]], np.int8)
    assert QUANTISED.read(own) is own
    assert LiteRTInput("x", (1,), "int32").read(np.array([[7.0]])).dtype == np.int32


def test_whole_numbers_of_another_type_are_real_numbers() -> None:
    """Only the input's own type means its integers."""
    assert check_samples_of([QUANTISED], [[1, 2, 3]]).tolist() == [[12, 14, 16]]
    assert check_samples_of([QUANTISED], np.array([[1, 2, 3]], np.int8)).tolist() == [[1, 2, 3]]
    made = check_samples_of([QUANTISED], {"given": [[0, 0, 1]]})
    assert isinstance(made, Inputs)
    assert made.arrays["x"].tolist() == [[10, 10, 12]]


@pytest.mark.parametrize(
    ("dtype", "zero_point", "want"),
    [
        ("int8", 0, [-128, -3, -2, 0, 2, 3, 127]), ("int8", 3, [-128, 0, 1, 3, 5, 6, 127]),
        ("uint8", 10, [0, 7, 8, 10, 12, 13, 255]),
    ],
)  # fmt: skip
def test_real_numbers_become_the_nearest_integers(
    dtype: str, zero_point: int, want: list[int]
) -> None:
    """Of steps of 0.5; what is beyond their range is at its end."""
    spec = LiteRTInput("x", (7,), dtype, scale=0.5, zero_point=zero_point)
    values = np.array([-999, -1.5, -1.2, 0.1, 1.2, 1.5, 999], np.float32)
    assert spec.read(values).tolist() == want
    assert spec.read(spec.read(values)).tolist() == want  # integers as they are
    plain = LiteRTInput("x", (7,), "int32")
    assert (plain.scale, plain.zero_point, plain.alias, plain.reals) == (0, 0, "", False)
    assert plain.read(values).tolist() == [-999, -1, -1, 0, 1, 1, 999]
